"""Produce, Fetch, ListOffsets, Metadata byte by byte: what is answered, in which order, and when."""
import re
import struct
import threading
import time
from pathlib import Path

import pytest

from mqtest.kafka import API_VERSIONS, FETCH, METADATA, PRODUCE, Kafka, batch, batches, record

MODULE = Path(__file__).resolve().parents[2] / "protocols/kafka"
UNKNOWN_TOPIC, OUT_OF_RANGE, SESSION_UNKNOWN, SESSION_EPOCH = 3, 1, 70, 71


@pytest.fixture
def topic(kafka, unique):
    name = unique("topic")
    _, topics, _ = kafka().metadata([name])
    assert topics == {name: (0, 1)}
    return name


def test_api_versions_tell_what_is_there(kafka):
    client = kafka()
    rows = client.api_versions()
    assert rows[PRODUCE][1] >= 9 and rows[FETCH][1] >= 12 and rows[API_VERSIONS][0] == 0
    assert list(rows) == sorted(rows)
    r = client.ask(API_VERSIONS, 99, b"")     # KIP-511: the oldest form, and what there is
    assert r.get("h") == 35
    assert {key: (a, b) for key, a, b in r.array(lambda x: x.get("hhh"))} == rows


def _keys():
    """Name of an API as the protocol writes it -> its key, from the table that the codec is made of."""
    rows = re.findall(r"^request (\w+) (\d+) ", (MODULE / "messages.def").read_text(), re.M)
    return {name.title().replace("_", ""): int(key) for name, key in rows}


def _documented():
    """{key: (first, last)} from the tables of kafka.md. A row may have several names; they have a range each, or one for all."""
    keys, found = _keys(), {}
    for names, ranges in re.findall(r"^\| ([A-Z]\w+(?:, \w+)*) \| ([\d, -]+) \|", (MODULE / "kafka.md").read_text(), re.M):
        names, ranges = names.split(", "), ranges.split(", ")
        assert len(ranges) in (1, len(names)), names
        for name, versions in zip(names, ranges * len(names) if len(ranges) == 1 else ranges):
            first, _, last = versions.partition("-")
            assert keys[name] not in found, f"{name} stands there twice"
            found[keys[name]] = (int(first), int(last or first))
    return found


def test_kafka_md_has_the_versions_that_are_told(kafka):
    assert _documented() == kafka().api_versions()


def test_answers_leave_in_the_order_of_requests(kafka, topic):
    client = kafka()
    frames = b"".join(client.frame(PRODUCE, 7, client.produce_body(topic, batch([b"%d" % i]))) +
                      client.frame(API_VERSIONS, 0, b"") for i in range(50))
    client.socket.sendall(frames)
    first = client.serial - 99
    for i in range(50):
        assert client.produce_answer(client.answer(first + 2 * i)) == (0, i)
        client.answer(first + 2 * i + 1)
    assert [base for base, *_ in batches(client.read_all(topic))] == list(range(50))


def test_acks_zero_has_no_answer(kafka, topic):
    client = kafka()
    client.send(PRODUCE, 7, client.produce_body(topic, batch([b"a"]), acks=0))
    assert client.produce(topic, batch([b"b"]), acks=1) == (0, 1)
    client.send(PRODUCE, 7, client.produce_body(topic, batch([b"c"], crc=1), acks=0))
    assert client.is_closed()


def test_a_frame_may_come_in_pieces(kafka, topic):
    client = kafka()
    small = client.frame(PRODUCE, 7, client.produce_body(topic, batch([b"x"])))
    for byte in small:
        client.socket.sendall(bytes([byte]))
    assert client.produce_answer(client.answer(client.serial)) == (0, 0)
    large = client.frame(PRODUCE, 7, client.produce_body(topic, batch([b"y" * 300000])))
    client.socket.sendall(large[:70000])
    time.sleep(0.05)  # the rest in another read; nothing is asserted of it
    client.socket.sendall(large[70000:] + client.frame(METADATA, 5, struct.pack(">ib", 0, 1)))
    assert client.produce_answer(client.answer(client.serial - 1)) == (0, 1)
    client.answer(client.serial)
    assert b"y" * 300000 in client.read_all(topic)


def test_records_come_back_as_they_were_sent(kafka, topic):
    client = kafka()
    sent = batch([b"", b""], records=record(0, b"value", b"key", [(b"name", b"text")]) + record(1, None, b"gone"))
    assert client.produce(topic, sent) == (0, 0)
    _, _, got = client.fetch([(topic, 0, 0)])
    error, high, data = got[topic, 0]
    assert (error, high) == (0, 2)
    assert data[16:] == sent[16:]   # all but base offset, length and leader epoch
    assert struct.unpack_from(">q", data)[0] == 0


