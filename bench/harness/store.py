"""`bench/run store`: what a store costs when much lies in it. W9 queues, W10 a backlog, W11 a slow queue among fast ones,
W12 a kill -9, W13 publishing while somebody binds; each on the disk as it is, and with every fsync 2 ms slower (slow_sync.c, preloaded into all
servers).

Every cell of the table is measured once before any is measured again, each has a time of its own, and what is known is written down after each: a
server that hangs costs its cell, and a run that is ended early has said all it found."""

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from . import disk, proc
from .servers import Epmd, Mqgate, RabbitMQ, ServerError
from .session import Load, LoadError, build_generator
from .works import CLASSIC, FSYNC, OURS, PAGE_CACHE, QUORUM, SAFE

SLOW_SYNC_US = 2000
SETTLE_S = 2.0
BIND_RATE = 60_000
SLOW_ROUNDS = 5
MIB = 1 << 20


@dataclass(frozen=True)
class Sizes:
    """How much of everything; mqgate gets the whole, a peer what it can hold, and is scaled per message or queue. Where each fsync takes 2 ms
    longer all get less: RabbitMQ syncs several times for each queue, so that its declares alone would take minutes there."""
    queues: int
    queues_peer: dict
    backlog: int
    backlog_peer: int
    slow_s: float
    reps: int
    reps_peer: int
    bindings: int
    bind_rounds: int


BARE, SLOW = "disk", "disk + 2 ms per fsync"
SIZES = {
    "full": {BARE: Sizes(100_000, {CLASSIC: 2_000, QUORUM: 200}, 10_000_000, 500_000, 15.0, 3, 1, 100_000, 5),
             SLOW: Sizes(100_000, {CLASSIC: 400, QUORUM: 40}, 5_000_000, 50_000, 10.0, 1, 1, 100_000, 5)},
    "quick": {BARE: Sizes(20_000, {CLASSIC: 500, QUORUM: 50}, 1_000_000, 50_000, 3.0, 1, 1, 20_000, 1),
              SLOW: Sizes(20_000, {CLASSIC: 100, QUORUM: 20}, 500_000, 10_000, 3.0, 1, 1, 20_000, 1)},
    "tiny": {BARE: Sizes(1_000, {CLASSIC: 20, QUORUM: 5}, 20_000, 2_000, 1.0, 1, 1, 2_000, 1),
             SLOW: Sizes(1_000, {CLASSIC: 20, QUORUM: 5}, 20_000, 2_000, 1.0, 1, 1, 2_000, 1)}}
# Of one repetition, its servers' starts included: ours, a peer's.
CELL_S = {"W9": (60, 120), "W10": (240, 180), "W11": (90, 150), "W13": (90, 90)}
LEAST_S = 10  # no cell begins with less


@dataclass(frozen=True)
class Contender:
    name: str
    promise: str
    make: type
    queue_args: tuple = ()

    @property
    def load_args(self):
        return tuple(word for arg in self.queue_args for word in ("--queue-arg", "=".join(arg)))


CONTENDERS = (Contender(CLASSIC, PAGE_CACHE, RabbitMQ),
              Contender(QUORUM, FSYNC, RabbitMQ, (("x-queue-type", "quorum"),)),
              Contender(OURS, FSYNC, Mqgate))


@dataclass
class Row:
    work: str
    name: str
    units: dict  # figure -> how it is printed
    targets: tuple  # (text, figure, peer or None, worst value or least ratio)
    results: dict = field(default_factory=dict)  # contender -> list of dicts


