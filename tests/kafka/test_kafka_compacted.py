"""Compacted topics, read by clients: of each key the last record, at its offset, and every reader comes to the end.

What went is told to clients as batches that end behind their last record, and a log's front may be missing altogether."""
import time

import confluent_kafka as confluent
import kafka as kafka_python
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

KEYS, RECORDS, WAIT_S = 20, 1500, 40


def make_topic(bootstrap, name):
    admin = AdminClient({"bootstrap.servers": bootstrap})
    new = NewTopic(name, 1, 1, config={"cleanup.policy": "compact", "segment.bytes": "16384"})
    admin.create_topics([new])[name].result(WAIT_S)
    return name


def value(n):
    return b"%d " % n * 30


def fill(bootstrap, topic, codec):
    """Three batches out of four are of keys that come again; the fourth has a key of its own beside them."""
    producer = confluent.Producer({"bootstrap.servers": bootstrap, "compression.type": codec, "linger.ms": 1000})
    for n in range(RECORDS):
        producer.produce(topic, value(n), key=b"own %d" % n if n % 40 == 5 else b"key %d" % (n % KEYS))
        if n % 10 == 9:
            assert producer.flush(WAIT_S) == 0


def read_confluent(bootstrap, topic, start=0):
    consumer = confluent.Consumer({"bootstrap.servers": bootstrap, "group.id": "-", "enable.partition.eof": True,
                                   "enable.auto.commit": False})
    consumer.assign([confluent.TopicPartition(topic, 0, start)])
    got, deadline = [], time.monotonic() + WAIT_S
    try:
        while time.monotonic() < deadline:
            message = consumer.poll(1)
            if message is None:
                continue
            if message.error():
                assert message.error().code() == confluent.KafkaError._PARTITION_EOF, message.error()
                return got
            got.append((message.offset(), message.key(), message.value()))
    finally:
        consumer.close()
    raise AssertionError(f"the end was not reached: {len(got)} records, the last at {got[-1:]}")


def read_python(bootstrap, topic):
    consumer = kafka_python.KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    partition = kafka_python.TopicPartition(topic, 0)
    consumer.assign([partition])
    consumer.seek(partition, 0)
    got, deadline = [], time.monotonic() + WAIT_S
    try:
        end = consumer.end_offsets([partition])[partition]
        while consumer.position(partition) < end:
            assert time.monotonic() < deadline, f"at {consumer.position(partition)} of {end}"
            for records in consumer.poll(500).values():
                got += [(r.offset, r.key, r.value) for r in records]
    finally:
        consumer.close()
    return got


def check(got):
    offsets = [offset for offset, _, _ in got]
    assert offsets == sorted(set(offsets))
    assert all(data == value(offset) for offset, _, data in got)
    last = {key: offset for offset, key, _ in got}
    assert {key for key in last if key.startswith(b"own")} == {b"own %d" % n for n in range(5, RECORDS, 40)}
    for key in range(KEYS):
        ours = [n for n in range(RECORDS) if n % KEYS == key and n % 40 != 5]
        assert last[b"key %d" % key] == ours[-1]


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_compacted(bootstrap, unique, codec):
    topic = make_topic(bootstrap, unique("compacted"))
    fill(bootstrap, topic, codec)
    deadline = time.monotonic() + WAIT_S
    got = read_confluent(bootstrap, topic)
    while len(got) > RECORDS * 3 // 4:  # compaction comes when it comes; the file written to is never looked into
        assert time.monotonic() < deadline, f"{len(got)} records are there"
        check(got)
        got = read_confluent(bootstrap, topic)
    check(got)
    if codec in ("none", "gzip"):  # kafka-python has no library for the others
        check(read_python(bootstrap, topic))
    gone = next(n for n in range(RECORDS) if n not in {offset for offset, _, _ in got})
    assert read_confluent(bootstrap, topic, gone)[0][0] > gone
