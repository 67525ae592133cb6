"""One run: starts the servers of a column once, then goes through the rows again and again, each contender in turn
(A B C A B C ...), so that whatever else the machine does meets all of them alike."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from . import disk, proc
from .servers import Epmd, Kafka, Mosquitto, Mqgate, MqgateOs, RabbitMQ, RabbitMQNoBusyWait, ServerError

GENERATOR_S = 300
MIB = 1 << 20
SETTLE_S = 2.0  # after connecting, before memory is read
REHEARSAL_S = 20.0  # of a server whose code is compiled while it runs


ONE_PEER = {"mqtt": Mosquitto, "kafka": Kafka}


class LoadError(Exception):
    """A load that could not be done; the text says why."""


class Load:
    """One process of the generator, led through ready, timed part, end."""

    def __init__(self, binary, server, core, options):
        command = [str(binary), "--port", str(server.port), "--wait", *options]
        if core is not None:
            command += ["--cpu", str(core)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def read(self):
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": f"the generator ended with {self._process.wait()}"}
        if "error" in answer:
            raise LoadError(answer["error"])
        return answer

    def go(self):
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def kill(self):
        """It ends now, whatever it does."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def end(self):
        if self._process.poll() is None:
            try:
                self._process.communicate("\n", timeout=GENERATOR_S)
            except (subprocess.TimeoutExpired, BrokenPipeError):
                self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()


def build_generator(folder, protocol="amqp"):
    """The build's generator for a protocol, else one compiled now: also where the build's is older than its source."""
    name = f"{protocol}load"
    built = Mqgate.build_folder() / "bench" / name
    here = Path(__file__).resolve().parents[1]
    patterns = ["amqpload.c", "load_*.[ch]"] if protocol == "amqp" else [f"{name}.c", f"{name}_*.[ch]"]
    parts = sorted(path for pattern in patterns for path in here.glob(pattern))
    if built.exists() and built.stat().st_mtime >= max(path.stat().st_mtime for path in parts):
        return built
    target = Path(folder) / name
    sources = [str(path) for path in parts if path.suffix == ".c"]
    compiler = os.environ.get("CC", "cc").split()[-1]
    subprocess.run([compiler, "-std=gnu17", "-O2", "-D_GNU_SOURCE", "-o", str(target), *sources], check=True)
    return target


