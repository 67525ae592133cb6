"""One queue that never acks among ninety-nine busy ones: the disk holds what is live, not what passed; memory stays flat."""
import collections
import json
import subprocess
import threading
import time

import pika
import pytest
from mqtest.broker import Gateway, build_dir, wait_until
from mqtest.pika_help import Amqp

SEGMENT = 1 << 20
BODY = 16 << 10
BUSY = 99
PASSED = 320 * SEGMENT  # bytes that pass through the store
BOUND = 16 * SEGMENT    # beyond twice what is live; 1 GiB at the default size


class Disk(threading.Thread):
    """Adds up the store's files all the time, and keeps the worst distance from the bound."""

    def __init__(self, folder, live):
        super().__init__()
        self.folder, self.live = folder, live
        self.stop, self.worst, self.most, self.samples = threading.Event(), -BOUND, 0, 0

    def bytes(self):
        total = 0
        for path in self.folder.iterdir():
            try:
                total += path.stat().st_size
            except FileNotFoundError:  # removed just now
                continue
        return total

    def run(self):
        while not self.stop.wait(0.005):
            live = self.live()  # read first: it only grows
            now = self.bytes()
            self.samples += 1
            self.most = max(self.most, now)
            self.worst = max(self.worst, now - 2 * live - BOUND)


def ctl_json(node, *args):
    done = subprocess.run([str(build_dir() / "mqgatectl"), "--url", f"http://{node.host}:{node.http_port}", "--json", *args],
                          text=True, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def node():
    one = Gateway(settings={"store.journal.segment_size": "1MiB", "store.journal.min_free": "0"})
    with one.start():
        yield one


def test_one_queue_that_never_acks(node):
    amqp = Amqp(node, lambda kind: kind)
    conn = amqp.connect(blocked_connection_timeout=60)
    ch = conn.channel()
    queues = [f"busy-{n}" for n in range(BUSY)] + ["slow"]
    for name in queues:
        ch.queue_declare(name, durable=True)
    ch.basic_qos(prefetch_count=20)
    got = collections.Counter()

    def busy(channel, deliver, _props, body):
        got["busy"] += 1
        assert len(body) == BODY
        channel.basic_ack(deliver.delivery_tag)

    def slow(*_):
        got["slow"] += 1

    for name in queues[:-1]:
        ch.basic_consume(name, busy)
    never = conn.channel()
    never.basic_qos(prefetch_count=5)
    never.basic_consume("slow", slow)

    # Who is blocked must not hold the acks of others. The last message of a round waits for its confirm, and with it for
    # all before it: what a round has published is on the disk, not on its way there.
    link = amqp.connect(blocked_connection_timeout=60)
    publisher, confirmed = link.channel(), link.channel()
    confirmed.confirm_delivery()
    sent = collections.Counter()
    # Live for sure: what the slow queue has confirmed.
    sure = [0]
    # And two rounds: the one under way, and the one before, whose acks have left the client but come by another connection.
    disk = Disk(node.folder / "journal", lambda: sure[0] + 2 * BUSY * BODY)
    disk.start()
    rss = []
    props = pika.BasicProperties(delivery_mode=2)
    try:
        rounds = PASSED // BODY // (BUSY + 1)
        for turn in range(rounds):
            for n, name in enumerate(queues):
                (confirmed if name == "slow" else publisher).basic_publish("", name, bytes([n]) * BODY, props)
                sent[name] += 1
            wanted = (turn + 1) * BUSY
            deadline = time.monotonic() + 30
            while got["busy"] < wanted:
                conn.process_data_events(time_limit=0.05)
                assert time.monotonic() < deadline, f"{got['busy']} of {wanted} delivered"
            sure[0] = sent["slow"] * BODY
            if turn % (rounds // 8) == rounds // 16:
                rss.append(node.rss_bytes())
        answer = publisher.queue_declare("slow", passive=True)
        assert answer.method.message_count == sent["slow"] - 5
        assert disk.samples > 200
    finally:
        disk.stop.set()
        disk.join()
    assert disk.worst <= 0, f"{disk.worst} bytes over the bound; most on the disk: {disk.most}"
    # The slow queue's own bodies are in memory, and nothing else may grow with what passed.
    own = sent["slow"] * BODY
    assert rss[-1] - rss[1] < own + (16 << 20), rss

    # Everybody can see who it is.
    store, = (one for one in ctl_json(node, "list_stores") if one["name"] == "journal")
    assert store["disk_bytes"] <= 2 * store["live_bytes"] + BOUND
    assert store["moved_bytes"] > 0
    segments = ctl_json(node, "list_segments", "journal")
    assert {"tail"} <= {one["state"] for one in segments} and "cold" in {one["kind"] for one in segments}
    assert sum(int(one["disk_bytes"]) for one in segments) <= store["disk_bytes"]
    usage = {}

    def counted():  # one that is being moved stands twice for a moment
        usage.update({one["name"]: one for one in ctl_json(node, "list_queues", "name", "disk_bytes", "disk_messages")})
        return usage["slow"]["disk_messages"] == sent["slow"]

    wait_until(counted, 10, "the slow queue's messages, each counted once")
    assert own <= usage["slow"]["disk_bytes"] <= own * 1.1

    # Pages through all of it: every message once, in order, with its bytes; also after a kill.
    amqp.close()
    node.kill9()
    node.start()
    ch = amqp.connect().channel()
    for n in range(sent["slow"]):
        method, _, body = ch.basic_get("slow", auto_ack=True)
        assert method is not None, f"{n} of {sent['slow']}"
        assert body == bytes([BUSY]) * BODY
    assert ch.basic_get("slow")[0] is None
    wait_until(lambda: disk.bytes() <= BOUND, 20, "the cold segments go when nothing in them lives", 0.1)
