"""Figures that were promised, taken on this machine and printed (pytest -s): memory under ten million messages, the cost of
idle queues, latency while somebody declares. The bounds are those of the promise, so a slow machine may miss them."""
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request

import pytest
from mqtest import wire
from mqtest.broker import Gateway, build_dir
from pika import spec

MIB = 1 << 20
BACKLOG, QUEUES, BINDINGS = 10_000_000, 100_000, 100_000

pytestmark = pytest.mark.timeout(600)
long = pytest.mark.long


def load(broker, *args):
    """A run of the load generator; its line of results."""
    command = [str(build_dir() / "bench" / "amqpload"), "--port", str(broker.amqp_port), "--stall", "60", *map(str, args)]
    done = subprocess.run(command, text=True, capture_output=True)
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


class Watch:
    """The most memory a gateway ever had while this is open."""

    def __init__(self, broker):
        self.broker, self.peak, self.over = broker, 0, threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        while not self.over.wait(0.02):
            self.peak = max(self.peak, self.broker.rss_bytes())

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


@contextlib.contextmanager
def busy(processes=2):
    """As many processes that want a core each."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


@long
def test_ten_million_messages():
    """Fill, kill -9, restart, drain beside two processes that want all of two cores: never more than 300 MiB, in order, complete;
    ready in two seconds when they are gone."""
    queue = ("--queue", "ten", "--durable", "--size", 100, "--count", BACKLOG)
    with Gateway({"listeners.http": "off"}) as one:
        with busy(), Watch(one) as filling:
            filled = load(one, "--role", "pub", "--persistent", "--confirm", 5000, *queue)
        one.kill9()
        begun = time.monotonic()
        one.start()
        ready_s = time.monotonic() - begun
        with busy(), Watch(one) as draining:
            drained = load(one, "--role", "con", "--no-declare", *queue)
        print(f"\nfill {filled['rate']:.0f}/s peak {filling.peak // MIB} MiB; ready in {ready_s:.2f} s; "
              f"drain {drained['rate']:.0f}/s peak {draining.peak // MIB} MiB")
        assert filled["confirmed"] == BACKLOG
        assert drained["deliveries"] == BACKLOG and drained["misordered"] == 0 and drained["corrupt"] == 0
        assert max(filling.peak, draining.peak) <= 300 * MIB
        assert ready_s < 2


def pipelined(conn, methods):
    """Sends methods without waiting for answers (nowait), then declares one more queue: its answer says that all are on the disk."""
    piece = []
    for method in methods:
        piece.append(wire.method_frame(1, method))
        if len(piece) == 500:
            conn.send_raw(b"".join(piece))
            piece.clear()
    conn.send_raw(b"".join(piece))
    conn.rpc(1, spec.Queue.Declare(queue=f"behind-{time.monotonic_ns()}", durable=True), spec.Queue.DeclareOk)


@long
def test_idle_queues():
    """100,000 durable queues: a kilobyte each, declared from one connection, there again after a restart."""
    with Gateway({"listeners.http": "off"}) as one:
        conn = wire.Conn(one, 60).connect()
        pipelined(conn, [])
        before, begun = one.rss_bytes(), time.monotonic()
        pipelined(conn, (spec.Queue.Declare(queue=f"idle-{i}", durable=True, nowait=True) for i in range(QUEUES)))
        declared_s = time.monotonic() - begun
        each = (one.rss_bytes() - before) / QUEUES
        conn.abort()
        one.kill9()
        begun = time.monotonic()
        one.start()
        ready_s = time.monotonic() - begun
        again = (one.rss_bytes() - before) / QUEUES
        print(f"\n{QUEUES} queues: declared in {declared_s:.2f} s, {each:.0f} B each; ready again in {ready_s:.2f} s, {again:.0f} B each")
        with wire.Conn(one, 60).connect() as conn:
            conn.rpc(1, spec.Queue.Declare(queue=f"idle-{QUEUES - 1}", passive=True), spec.Queue.DeclareOk)
        assert ready_s < 2
        assert again <= 1024
        assert each <= 1024  # with the buffers that declaring them took, and the allocator's gaps


@long
def test_latency_while_binding():
    """Durable bindings at full speed from one connection, confirmed messages on another."""
    publish = ("--queue", "p99", "--durable", "--persistent", "--rate", 5000, "--confirm", 100, "--latency", "--ack-every", 1)
    with Gateway({"listeners.http": "off", "node.workers": "2"}) as one:
        quiet = load(one, *publish, "--seconds", 4)
        conn = wire.Conn(one, 60).connect()
        conn.rpc(1, spec.Queue.Declare(queue="bound", durable=True), spec.Queue.DeclareOk)
        frames = [wire.method_frame(1, spec.Queue.Bind(queue="bound", exchange="amq.topic", routing_key=f"{i % 100}.{i}.x",
                                                       nowait=True)) for i in range(BINDINGS)]
        took = {}

        def bind():
            begun = time.monotonic()
            conn.send_raw(b"".join(frames))
            pipelined(conn, [])
            took["s"] = time.monotonic() - begun

        binder = threading.Timer(1.0, bind)
        binder.start()
        busy = load(one, *publish, "--seconds", 4)
        binder.join()
        conn.abort()
        print(f"\n{BINDINGS / took['s']:.0f} bindings/s; p99 of confirms {quiet['confirm']['p99_us']:.0f} us quiet, "
              f"{busy['confirm']['p99_us']:.0f} us while binding")
        assert os.cpu_count() < 2 or BINDINGS / took["s"] >= 50_000


def written_bytes(broker):
    """What the store has written so far."""
    with urllib.request.urlopen(f"http://127.0.0.1:{broker.http_port}/metrics", timeout=60) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith("mqgate_store_written_bytes_total"):
                return float(line.split()[-1])
    raise AssertionError("no such metric")


def test_a_fanned_out_body_is_written_once():
    """50 durable queues get each body: what is written grows by the bodies and by the places in the queues, not by 50 bodies."""
    size, count, queues = 40_960, 100, 50
    with Gateway() as one:
        before = written_bytes(one)
        filled = load(one, "--role", "pub", "--queue", "fan", "--fanout", queues, "--durable", "--persistent", "--confirm", 10,
                      "--size", size, "--count", count)
        assert filled["confirmed"] == count
        written = written_bytes(one) - before
        print(f"\n{written / (size * count):.3f} x the bodies for {queues} queues")
        assert size * count <= written <= 1.5 * size * count