def test_a_fetch_waits_until_there_is_something(kafka, topic):
    client, other = kafka(), kafka()
    serial = client.send(FETCH, 11, client.fetch_body([(topic, 0, 0)], wait_ms=20000))
    assert other.produce(topic, batch([b"late"])) == (0, 0)
    _, _, got = client.fetch_answer(client.answer(serial))
    assert got[topic, 0][1] == 1 and b"late" in got[topic, 0][2]


def test_a_fetch_that_finds_nothing_ends(kafka, topic):
    client = kafka()
    assert client.fetch([(topic, 0, 0)], wait_ms=50) == (0, 0, {(topic, 0): (0, 0, b"")})
    assert client.fetch([(topic, 0, 0)], wait_ms=0)[2][topic, 0] == (0, 0, b"")


def test_min_bytes_are_waited_for(kafka, topic):
    client, other = kafka(), kafka()
    serial = client.send(FETCH, 11, client.fetch_body([(topic, 0, 0)], wait_ms=20000, min_bytes=300))
    for i in range(4):
        other.produce(topic, batch([b"v" * 60]))
    _, _, got = client.fetch_answer(client.answer(serial))
    assert got[topic, 0][2] != b""
    assert len(list(batches(client.read_all(topic, wait_ms=50, min_bytes=1 << 20)))) == 4   # the time is over


def test_max_bytes_bound_an_answer_but_one_batch_comes(kafka, topic):
    client = kafka()
    for i in range(5):
        client.produce(topic, batch([b"v" * 1000]))
    assert len(list(batches(client.fetch([(topic, 0, 0)], max_bytes=10)[2][topic, 0][2]))) == 1
    assert len(list(batches(client.fetch([(topic, 0, 0)], part_bytes=10)[2][topic, 0][2]))) == 1
    assert len(list(batches(client.fetch([(topic, 0, 0)], part_bytes=2500)[2][topic, 0][2]))) <= 2


def test_a_full_answer_does_not_wait_for_min_bytes(kafka, unique):
    client = kafka()
    names = [unique("full") for _ in range(3)]
    client.metadata(names)
    for name in names:
        client.produce(name, batch([b"v" * 1000]))
    _, _, got = client.fetch([(name, 0, 0) for name in names], max_bytes=1500, min_bytes=1 << 20, wait_ms=600000)
    assert len([key for key, (_, _, data) in got.items() if data]) == 1


def test_faults_of_partitions(kafka, topic, unique):
    client = kafka()
    nobody = unique("nobody")
    _, _, got = client.fetch([(nobody, 0, 0), (topic, 7, 0), (topic, 0, 5)], wait_ms=20000)
    assert got[nobody, 0][0] == UNKNOWN_TOPIC
    assert got[topic, 7][0] == UNKNOWN_TOPIC
    assert got[topic, 0][0] == OUT_OF_RANGE
    assert client.produce(nobody, batch([b"x"]))[0] == UNKNOWN_TOPIC
    assert client.list_offset(nobody, -1)[0] == UNKNOWN_TOPIC
    assert client.metadata([nobody], create=False)[1] == {nobody: (UNKNOWN_TOPIC, 0)}
    assert client.metadata(["no/topic"])[1] == {"no/topic": (17, 0)}


# ---- sessions (KIP-227) ---------------------------------------------------------------------------------------------

def test_a_session_tells_what_changed(kafka, unique):
    client = kafka()
    names = [unique("s") for _ in range(3)]
    client.metadata(names)
    error, session, got = client.fetch([(name, 0, 0) for name in names], session=(0, 0))
    assert error == 0 and session != 0 and len(got) == 3
    assert client.fetch([], session=(session, 1), wait_ms=10) == (0, session, {})
    other = kafka()
    serial = client.send(FETCH, 11, client.fetch_body([], session=(session, 2), wait_ms=20000))
    other.produce(names[1], batch([b"news"]))
    error, _, got = client.fetch_answer(client.answer(serial))
    assert error == 0 and list(got) == [(names[1], 0)] and b"news" in got[names[1], 0][2]
    # not asked on: it comes again
    error, _, got = client.fetch([], session=(session, 3))
    assert b"news" in got[names[1], 0][2]
    error, _, got = client.fetch([(names[1], 0, 1)], session=(session, 4), wait_ms=10)
    assert got == {}
    # forgotten: nothing of it is told any more
    other.produce(names[2], batch([b"more"]))
    error, _, got = client.fetch([], session=(session, 5), forget=[(names[2], 0)], wait_ms=10)
    assert got == {}
    other.produce(names[0], batch([b"last"]))
    error, _, got = client.fetch([], session=(session, 6), wait_ms=20000)
    assert list(got) == [(names[0], 0)]


