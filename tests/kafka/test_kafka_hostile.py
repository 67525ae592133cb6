"""What no client should send: refused with the right code, or the connection ends, and the gateway lives."""
import random
import struct

import pytest

from mqtest.kafka import API_VERSIONS, METADATA, PRODUCE, Kafka, batch, record

CORRUPT, TOO_LARGE, INVALID_ACKS, INVALID_RECORD = 2, 10, 21, 87


LYING = [
    ("sum", dict(crc=1), CORRUPT),
    ("more records than are there", dict(count=3, last_delta=2), INVALID_RECORD),
    ("fewer records than are there", dict(count=1, last_delta=0), INVALID_RECORD),
    ("offsets with a hole", dict(last_delta=5), INVALID_RECORD),
    ("no record", dict(count=0, last_delta=-1), None),
    ("control", dict(attributes=0x20), INVALID_RECORD),
    ("transactional without a producer", dict(attributes=0x10), INVALID_RECORD),
    ("codec of nobody", dict(attributes=7), 76),
    ("magic 1", dict(magic=1), INVALID_RECORD),
    ("producer without a sequence", dict(producer=(7, 0, -1)), INVALID_RECORD),
    ("a record that ends elsewhere", dict(records=b"\x7f" + record(0, b"x") + record(1, b"y")), INVALID_RECORD),
    ("a record of negative length", dict(records=b"\x01" + record(1, b"y")), INVALID_RECORD),
    ("bytes behind the records", dict(records=record(0, b"x") + record(1, b"y") + b"z"), INVALID_RECORD),
]


@pytest.mark.parametrize("what, lie, code", LYING, ids=[row[0].replace(" ", "-") for row in LYING])
def test_batches_that_lie_are_not_stored(kafka, topic, what, lie, code):
    client = kafka()
    error, base = client.produce(topic, batch([b"x", b"y"], **lie))
    assert error in ((CORRUPT, INVALID_RECORD) if code is None else (code,)) and base == -1
    assert client.list_offset(topic, -1) == (0, -1, 0)
    assert client.produce(topic, batch([b"good"])) == (0, 0)


def test_sizes_and_numbers(kafka, topic):
    client = kafka()
    good = batch([b"x"])
    assert client.produce(topic, good[:-1])[0] == CORRUPT
    assert client.produce(topic, good + good)[0] == INVALID_RECORD
    assert client.produce(topic, b"")[0] == INVALID_RECORD
    assert client.produce(topic, batch([b"v" * 1100000]))[0] == TOO_LARGE
    assert client.produce(topic, good, acks=2)[0] == INVALID_ACKS
    assert client.produce(topic, good) == (0, 0)


FRAMES = {
    "negative length": struct.pack(">i", -1),
    "no length to speak of": struct.pack(">i", 0),
    "a gigabyte before login": struct.pack(">i", 1 << 30),
    "unknown api": struct.pack(">ihhih", 10, 999, 0, 1, -1),
    "unknown version": struct.pack(">ihhih", 10, METADATA, 99, 1, -1),
    "negative api": struct.pack(">ihhih", 10, -5, 0, 1, -1),
    "client id beyond the frame": struct.pack(">ihhih", 10, METADATA, 1, 1, 3000),
    "two billion topics": struct.pack(">ihhihi", 14, METADATA, 1, 1, -1, 0x7FFFFFFF),
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("what", list(FRAMES), ids=[name.replace(" ", "-") for name in FRAMES])
def test_frames_that_end_the_connection(kafka, what):
    client = kafka()
    client.socket.sendall(FRAMES[what])
    assert client.is_closed()
    assert kafka().api_versions()


def test_bytes_left_over_are_not_looked_at(kafka):
    """As in Apache Kafka: librdkafka 2.0 sends some behind ListGroups 4, and OffsetFetch 7 of all partitions."""
    client = kafka()
    client.socket.sendall(struct.pack(">ihhihiq", 22, METADATA, 1, 1, -1, -1, 0))
    assert client.answer()
    assert client.api_versions()


def test_flipped_bytes_never_hurt(port, topic):
    """A good request with one byte changed: an answer or an end, whatever it means now."""
    rng = random.Random(4)
    shape = Kafka(port)
    frames = [shape.frame(PRODUCE, 7, shape.produce_body(topic, batch([b"abc", b"def"]))),
              shape.frame(1, 11, shape.fetch_body([(topic, 0, 0)], session=(0, 0))),
              shape.frame(API_VERSIONS, 3, b"\0\x04abc\x041.0\0")]
    shape.close()
    for _ in range(150):
        frame = bytearray(rng.choice(frames))
        frame[rng.randrange(4, len(frame))] ^= 1 << rng.randrange(8)
        with Kafka(port) as client:
            client.socket.settimeout(0.05)
            client.socket.sendall(frame)
            try:
                client.answer()
            except (EOFError, OSError, AssertionError, struct.error):
                pass
    with Kafka(port) as client:
        assert client.api_versions()


def test_a_client_that_reads_nothing_is_not_read(kafka, topic):
    client = kafka()
    for _ in range(20):
        client.produce(topic, batch([b"v" * 500000]))
    slow = kafka()
    slow.socket.settimeout(0.5)
    frame = slow.frame(1, 11, slow.fetch_body([(topic, 0, 0)], part_bytes=1 << 24))
    sent = 0
    try:
        for _ in range(200000):
            slow.socket.sendall(frame)
            sent += 1
    except (TimeoutError, OSError):
        pass
    assert sent < 200000
    assert kafka().api_versions()


def test_nobody_comes_in_without_a_login_where_that_is_off(own_gateway):
    gateway = own_gateway(kafka__anonymous="off")
    with Kafka(gateway.ports["kafka"]) as client:
        assert client.api_versions()
        client.send(METADATA, 1, struct.pack(">i", -1))
        assert client.is_closed()