def rows():
    return {row.work: row for row in (
        Row("W9", "many durable queues", {"each_kib": "{:.2f} KiB each", "declared": "{:,.0f} declared/s",
                                          "restart_s": "restart {:.2f} s", "count": "with {:,.0f}"},
            (("<= 1 KiB each", "each_kib", None, 1.0), ("restart < 2 s", "restart_s", None, 2.0))),
        Row("W10", "a backlog of 100 B, filled and drained",
            {"fill_us": "fill {:.2f} us", "fill_rate": "{:,.0f}/s", "drain_us": "drain {:.2f} us",
             "drain_rate": "{:,.0f}/s", "rss_mib": "RSS {:.0f} MiB", "count": "with {:,.0f}"},
            ((f"fill CPU <= {CLASSIC} / 20", "fill_us", CLASSIC, 20), (f"drain CPU <= {CLASSIC} / 10", "drain_us",
             CLASSIC, 10), ("RSS <= 300 MiB", "rss_mib", None, 300))),
        Row("W11", "one slow queue among 99 fast",
            {"p99_us": "fast p99 {:.0f} us", "p99_ratio": "{:.2f}x of alone", "rounds": "(rounds {})", "late_us": "a sleeper late by {:.0f} us",
             "disk_mib": "disk {:.0f} MiB",
             "live_mib": "live {:.1f} MiB"},
            (("p99 of the fast < 1.5x", "p99_ratio", None, 1.5), ("disk <= 2x live + 1 GiB", "over_mib", None, 1024))),
        Row("W12", "kill -9 with a backlog",
            {"ready_s": "ready in {:.2f} s", "cat_s": "cat {:.2f} s", "disk_mib": "of {:.0f} MiB",
             "count": "with {:,.0f}"},
            (("ready < 2 s", "ready_s", None, 2.0),)),
        Row("W13", "publishing while bindings are declared",
            {"p99_us": "p99 {:.0f} us", "p99_ratio": "{:.2f}x of before", "rounds": "(rounds {})", "late_us": "a sleeper late by {:.0f} us",
             "bind_us": "{:.1f} us a binding",
             "count": "{:,.0f} in each of the rounds"},
            (("p99 < 2x", "p99_ratio", None, 2.0), ("50,000/s: <= 20 us a binding", "bind_us", None, 20.5))))}


# --- a little AMQP ---------------------------------------------------------------------------------------
def _short(text):
    return bytes([len(text)]) + text.encode()


def _table(pairs):
    body = b"".join(_short(key) + b"S" + struct.pack(">I", len(value)) + value.encode() for key, value in pairs)
    return struct.pack(">I", len(body)) + body


def _method(channel, class_id, method_id, payload):
    body = struct.pack(">HH", class_id, method_id) + payload
    return struct.pack(">BHI", 1, channel, len(body)) + body + b"\xce"


class Amqp:
    """One connection, one channel, declares only."""

    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=600)
        self.stream = self.sock.makefile("rb")
        self.sock.sendall(b"AMQP\x00\x00\x09\x01")
        self.read()
        self.sock.sendall(_method(0, 10, 11, _table(()) + _short("PLAIN") + struct.pack(">I", 12) + b"\0guest\0guest"
                                  + _short("en_US")))
        tune = self.read()[4:]
        self.sock.sendall(_method(0, 10, 31, tune[:6] + b"\0\0") + _method(0, 10, 40, _short("/") + b"\0\0"))
        self.read()
        self.sock.sendall(_method(1, 20, 10, b"\0"))
        self.read()

    def read(self):
        """The next method's payload; heartbeats are passed over."""
        while True:
            kind, _, size = struct.unpack(">BHI", self._exactly(7))
            payload = self._exactly(size + 1)[:-1]
            if kind == 1:
                if payload[:4] in (b"\x00\x0a\x00\x32", b"\x00\x14\x00\x28"):
                    raise LoadError(f"closed: {payload[6:].decode(errors='replace')}")
                return payload

    def _exactly(self, size):
        data = self.stream.read(size)
        if len(data) < size:
            raise LoadError("the server closed the connection")
        return data

    def declare(self, names, args=(), flags=2, window=500):
        """Declares them all (2: durable, 1: passive), so many under way; the sum of their message counts."""
        names, open_, messages = list(names), 0, 0
        for start in range(0, len(names), window):
            part = names[start:start + window]
            self.sock.sendall(b"".join(_method(1, 50, 10, b"\0\0" + _short(name) + bytes([flags]) + _table(args))
                                       for name in part))
            for name in part:
                answer = self.read()
                if answer[:4] != b"\x00\x32\x00\x0b":
                    raise LoadError(f"queue {name}: no declare-ok")
                messages += struct.unpack_from(">I", answer, 5 + answer[4])[0]
            open_ += len(part)
        return messages

    def bind(self, queue, exchange, keys, per_s, batch=500):
        """Binds under all keys, so many a second, waiting for no answer but one behind them all; seconds it took."""
        frames = [_method(1, 50, 20, b"\0\0" + _short(queue) + _short(exchange) + _short(key) + b"\1" + _table(()))
                  for key in keys]
        begin = time.monotonic()
        for at in range(0, len(frames), batch):
            wait = begin + at / per_s - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            self.sock.sendall(b"".join(frames[at:at + batch]))
        self.declare([queue], flags=3)
        return time.monotonic() - begin

    def close(self):
        self.stream.close()
        self.sock.close()