class Column:
    """All servers on the same cores, and the loads against them. `observe(pids)` is a context for each timed part."""

    def __init__(self, name, options, folder, kinds, binary, epmd, observe=nullcontext):
        self.name = name
        self.options = options
        self.protocol = getattr(options, "protocol", "amqp")
        self.folder = Path(folder) / name
        self.folder.mkdir()
        self.binary = binary
        self.epmd = epmd
        self.kinds = kinds
        self.observe = observe
        cores = sorted(os.sched_getaffinity(0))
        self.server_cores = set(cores) if name == "free" else {cores[0]}
        self.load_core = None if name == "free" else cores[1]
        self.servers = {}
        self.fdatasync_us = []
        self.fdatasync_cpu_us = []
        self._made = 0

    def _new(self, kind):
        self._made += 1
        folder = self.folder / f"{kind}{self._made}"
        if kind == "mqgate":
            server = Mqgate(folder, self.server_cores, self.options.set, self.protocol)
        elif kind == "mqgate_os":
            server = MqgateOs(folder, self.server_cores, self.options.set, self.protocol)
        elif kind in ("mosquitto", "kafka"):
            server = {"mosquitto": Mosquitto, "kafka": Kafka}[kind](folder, self.server_cores)
        else:
            make = {"rabbitmq": RabbitMQ, "rabbitmq_nowait": RabbitMQNoBusyWait}[kind]
            server = make(folder, self.server_cores, self.epmd, self.protocol)
        try:
            server.start()
        except ServerError:
            server.stop()
            raise
        return server

    def open(self):
        for kind in self.kinds:
            if kind not in self.servers:
                self.servers[kind] = self._new(kind)
                self.servers[kind].pause()

    def close(self):
        for server in self.servers.values():
            server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def probe_disk(self):
        """On the server's cores, as its committer would."""
        everywhere = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self.server_cores)
        try:
            times, cpu_us = disk.probe_fdatasync_us(self.folder)
            self.fdatasync_us += times
            self.fdatasync_cpu_us.append(cpu_us)
        finally:
            os.sched_setaffinity(0, everywhere)

    def measure(self, row, entry):
        """A result as a dict; one with 'failed' if it could not be had. A server that died is started anew."""
        try:
            if row.is_idle:
                return self._measure_idle(row, entry)
            if row.is_bare:
                return self._measure_bare(entry)
            if row.is_fresh:
                return self._measure_fresh(row, entry)
            return self._measure_load(row, entry)
        except (LoadError, ServerError) as error:
            self._replace(entry.server)
            return {"failed": str(error)}

    def _replace(self, kind):
        old = self.servers.pop(kind, None)
        if old is not None:
            old.stop()
        try:
            self.servers[kind] = self._new(kind)
            self.servers[kind].pause()
        except ServerError:
            self.kinds = [k for k in self.kinds if k != kind]

    def _measure_load(self, row, entry):
        if entry.server not in self.servers:
            raise LoadError("the server does not start")
        server = self.servers[entry.server]
        server.resume()
        try:
            return self._loaded(server, row, entry, "--delete")
        finally:
            server.check_alive()
            server.pause()

    def _loaded(self, server, row, entry, *more):
        options = [*more, "--seconds", str(self.options.seconds), "--warmup", str(self.options.warmup),
                   *row.load, *entry.load]
        load = Load(self.binary, server, self.load_core, options)
        try:
            load.read()
            result = self._timed(server, load)
        finally:
            load.end()
        units = result["deliveries"] if row.unit == "delivery" else result["messages"]
        result["rate"] = units / result["seconds"]
        result["cpu_us"] = result["cpu_s"] / units * 1e6 if units else 0.0
        result["disk_ratio"] = result["disk_bytes"] / (result["messages"] * result["body_bytes"]) if units else 0.0
        return result

    def _timed(self, server, load):
        pids = server.pids()
        os.sync()
        device, written = proc.device_written_bytes(self.folder), proc.written_bytes(pids)
        cpu = proc.cpu_s(pids)
        with self.observe(pids):
            load.go()
            result = load.read()
        pids = server.pids()
        result["cpu_s"] = proc.cpu_s(pids) - cpu
        result["disk_bytes"] = self._written(proc.written_bytes(pids) - written, device)
        result["rss_mib"] = proc.rss_bytes(pids) / MIB
        result.update(load.read())
        return result

    def _written(self, by_server, device_before):
        """The smaller of two counts that are both too large at times: the kernel charges a process for the whole
        folio (up to 2 MiB) that a small write touches, and the device is everybody's."""
        os.sync()
        device = proc.device_written_bytes(self.folder)
        return by_server if device is None else min(by_server, device - device_before)

    def rehearse(self, row):
        """One load that nobody counts."""
        for entry in row.entries:
            if entry.server == "kafka" and "kafka" in self.servers:
                self._measure_load(replace(row, load=(*row.load, "--seconds", str(REHEARSAL_S))), entry)

    def _measure_fresh(self, row, entry):
        """A server of its own for a load after which another row would be another one."""
        server = self._new(entry.server)
        try:
            return self._loaded(server, row, entry)
        finally:
            server.check_alive()
            server.stop()  # its folder goes at the end: an ext4 that keeps no journal passes over inodes that were freed lately, one by one

    def _measure_bare(self, entry):
        """What it takes before anybody has come."""
        server = self._new(entry.server)
        try:
            time.sleep(SETTLE_S)
            return {"rss_mib": proc.rss_bytes(server.pids()) / MIB, "cpu_us": 0.0, "rate": 0.0, "correct": True}
        finally:
            server.stop()

    def _measure_idle(self, row, entry):
        """Memory that was used once may stay with the process, so each time begins with a fresh server."""
        server = self._new(entry.server)
        try:
            self._idle(server, ("--idle", "100"))
            time.sleep(SETTLE_S)
            return self._idle(server, row.load)
        finally:
            server.stop()

    def _idle(self, server, options):
        load = Load(self.binary, server, self.load_core, options)
        try:
            load.read()
            pids = server.pids()
            rss, cpu = proc.rss_bytes(pids), proc.cpu_s(pids)
            load.go()
            result = load.read()
            result["cpu_us"] = (proc.cpu_s(server.pids()) - cpu) / result["connections"] * 1e6
            time.sleep(SETTLE_S)
            result["rss_kib"] = (proc.rss_bytes(server.pids()) - rss) / result["connections"] / 1024
            return result
        finally:
            load.end()
            server.check_alive()


