"""Consumers of the time before 0.11 read what today's producers write: message sets of magic 0 and 1, made of batches."""
import struct
import time
import zlib

import confluent_kafka as confluent
import kafka as kafka_python
import pytest
from conftest import address
from mqtest.kafka import FETCH, Kafka, batch, record, text

WAIT_S = 50
CORRUPT, UNSUPPORTED_CODEC = 2, 76
LOG_APPEND_TIME = 1


def fill(broker, topic, codec="none", first=0, last=20, **more):
    """k0:v0, k1:v1... in two batches."""
    producer = confluent.Producer({"bootstrap.servers": address(broker), "compression.type": codec, **more})
    for half in (range(first, (first + last) // 2), range((first + last) // 2, last)):
        for i in half:
            producer.produce(topic, f"v{i}".encode() * 20, f"k{i}".encode() if i % 3 else None, 0, timestamp=5000 + i,
                             headers=[("name", b"text")])
        assert producer.flush(WAIT_S) == 0


def wanted(first, last):
    return [(i, f"k{i}".encode() if i % 3 else None, f"v{i}".encode() * 20) for i in range(first, last)]


def read(consumer, n):
    got, deadline = [], time.monotonic() + WAIT_S
    while len(got) < n and time.monotonic() < deadline:
        for messages in consumer.poll(timeout_ms=200).values():
            got += messages
    return got


@pytest.fixture
def old(bootstrap):
    """old(version, topic): kafka-python as a client of that time, at the beginning of partition 0."""
    made = []

    def make(version, topic):
        one = kafka_python.KafkaConsumer(bootstrap_servers=bootstrap, api_version=version, enable_auto_commit=False,
                                         fetch_max_wait_ms=100)
        made.append(one)
        one.assign([kafka_python.TopicPartition(topic, 0)])
        one.seek_to_beginning()
        return one

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("version, codec", [((0, 8, 2), "none"), ((0, 8, 2), "snappy"), ((0, 9), "none"), ((0, 9), "gzip"),
                                            ((0, 10), "zstd"), ((0, 10), "lz4"), ((0, 10, 1), "none"), ((0, 10, 1), "gzip")])
def test_kafka_python_of_that_time(broker, old, unique, version, codec):
    topic = unique("t")
    fill(broker, topic, codec)
    consumer = old(version, topic)
    got = read(consumer, 20)
    assert [(m.offset, m.key, m.value) for m in got] == wanted(0, 20)
    assert [m.timestamp for m in got] == ([5000 + i for i in range(20)] if version >= (0, 10) else [None] * 20)
    consumer.seek(kafka_python.TopicPartition(topic, 0), 7)   # in the middle of a batch
    assert [(m.offset, m.key, m.value) for m in read(consumer, 13)] == wanted(7, 20)


def test_markers_are_passed_over(broker, old, unique):
    topic = unique("t")
    fill(broker, topic, last=4)
    producer = confluent.Producer({"bootstrap.servers": address(broker), "transactional.id": unique("x")})
    producer.init_transactions(WAIT_S)
    for i in range(3):
        producer.begin_transaction()
        producer.produce(topic, f"in{i}".encode(), partition=0)
        producer.commit_transaction(WAIT_S)
    consumer = old((0, 10), topic)
    assert [m.value for m in read(consumer, 7)][4:] == [b"in0", b"in1", b"in2"]
    assert consumer.poll(timeout_ms=300) == {}    # a marker is the last of all: nothing
    fill(broker, topic, first=10, last=12)
    assert [m.offset for m in read(consumer, 2)] == [10, 11]


@pytest.mark.parametrize("fallback", ["0.8.2.2", "0.9.0.1"])
def test_librdkafka_told_to_be_old(broker, unique, fallback):
    topic = unique("t")
    fill(broker, topic, "lz4")
    consumer = confluent.Consumer({"bootstrap.servers": address(broker), "group.id": unique("g"),
                                   "api.version.request": False, "broker.version.fallback": fallback,
                                   "enable.auto.commit": False})
    consumer.assign([confluent.TopicPartition(topic, 0, 0)])
    got, deadline = [], time.monotonic() + WAIT_S
    while len(got) < 20 and time.monotonic() < deadline:
        message = consumer.poll(1)
        if message is not None and message.error() is None:
            got.append((message.offset(), message.key(), message.value()))
    consumer.close()
    assert got == wanted(0, 20)


# ---- byte by byte ----------------------------------------------------------------------------------------------------

def ask(client, version, topic, offset, part_bytes=1 << 20, max_bytes=1 << 20, wait_ms=20000):
    """(error, high watermark, set) of a fetch of partition 0."""
    body = struct.pack(">iii", -1, wait_ms, 1) + (struct.pack(">i", max_bytes) if version == 3 else b"")
    body += struct.pack(">i", 1) + text(topic) + struct.pack(">iiqi", 1, 0, offset, part_bytes)
    r = client.answer(client.send(FETCH, version, body))
    if version > 0:
        assert r.get("i") == 0
    rows = r.array(lambda x: (x.text(), x.array(lambda y: (y.get("ihq"), y.bytes(y.get("i"))))))
    r.end()
    (name, [((index, error, high), data)]), = rows
    assert (name, index) == (topic, 0)
    return error, high, data


def messages(data):
    """(offset, magic, attributes, rest) of each message, whose sum holds."""
    at, got = 0, []
    while at < len(data):
        offset, n, crc, magic, attributes = struct.unpack_from(">qiIBB", data, at)
        assert at + 12 + n <= len(data) and crc == zlib.crc32(data[at + 16:at + 12 + n])
        got.append((offset, magic, attributes, data[at + 18:at + 12 + n]))
        at += 12 + n
    return got


@pytest.mark.parametrize("version", range(4))
def test_each_version_has_its_form(kafka, topic, version):
    client = kafka()
    assert client.produce(topic, batch([b""], base_time=77, records=record(0, b"value", b"key", [(b"h", b"x")]))) == (0, 0)
    error, high, data = ask(client, version, topic, 0)
    magic = 0 if version < 2 else 1
    assert (error, high) == (0, 1)
    assert messages(data) == [(0, magic, 0, (struct.pack(">q", 77) if magic else b"") +
                               struct.pack(">i3si5s", 3, b"key", 5, b"value"))]
    assert ask(client, version, topic, 1, wait_ms=10) == (0, 1, b"")
    assert ask(client, version, topic, 5)[0] == 1


def test_bounds_end_a_set_behind_a_message(kafka, topic):
    client = kafka()
    client.produce(topic, batch([b"v" * 1000] * 5))
    assert [m[0] for m in messages(ask(client, 1, topic, 2, part_bytes=10)[2])] == [2]
    assert [m[0] for m in messages(ask(client, 3, topic, 1, max_bytes=2500)[2])] == [1, 2]
    assert [m[0] for m in messages(ask(client, 3, topic, 0)[2])] == [0, 1, 2, 3, 4]


def test_the_time_of_arrival_is_told_as_such(own_gateway, unique):
    gateway = own_gateway()
    admin = kafka_python.KafkaAdminClient(bootstrap_servers=address(gateway), api_version=(2, 5, 0))
    topic = unique("t")
    admin.create_topics([kafka_python.admin.NewTopic(topic, 1, 1, topic_configs={"message.timestamp.type": "LogAppendTime"})])
    admin.close()
    with Kafka(gateway.ports["kafka"]) as client:
        assert client.produce(topic, batch([b"x"], base_time=77)) == (0, 0)
        (_, magic, attributes, rest), = messages(ask(client, 2, topic, 0)[2])
        assert (magic, attributes) == (1, 8) and struct.unpack_from(">q", rest)[0] > 1_600_000_000_000


def test_what_cannot_be_made_plain_is_an_error(kafka, topic):
    client = kafka()
    assert client.produce(topic, batch([b"x"], attributes=1, records=b"this is not gzip")) == (0, 0)
    assert ask(client, 2, topic, 0)[0] == CORRUPT
    assert client.produce(topic, batch([b"x"])) == (0, 1)
    assert [m[0] for m in messages(ask(client, 2, topic, 1)[2])] == [1]


def test_a_bomb_is_refused(own_gateway, unique):
    gateway = own_gateway(kafka__fetch_size="1MiB")
    with Kafka(gateway.ports["kafka"]) as client:
        topic = unique("t")
        client.metadata([topic])
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        bomb = packer.compress(record(0, bytes(32 << 20))) + packer.flush()
        assert client.produce(topic, batch([b"x"], attributes=1, records=bomb)) == (0, 0)
        assert ask(client, 2, topic, 0)[0] == 10    # MESSAGE_TOO_LARGE