def declare(server, names, args=(), flags=2):
    connection = Amqp(server.port)
    try:
        return connection.declare(names, args, flags)
    finally:
        connection.close()


class RanOut(Exception):
    """The cell's time is over."""


# --- a server in one column ------------------------------------------------------------------------------------
class Stage:
    """Makes servers for one column, and loads against them."""

    def __init__(self, folder, binary, epmd, shim, settings):
        self.folder, self.binary, self.epmd, self.shim, self.settings = Path(folder), binary, epmd, shim, settings
        self.folder.mkdir()
        self._made = 0
        self._server = self._loads = None

    def begin(self):
        self._server, self._loads = None, []

    def end(self):
        """The cell is over: nothing of it stays. Also called when its time is over, amidst anything."""
        for load in self._loads:
            load.kill()
        if self._server:
            self._server.kill()
            shutil.rmtree(self._server.folder, ignore_errors=True)
        self.begin()

    def start_load(self, server, *options):
        load = Load(self.binary, server, None, ["--stall", "120", *map(str, options)])
        self._loads.append(load)
        return load

    def server(self, contender, settings=()):
        self._made += 1
        cores = os.sched_getaffinity(0)
        folder = self.folder / str(self._made)
        server = (Mqgate(folder, cores, (*self.settings, *settings)) if contender.make is Mqgate
                  else RabbitMQ(folder, cores, self.epmd))
        if self.shim:
            server.extra_environment = {"LD_PRELOAD": str(self.shim), "SLOW_SYNC_US": str(SLOW_SYNC_US)}
        self._server = server
        server.start()
        return server

    def load(self, server, *options, redelivered=False, beside=None):
        """One load to its end: its result, with the server's CPU in it. After a kill deliveries may be marked again. beside is called
        when the timed part has begun."""
        load = self.start_load(server, *options)
        load.read()
        cpu = proc.cpu_s(server.pids())
        load.go()
        if beside:
            beside()
        result = load.read()
        result["cpu_s"] = proc.cpu_s(server.pids()) - cpu
        load.read()
        load.end()
        server.check_alive()
        marked = redelivered and not any(result[key] for key in ("misordered", "corrupt", "nacked", "returned"))
        if not result["correct"] and not marked:
            raise LoadError(f"counts or checksums wrong: {result}")
        return result


def data_folder(server):
    return server.folder / ("journal" if isinstance(server, Mqgate) else "mnesia")


def folder_bytes(folder):
    total = 0
    for path in Path(folder).rglob("*"):
        try:
            total += path.stat().st_blocks * 512 if path.is_file() else 0
        except OSError:
            pass
    return total


def cat_s(folder):
    """How long it takes just to read the same bytes."""
    begin = time.monotonic()
    for path in Path(folder).rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                while file.read(4 * MIB):
                    pass
    return time.monotonic() - begin


def kill9(server):
    pids = server.pids()
    proc.send_signal(pids, signal.SIGKILL)
    server.wait_killed()


def start_again(server):
    begin = time.monotonic()
    server.start()
    return time.monotonic() - begin


# --- the works --------------------------------------------------------------------------------------------------
def w9(stage, contender, sizes):
    count = sizes.queues if contender.make is Mqgate else sizes.queues_peer[contender.name]
    names = [f"bench.{i}" for i in range(count)]
    server = stage.server(contender)
    declare(server, ["warm"], contender.queue_args)
    before = proc.rss_bytes(server.pids())
    begin = time.monotonic()
    declare(server, names, contender.queue_args)
    took = time.monotonic() - begin
    time.sleep(SETTLE_S)
    each = (proc.rss_bytes(server.pids()) - before) / count / 1024
    server.stop()
    restart = start_again(server)
    declare(server, names, contender.queue_args)  # all there, as they were
    return {"each_kib": each, "declared": count / took, "restart_s": restart, "count": count}