class Session:
    """Columns, rows and repetitions; what was measured is in `results[column][row][entry]`, a list."""

    def __init__(self, options, rows, say):
        self.options = options
        self.protocol = getattr(options, "protocol", "amqp")
        self.rows = rows
        self.say = say
        self.about = []
        self.notes = []
        self.results = {}
        self.fdatasync_us = {}
        self.fdatasync_cpu_us = {}

    def _kinds(self, epmd, folder):
        """Who takes part. RabbitMQ without busy waiting is a second contender only where the first one does it."""
        kinds = []
        if self.protocol in ONE_PEER:
            peers = [] if self.options.no_peers else [ONE_PEER[self.protocol]]
            ours = [Mqgate, MqgateOs] if self.protocol == "kafka" else [Mqgate]
            for server in peers + ([] if self.options.only_peers else ours):
                if server.why_missing():
                    self.notes.append(server.why_missing())
                else:
                    kinds.append(server.kind)
            return kinds
        if not self.options.no_peers:
            if RabbitMQ.why_missing():
                self.notes.append(RabbitMQ.why_missing())
            else:
                kinds += ["rabbitmq", "rabbitmq_nowait"]
        if not self.options.only_peers:
            if Mqgate.why_missing():
                self.notes.append(Mqgate.why_missing())
            else:
                kinds.append("mqgate")
        if "rabbitmq" in kinds:
            first = RabbitMQ(Path(folder) / "first", os.sched_getaffinity(0), epmd)
            try:
                first.start()
                if "+sbwt none" in first.scheduler_flags():
                    kinds.remove("rabbitmq_nowait")
                    self.notes.append("RabbitMQ's own default is already without busy waiting: one variant is run")
            finally:
                first.stop()
        return kinds

    def run(self):
        with tempfile.TemporaryDirectory(prefix="mqgate-bench-", dir=self.options.dir) as folder:
            needs_epmd = self.protocol not in ONE_PEER
            epmd = None if not needs_epmd or self.options.no_peers or RabbitMQ.why_missing() else Epmd()
            try:
                self.about.append(f"data on {disk.file_system(folder)}")
                kinds = self._kinds(epmd, folder)
                binary = build_generator(folder, self.protocol)
                for name in self.options.columns:
                    self._run_column(Column(name, self.options, folder, kinds, binary, epmd))
            finally:
                if epmd is not None:
                    epmd.stop()

    def _run_column(self, column):
        try:
            column.open()
            for server in column.servers.values():
                server.resume()
                self.about.append(f"{column.name}: {server.about()}")
                server.pause()
            if loads := [row for row in self.rows if not (row.is_idle or row.is_bare or row.is_fresh)]:
                column.rehearse(loads[0])
            for repetition in range(self.options.reps):
                self._run_once(column, repetition)
        finally:
            self.fdatasync_us[column.name] = column.fdatasync_us
            self.fdatasync_cpu_us[column.name] = column.fdatasync_cpu_us
            column.close()

    def _run_once(self, column, repetition):
        for row in self.rows:
            if 0 < row.reps <= repetition:
                continue
            column.probe_disk()
            for entry in row.entries:
                if entry.server not in column.kinds:
                    continue
                result = column.measure(row, entry)
                rows = self.results.setdefault(column.name, {})
                rows.setdefault(row.name, {}).setdefault((entry.name, entry.server), []).append(result)
                self.say(f"{column.name} {repetition + 1}/{self.options.reps} {row.work} {row.name}: {entry.name} "
                         + brief(result))


def brief(result):
    if "failed" in result:
        return f"FAILED: {result['failed']}"
    tail = f" {result['rss_mib']:.0f} MiB" if "rss_mib" in result else ""
    tail += "" if result["correct"] else "  COUNTS OR CHECKSUMS WRONG"
    return f"{result['rate']:.0f}/s {result['cpu_us']:.2f} us{tail}"
