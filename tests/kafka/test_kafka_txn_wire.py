"""Transactions whose ends raise the epoch (KIP-890), byte by byte: Produce 12, TxnOffsetCommit 5, EndTxn 5."""
import struct

import pytest

from mqtest.kafka import PRODUCE, Kafka, batch

INIT, END, COMMIT_OFFSETS, OFFSET_FETCH = 22, 26, 28, 9
OUT_OF_ORDER, INVALID_EPOCH, INVALID_STATE, INVALID_MAPPING, FENCED = 45, 47, 48, 49, 90
TRANSACTIONAL = 16


def words(value):
    """A compact string or bytes."""
    raw = value.encode() if isinstance(value, str) else value
    out, n = bytearray(), len(raw) + 1
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes(out + bytes([n])) + raw


class Producer:
    """A transactional producer over one connection; its epoch is told by EndTxn."""

    def __init__(self, port, name):
        self.client, self.name = Kafka(port), name
        body = struct.pack(">h", len(name)) + name.encode() + struct.pack(">i", 60000)
        throttle, error, self.id, self.epoch = self.client.ask(INIT, 1, body).get("ihqh")
        assert error == 0

    def flexible(self, key, version, body):
        reader = self.client.ask(key, version, b"\0" + body + b"\0")
        assert reader.get("b") == 0
        return reader

    def produce(self, topic, partitions=(0,), sequence=0, epoch=None, version=12):
        """{partition: (error, offset)} of one record for each."""
        body = words(self.name) + struct.pack(">hi", -1, 30000) + b"\2" + words(topic) + bytes([len(partitions) + 1])
        for p in partitions:
            made = batch([b"x"], producer=(self.id, self.epoch if epoch is None else epoch, sequence), attributes=TRANSACTIONAL)
            body += struct.pack(">i", p) + words(made) + b"\0"
        r = self.flexible(PRODUCE, version, body + b"\0")
        assert r.get("b") == 2
        r.bytes(r.get("b") - 1)
        rows = {}
        for _ in range(r.get("b") - 1):
            index, error, offset, _, _, errors, message, tags = r.get("ihqqqbbb")
            assert (errors, message, tags) == (1, 0, 0)
            rows[index] = (error, offset)
        return rows

    def end(self, commit, epoch=None, id=None, take=True):
        body = words(self.name) + struct.pack(">qhb", self.id if id is None else id,
                                              self.epoch if epoch is None else epoch, commit)
        _, error, id, epoch = self.flexible(END, 5, body).get("ihqh")
        if error == 0 and take:
            self.id, self.epoch = id, epoch
        return error, epoch

    def commit_offset(self, group, topic, offset, generation=-1, member="", instance=None, version=5):
        body = words(self.name) + words(group) + struct.pack(">qhi", self.id, self.epoch, generation) + words(member)
        body += (b"\0" if instance is None else words(instance)) + b"\2" + words(topic)
        body += b"\2" + struct.pack(">iqi", 0, offset, -1) + b"\1\0\0"
        r = self.flexible(COMMIT_OFFSETS, version, body)
        assert r.get("ib") == (0, 2)
        r.bytes(r.get("b") - 1)
        assert r.get("bi") == (2, 0)
        return r.get("h")


@pytest.fixture
def producer(port, unique):
    made = Producer(port, unique("txn"))
    yield made
    made.client.close()


def test_a_batch_joins_by_itself_and_an_end_raises_the_epoch(producer, topic):
    for turn in range(3):
        assert producer.epoch == turn
        assert producer.produce(topic) == {0: (0, 2 * turn)}   # a marker follows each
        assert producer.end(True) == (0, turn + 1)
    assert producer.produce(topic, version=11) == {0: (INVALID_STATE, -1)}   # asks before


def test_what_comes_late_is_refused(producer, topic, kafka, unique):
    other = unique("other")
    kafka().metadata([other])
    assert producer.produce(topic) == {0: (0, 0)}
    assert producer.end(False) == (0, 1)
    assert producer.produce(topic, sequence=1, epoch=0) == {0: (INVALID_EPOCH, -1)}
    assert producer.produce(other, epoch=0) == {0: (INVALID_EPOCH, -1)}   # where it never was, too
    assert producer.produce(topic, sequence=1) == {0: (OUT_OF_ORDER, -1)}   # a new epoch begins at zero
    assert producer.produce(topic) == {0: (0, 2)}


def test_an_end_that_is_asked_again(producer, topic):
    producer.produce(topic)
    assert producer.end(True, take=False) == (0, 1)
    assert producer.end(True, take=False) == (0, 1)     # the answer was lost
    assert producer.end(False, take=False)[0] == INVALID_STATE
    assert producer.end(True)[1] == 1
    assert producer.end(True)[0] == INVALID_STATE       # nothing is open
    assert producer.end(False) == (0, 2)                # a rollback of nothing raises, too
    assert producer.produce(topic) == {0: (0, 2)}
    assert producer.end(True, epoch=1)[0] == FENCED
    assert producer.end(True, epoch=9)[0] == FENCED
    assert producer.end(True, id=producer.id + 1)[0] == INVALID_MAPPING
    assert producer.end(True) == (0, 3)


def test_an_epoch_that_nobody_has_opens_nothing(producer, topic):
    assert producer.produce(topic, epoch=32767) == {0: (INVALID_EPOCH, -1)}
    assert producer.end(False, epoch=32767)[0] == FENCED


def test_positions_join_by_themselves(producer, topic, kafka, unique):
    group = unique("g")

    def position():
        body = struct.pack(">h", len(group)) + group.encode() + struct.pack(">ih", 1, len(topic)) + topic.encode()
        r = kafka().ask(OFFSET_FETCH, 1, body + struct.pack(">ii", 1, 0))
        assert r.get("i") == 1
        r.text()
        return r.get("iiq")[2]

    assert producer.commit_offset(group, topic, 7) == 0
    assert position() == -1
    assert producer.end(True) == (0, 1)
    assert position() == 7
    assert producer.commit_offset(group, topic, 9) == 0
    assert producer.end(False) == (0, 2)
    assert position() == 7


def test_partitions_of_a_request_join_together(own_gateway, unique):
    gateway = own_gateway(kafka__partitions=20)
    topic = unique("t")
    with Kafka(gateway.ports["kafka"]) as client:
        client.metadata([topic])
        producer = Producer(gateway.ports["kafka"], unique("x"))
        assert producer.produce(topic, range(20)) == {p: (0, 0) for p in range(20)}
        assert producer.produce(topic, range(21), sequence=1) == {**{p: (0, 1) for p in range(20)}, 20: (3, -1)}
        assert producer.end(True) == (0, 1)
        gateway.kill9()
        gateway.start()
        again = Producer(gateway.ports["kafka"], producer.name)
        assert (again.id, again.epoch) == (producer.id, 2)
        assert again.produce(topic, [3]) == {3: (0, 3)}
        assert again.end(True, epoch=0)[0] == FENCED