def w10_w12(stage, contender, sizes):
    """Fill, kill -9, restart, count, drain."""
    count = sizes.backlog if contender.make is Mqgate else sizes.backlog_peer
    server = stage.server(contender)
    queue = ("--queue", "bench", "--size", 100, "--count", count)
    fill = stage.load(server, "--role", "pub", "--confirm", 1000, *SAFE, *queue, *contender.load_args)
    rss = proc.rss_bytes(server.pids())
    time.sleep(SETTLE_S)  # a quorum queue that is some 100 ms old when its server is killed may never come back
    kill9(server)
    data = folder_bytes(data_folder(server))
    cat = cat_s(data_folder(server))
    ready = start_again(server)
    left = wait_for_count(server, count)
    if left != count:
        raise LoadError(f"{left} messages after the kill, not {count}")
    rss = max(rss, proc.rss_bytes(server.pids()))
    drain = stage.load(server, "--role", "con", "--no-declare", "--prefetch", 1000, "--ack-every", 100, *queue,
                       redelivered=True)
    rss = max(rss, proc.rss_bytes(server.pids()))
    if drain["deliveries"] != count:
        raise LoadError(f"{drain['deliveries']} drained, not {count}")
    w10 = {"fill_us": fill["cpu_s"] / count * 1e6, "fill_rate": count / fill["seconds"],
           "drain_us": drain["cpu_s"] / count * 1e6, "drain_rate": count / drain["seconds"],
           "rss_mib": rss / MIB, "count": count}
    return w10, {"ready_s": ready, "cat_s": cat, "disk_mib": data / MIB, "count": count}


def wait_for_count(server, count, limit_s=60):
    """RabbitMQ says ready before a quorum queue has its log read."""
    deadline = time.monotonic() + limit_s
    while True:
        try:
            left = declare(server, ["bench"], flags=3)
        except LoadError:
            left = -1
        if left == count or time.monotonic() > deadline:
            return left
        time.sleep(0.05)


