"""Transactions on a compacted topic: the disk shrinks to the last versions, markers go, and readers of both isolation levels see
the right last value of each key at any time, over restarts, with a transaction open, and when a producer goes on after rollbacks."""
import struct
import sys
import time
from pathlib import Path

import confluent_kafka as confluent
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

sys.path.insert(0, str(Path(__file__).resolve().parent))

from test_transactions import Node, WAIT_S  # noqa: E402

KEYS, VERSIONS, TOPIC, CONTROL = 5, 3, "changelog", 0x20
pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def node():
    made = Node()
    admin = AdminClient(made.settings())
    config = {"cleanup.policy": "compact", "segment.bytes": "16384", "delete.retention.ms": "500"}
    admin.create_topics([NewTopic(TOPIC, 1, 1, config=config)])[TOPIC].result(WAIT_S)
    yield made
    assert made.gateway.stop(60) == 0, made.gateway.log_text()
    made.gateway.check_log()
    made.gateway.close()


def read(node, isolation):
    """Of each key its last value, and how many records there are."""
    consumer = node.consumer("reader", isolation_level=isolation, fetch_wait_max_ms=20)
    consumer.assign([confluent.TopicPartition(TOPIC, 0, 0)])
    last, count, deadline = {}, 0, time.monotonic() + WAIT_S
    try:
        while time.monotonic() < deadline:
            message = consumer.poll(0.5)
            if message is None:
                continue
            if message.error():
                assert message.error().code() == confluent.KafkaError._PARTITION_EOF, message.error()
                return last, count
            assert isolation != "read_committed" or not message.value().startswith(b"abort"), message.offset()
            last[message.key()] = message.value()
            count += 1
    finally:
        consumer.close()
    raise TimeoutError(f"no end after {count} records")


class Load:
    """Two producers whose transactions lie between each other's, one of which is rolled back now and then."""

    def __init__(self, node):
        self.producers = {name: node.producer(f"tx-{name}") for name in "ab"}
        self.committed, self.seen, self.rounds, self.written = {}, {}, 0, 0

    def write(self, name, fate):
        for version in range(VERSIONS):
            for key in range(KEYS):
                key, value = f"{name}{key}".encode(), f"{fate} {self.rounds} {version} ".encode() * 20
                self.producers[name].produce(TOPIC, value, key=key)
                self.seen[key] = value
                self.written += 1
                if fate == "commit":
                    self.committed[key] = value
            assert self.producers[name].flush(WAIT_S) == 0

    def once(self):
        """Behind transactions that were rolled back each producer commits a key that never comes again."""
        for name, producer in self.producers.items():
            for _ in range(2):
                producer.begin_transaction()
                self.write(name, "abort")
                producer.abort_transaction(WAIT_S)
            producer.begin_transaction()
            key = f"once {name}".encode()
            self.committed[key] = self.seen[key] = b"commit once"
            producer.produce(TOPIC, self.seen[key], key=key)
            producer.commit_transaction(WAIT_S)

    def round(self):
        fates = {"a": "abort" if self.rounds % 3 == 1 else "commit", "b": "abort" if self.rounds % 4 == 2 else "commit"}
        for producer in self.producers.values():
            producer.begin_transaction()
        for name, fate in fates.items():
            self.write(name, fate)
        for name, fate in fates.items():
            producer = self.producers[name]
            (producer.commit_transaction if fate == "commit" else producer.abort_transaction)(WAIT_S)
        self.rounds += 1

    def check(self, node):
        """What was rolled back may be there for readers of everything, or not; how many records there are."""
        assert read(node, "read_committed")[0] == self.committed
        last, count = read(node, "read_uncommitted")
        assert last.keys() == self.committed.keys()
        assert all(last[key] in (self.seen[key], self.committed[key]) for key in last)
        return count


def markers(node):
    """Of each control batch in the files of the topic its offset, and whether it is a rollback's."""
    found = []
    for log in (node.gateway.folder / "journal" / "streams").glob("*/*.log"):
        try:
            data, at = log.read_bytes(), 0
        except FileNotFoundError:  # compacted meanwhile
            continue
        while at + 61 <= len(data):
            end = at + 12 + struct.unpack_from(">I", data, at + 8)[0]
            if struct.unpack_from(">H", data, at + 21)[0] & CONTROL and end <= len(data):
                # the record ends with the key's type 2, the value's length 1, the value 6, no headers 1
                found.append((struct.unpack_from(">Q", data, at)[0], struct.unpack_from(">H", data, end - 10)[0] == 0))
            at = end
    return found


def until(node, load, probe, what):
    """Writes on: passes come when enough is new."""
    deadline = time.monotonic() + WAIT_S
    while not probe():
        assert time.monotonic() < deadline, f"{what}: {load.written} records written in {load.rounds} rounds"
        for _ in range(5):
            load.round()


def test_transactions_are_compacted(node):
    load = Load(node)
    load.once()
    early = max(offset for offset, _ in markers(node))
    for _ in range(30):
        load.round()
    until(node, load, lambda: load.check(node) < load.written / 3, "records stay")
    until(node, load, lambda: not any(offset < early and rollback for offset, rollback in markers(node)), "markers stay")
    for how in ("stop", "kill9"):
        getattr(node.gateway, how)()
        node.gateway.start()
        load.check(node)
        for _ in range(3):
            load.round()
    load.check(node)


@pytest.mark.parametrize("commit", [True, False])
def test_an_open_transaction_over_passes_and_a_restart(node, commit):
    load, slow = Load(node), node.producer("tx-slow")
    for _ in range(15):
        load.round()
    first, mine = dict(load.committed), b"commit" if commit else b"abort"
    slow.begin_transaction()
    slow.produce(TOPIC, mine, key=b"a0")
    slow.produce(TOPIC, mine, key=b"alone")
    assert slow.flush(WAIT_S) == 0
    for _ in range(15):
        load.round()
    deadline = time.monotonic() + WAIT_S
    while read(node, "read_uncommitted")[1] > load.written * 3 / 4:  # what was before it is compacted
        assert time.monotonic() < deadline
    for _ in range(2):
        assert read(node, "read_committed")[0] == first  # nothing behind it is to be seen, and nothing before it is missed
        assert read(node, "read_uncommitted")[0][b"alone"] == mine
        node.gateway.kill9()
        node.gateway.start()
    (slow.commit_transaction if commit else slow.abort_transaction)(WAIT_S)
    if commit:
        load.committed[b"alone"] = load.seen[b"alone"] = mine
        until(node, load, lambda: load.check(node) < load.written / 4, "records stay")
    else:
        until(node, load, lambda: b"alone" not in read(node, "read_uncommitted")[0], "what was rolled back stays")
    load.check(node)