def test_sessions_that_are_not_there(kafka, topic):
    client = kafka()
    assert client.fetch([], session=(4711, 1))[0] == SESSION_UNKNOWN
    _, session, _ = client.fetch([(topic, 0, 0)], session=(0, 0))
    assert client.fetch([], session=(session, 7))[0] == SESSION_EPOCH
    assert client.fetch([], session=(session, 1))[0] == 0
    assert client.fetch([(topic, 0, 0)], session=(session, -1))[:2] == (0, 0)   # and it is closed
    assert client.fetch([], session=(session, 2))[0] == SESSION_UNKNOWN


def test_a_session_keeps_what_does_not_fit(kafka, unique):
    client = kafka()
    names = [unique("s") for _ in range(4)]
    client.metadata(names)
    for name in names:
        client.produce(name, batch([b"v" * 1000]))
    _, session, got = client.fetch([(name, 0, 0) for name in names], session=(0, 0), max_bytes=1500)
    seen = {key for key, (_, _, data) in got.items() if data}
    assert len(seen) == 1
    for epoch in range(1, 4):
        _, _, got = client.fetch([(name, 0, 1) for name, _ in seen], session=(session, epoch), max_bytes=1500)
        seen |= {key for key, (_, _, data) in got.items() if data}
    assert len(seen) == 4


# ---- places ---------------------------------------------------------------------------------------------------------

def test_offsets_by_time(kafka, topic):
    client = kafka()
    assert client.list_offset(topic, -1) == (0, -1, 0)
    assert client.list_offset(topic, 1000) == (0, -1, -1)
    for i, when in enumerate((1000, 5000, 3000)):
        data = record(0, b"a") + record(1, b"b", time_delta=500)
        made = batch([b"", b""], base_time=when, records=data)
        tail = bytearray(made[21:])
        tail[14:22] = struct.pack(">q", when + 500)   # the latest time of the batch
        from mqtest.kafka import crc32c
        made = made[:17] + struct.pack(">I", crc32c(bytes(tail))) + bytes(tail)
        assert client.produce(topic, made) == (0, 2 * i)
    assert client.list_offset(topic, -1) == (0, -1, 6)
    assert client.list_offset(topic, -2) == (0, -1, 0)
    assert client.list_offset(topic, 0) == (0, 1000, 0)
    assert client.list_offset(topic, 1001) == (0, 1500, 1)
    assert client.list_offset(topic, 2000) == (0, 5000, 2)
    assert client.list_offset(topic, 5500) == (0, 5500, 3)
    assert client.list_offset(topic, 5501) == (0, -1, -1)
    assert client.list_offset(topic, -3) == (0, 5500, 3)


def test_what_was_acknowledged_survives(own_gateway, kafka):
    gateway = own_gateway()
    client = Kafka(gateway.ports["kafka"])
    cluster, _, brokers = client.metadata(["t"])
    assert brokers[0][1:3] == ("127.0.0.1", gateway.ports["kafka"])
    client.produce("t", batch([b"one", b"two"]))
    first = list(batches(client.fetch([("t", 0, 0)])[2]["t", 0][2]))[0][1]
    client.close()
    gateway.kill9()
    gateway.start()
    client = Kafka(gateway.ports["kafka"])
    assert client.metadata()[:2] == (cluster, {"t": (0, 1)})
    assert client.produce("t", batch([b"three"])) == (0, 2)
    rows = list(batches(client.read_all("t")))
    assert [(base, count) for base, _, count, _ in rows] == [(0, 2), (2, 1)]
    second = rows[1][1]
    assert second > first
    assert client.epoch_end("t", first) == (0, first, 2)
    assert client.epoch_end("t", second) == (0, second, 3)
    assert client.epoch_end("t", second + 1) == (0, -1, -1)
    client.close()


def test_settings_of_topics_and_addresses(own_gateway):
    gateway = own_gateway(kafka__partitions="3", kafka__advertised="elsewhere:4711", kafka__broker_id="42")
    with Kafka(gateway.ports["kafka"]) as client:
        _, topics, brokers = client.metadata(["t"])
        assert topics == {"t": (0, 3)} and brokers == [(42, "elsewhere", 4711, None)]
    gateway = own_gateway(kafka__auto_create="off")
    with Kafka(gateway.ports["kafka"]) as client:
        assert client.metadata(["t"])[1] == {"t": (UNKNOWN_TOPIC, 0)}


def test_many_fetches_are_parked_and_all_wake(kafka, topic):
    clients = [kafka() for _ in range(50)]
    for client in clients:
        client.send(FETCH, 11, client.fetch_body([(topic, 0, 0)], wait_ms=25000))
    writer = threading.Thread(target=lambda: kafka().produce(topic, batch([b"all"])))
    writer.start()
    for client in clients:
        assert b"all" in client.fetch_answer(client.answer(client.serial))[2][topic, 0][2]
    writer.join()