@contextmanager
def lateness(found):
    """Appends how late the machine woke a sleeping thread meanwhile (late.py)."""
    sleeper = subprocess.Popen([sys.executable, str(Path(__file__).resolve().parent / "late.py")], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
    try:
        yield
        found.append(float(sleeper.communicate("\n", timeout=60)[0]))
    finally:
        if sleeper.poll() is None:
            sleeper.kill()
        sleeper.wait()


def w11(stage, contender, sizes):
    """The fast ones alone and beside one that is published to and never read, in turn: a disk that stands still for 100 ms makes the p99 of
    the round that it falls into, and there it must not decide."""
    settings = ("store.journal.segment_size=4MiB",) if contender.make is Mqgate else ()
    server = stage.server(contender, settings)
    seconds = sizes.slow_s / SLOW_ROUNDS
    fast = ("--queue", "fast", "--fanout", 99, "--consumers", 9, "--size", 1024, "--rate", 50, "--confirm", 1000,
            "--latency", "--seconds", seconds, "--warmup", 0.5, *SAFE, *contender.load_args)
    alone, beside, late, kept = [], [], [], 0
    for _ in range(SLOW_ROUNDS):
        alone.append(stage.load(server, *fast)["confirm"]["p99_us"])
        slow = stage.start_load(server, "--role", "pub", "--queue", "slow", "--size", 1024, "--rate", 200, "--confirm", 1000,
                                "--seconds", seconds + 2, *SAFE, *contender.load_args)
        slow.read()
        slow.go()
        with lateness(late):
            beside.append(stage.load(server, *fast)["confirm"]["p99_us"])
        kept += slow.read()["messages"]
        slow.read()
        slow.end()
    time.sleep(SETTLE_S)
    live = kept * 1024 / MIB
    used = folder_bytes(data_folder(server)) / MIB
    return {"p99_us": median(beside), "p99_ratio": median(beside) / median(alone), "rounds": rounds_text(alone, beside),
            "late_us": median(late), "disk_mib": used, "live_mib": live, "over_mib": used - 2 * live}


def rounds_text(alone, beside):
    return " ".join(f"{b / a:.2f}" for a, b in zip(alone, beside))


def w13(stage, contender, sizes):
    """5,000 durable messages a second, confirmed; alone, then while another connection declares 60,000 durable bindings a second."""
    server = stage.server(contender)
    seconds = sizes.bindings / BIND_RATE
    load = ("--queue", "bench", "--size", 100, "--rate", 5000, "--confirm", 100, "--latency", "--seconds", seconds, *SAFE)
    alone, beside, late, took = [], [], [], []
    declare(server, ["bound"])
    binder = Amqp(server.port)
    for i in range(sizes.bind_rounds):
        alone.append(stage.load(server, *load)["confirm"]["p99_us"])
        keys = [f"{i}.{k % 100}.{k}.x" for k in range(sizes.bindings)]
        thread = threading.Thread(target=lambda: took.append(binder.bind("bound", "amq.topic", keys, BIND_RATE)))
        with lateness(late):
            beside.append(stage.load(server, *load, beside=thread.start)["confirm"]["p99_us"])
        thread.join()
    binder.close()
    if len(took) < sizes.bind_rounds:
        raise LoadError("the binding connection was closed")
    return {"p99_us": median(beside), "p99_ratio": median(beside) / median(alone), "rounds": rounds_text(alone, beside),
            "late_us": median(late), "bind_us": median(took) / sizes.bindings * 1e6, "count": sizes.bindings}


def ran_out(*_):
    raise RanOut


# --- a run -------------------------------------------------------------------------------------------------------
def build_shim(folder):
    source = Path(__file__).resolve().parent / "slow_sync.c"
    target = Path(folder) / "slow_sync.so"
    compiler = os.environ.get("CC", "cc").split()[-1]
    subprocess.run([compiler, "-O2", "-D_GNU_SOURCE", "-shared", "-fPIC", "-o", str(target), str(source), "-ldl"],
                   check=True)
    return target


class StoreRun:
    def __init__(self, options, say):
        self.options, self.say = options, say
        self.sizes = SIZES["tiny" if options.tiny else "quick" if options.quick else "full"]
        self.columns, self.about, self.failed = {name: rows() for name in self.sizes}, [], False
        self.end = time.monotonic() + options.minutes * 60

    def run(self):
        with tempfile.TemporaryDirectory(prefix="mqgate-bench-", dir=self.options.dir) as folder:
            contenders = [c for c in CONTENDERS if self._takes_part(c)]
            epmd = Epmd() if any(c.make is RabbitMQ for c in contenders) else None
            try:
                binary, shim = build_generator(folder), build_shim(folder)
                times, _ = disk.probe_fdatasync_us(folder)
                self.about.append(f"data on {disk.file_system(folder)}, fdatasync of 4 KiB p50 {median(times):.0f} us; "
                                  f"servers and generator on all {len(os.sched_getaffinity(0))} cores")
                self.about += [f"{name}: {sizes}" for name, sizes in self.sizes.items()]
                self.about.append(f"seconds of a cell at most, mqgate's and a peer's: {CELL_S}; the whole: {self.options.minutes} minutes")
                stages = {name: Stage(Path(folder) / f"column{i}", binary, epmd, shim if name == SLOW else None, self.options.set)
                          for i, name in enumerate(self.sizes)}
                for cell in self._cells(contenders):
                    self._measure(stages, *cell)
            finally:
                if epmd:
                    epmd.stop()

    def _takes_part(self, contender):
        if (contender.make is RabbitMQ and self.options.no_peers) or (contender.make is Mqgate
                                                                      and self.options.only_peers):
            return False
        why = contender.make.why_missing()
        if why:
            self.about.append(why)
        return not why

    def _cells(self, contenders):
        """The whole table once, then again what is measured more often."""
        wanted = set(filter(None, self.options.only.upper().split(",")))
        reps = max((self._reps(column, c) for column in self.sizes for c in contenders), default=0)
        return [(repetition, column, work, contender)
                for repetition in range(reps) for column in self.sizes
                for work in (("W9",), ("W10", "W12"), ("W11",), ("W13",)) if not wanted or wanted & set(work)
                for contender in contenders
                if repetition < self._reps(column, contender) and (contender.make is Mqgate or work != ("W13",))]

    def _reps(self, column, contender):
        """Peers take most of the time, and differ by far: they are run less often."""
        sizes = self.sizes[column]
        return self.options.reps_given or (sizes.reps if contender.make is Mqgate else sizes.reps_peer)

    def _measure(self, stages, repetition, column, work, contender):
        begin = time.monotonic()
        results = self._cell(stages[column], self.sizes[column], work[0], contender)
        results = results if isinstance(results, tuple) else (results,) * len(work)
        for name, result in zip(work, results):
            self.columns[column][name].results.setdefault(contender.name, []).append(result)
            self.say(f"{column} {repetition + 1} {name} {contender.name}: {brief(self.columns[column][name], result)}"
                     f" [{time.monotonic() - begin:.0f} s]")
        self.write()

    def _cell(self, stage, sizes, work, contender):
        run = {"W9": w9, "W10": w10_w12, "W11": w11, "W13": w13}[work]
        own_s = self.options.cell_s or CELL_S[work][contender.make is not Mqgate]
        limit_s = min(own_s, int(self.end - time.monotonic()))
        if limit_s < min(own_s, LEAST_S):
            return {"failed": f"not begun: the run's {self.options.minutes} minutes are over"}
        stage.begin()
        signal.signal(signal.SIGALRM, ran_out)
        signal.alarm(limit_s)
        try:
            return run(stage, contender, sizes)
        except RanOut:
            self.failed = self.failed or (contender.make is Mqgate and limit_s == own_s)  # a peer's slowness is no fault of the run
            return {"failed": f"ran out of its {limit_s} s"}
        except (LoadError, ServerError, OSError, ValueError, KeyError) as error:
            self.failed = True
            return {"failed": f"{type(error).__name__}: {error}"}
        finally:
            signal.alarm(0)
            stage.end()

    def write(self):
        """Everything that is known so far; the file is whole at any time."""
        if self.options.json:
            fresh = Path(self.options.json + ".new")
            fresh.write_text(json.dumps(self.data(), indent=1) + "\n")
            fresh.rename(self.options.json)

    def print(self, out):
        for line in self.about:
            print(f"# {line}", file=out)
        for column, found in self.columns.items():
            print(f"\n== {column} ==", file=out)
            for row in found.values():
                if row.results:
                    print_row(row, out)

    def data(self):
        return {"about": self.about, "columns": {name: {work: row.results for work, row in found.items()}
                                                 for name, found in self.columns.items()}}


def medians(results):
    good = [r for r in results if "failed" not in r]
    if not good:
        return {}
    return {key: "; ".join(r[key] for r in good) if isinstance(value, str) else median(r[key] for r in good)
            for key, value in good[0].items()}


def brief(row, result):
    if "failed" in result:
        return "FAILED: " + result["failed"]
    return ", ".join(text.format(result[key]) for key, text in row.units.items())


def print_row(row, out):
    print(f"\n{row.work}  {row.name}", file=out)
    promises = {c.name: c.promise for c in CONTENDERS}
    sums = {name: medians(results) for name, results in row.results.items()}
    for name, summary in sums.items():
        failed = [r["failed"] for r in row.results[name] if "failed" in r]
        text = brief(row, summary) if summary else ""
        print(f"    {name:<20} {promises[name]:<11} {text}" + "".join(f"  FAILED: {why}" for why in failed[:1]), file=out)
    for text, key, peer, value in row.targets:
        print(f"    target {text:<36} {verdict(sums, key, peer, value)}", file=out)


def verdict(sums, key, peer, value):
    ours, theirs = sums.get(OURS), sums.get(peer) if peer else None
    if not ours:
        return "mqgate did not run"
    if peer and not theirs:
        return f"{peer} did not run"
    if peer:
        ratio = theirs[key] / ours[key] if ours[key] else float("inf")
        return f"/ {ratio:.1f}  {'met' if ratio >= value else 'MISSED'}"
    return f"{ours[key]:.2f}  {'met' if ours[key] <= value else 'MISSED'}"
