"""Consumer groups byte by byte: what clients of a library never do."""
import struct

import pytest
from mqtest.broker import wait_until
from mqtest.kafka import text

COMMIT, FETCH_OFFSETS, FIND, JOIN, BEAT, LEAVE, SYNC, DESCRIBE = 8, 9, 10, 11, 12, 13, 14, 15
NOT_FOUND_TOPIC, TOO_LARGE, GENERATION, INCONSISTENT, NO_GROUP_ID, UNKNOWN_MEMBER, SESSION, INVALID = \
    3, 12, 22, 23, 24, 25, 26, 42


def data(raw):
    return struct.pack(">i", len(raw)) + raw


def join_body(group, member="", session_ms=10000, protocols=(("range", b"meta"),), kind="consumer"):
    rows = b"".join(text(name) + data(meta) for name, meta in protocols)
    return (text(group) + struct.pack(">ii", session_ms, 60000) + text(member) + text(kind) +
            struct.pack(">i", len(protocols)) + rows)


def join_answer(r):
    """JoinGroup 2."""
    r.get("i")
    error, generation = r.get("hi")
    protocol, leader, member = r.text(), r.text(), r.text()
    members = r.array(lambda x: (x.text(), x.bytes(x.get("i"))))
    r.end()
    return error, generation, protocol, leader, member, members


def joined(client, group, **more):
    error, generation, protocol, leader, member, members = join_answer(client.ask(JOIN, 2, join_body(group, **more)))
    assert (error, protocol, leader) == (0, "range", member) and members == [(member, b"meta")]
    return member, generation


def sync(client, group, generation, member, rows=()):
    body = text(group) + struct.pack(">i", generation) + text(member) + struct.pack(">i", len(rows))
    r = client.ask(SYNC, 1, body + b"".join(text(name) + data(raw) for name, raw in rows))
    r.get("i")
    error = r.get("h")
    got = r.bytes(r.get("i"))
    r.end()
    return error, got


def beat(client, group, generation, member):
    return client.ask(BEAT, 1, text(group) + struct.pack(">i", generation) + text(member)).get("ih")[1]


def state(client, group):
    r = client.ask(DESCRIBE, 0, struct.pack(">i", 1) + text(group))
    assert r.get("i") == 1
    assert r.get("h") == 0 and r.text() == group
    return r.text()


@pytest.fixture
def quick(own_gateway, kafka):
    """quick() is a connection to a gateway of the test's own, where a group does not wait for others."""
    gateway = own_gateway(kafka__group_initial_rebalance_delay="0s", kafka__group_min_session_timeout="500ms")
    return lambda: kafka(gateway.ports["kafka"])


def test_one_member_by_hand(quick, unique):
    client, group = quick(), unique("g")
    member, generation = joined(client, group)
    assert sync(client, group, generation, member, [(member, b"all"), ("nobody", b"none")]) == (0, b"all")
    assert beat(client, group, generation, member) == 0
    assert beat(client, group, generation + 1, member) == GENERATION
    assert beat(client, group, generation, "other") == UNKNOWN_MEMBER
    assert sync(client, group, generation - 1, member)[0] == GENERATION
    assert state(client, group) == "Stable"
    assert client.ask(LEAVE, 1, text(group) + text(member)).get("ih")[1] == 0
    assert client.ask(LEAVE, 1, text(group) + text(member)).get("ih")[1] == UNKNOWN_MEMBER
    assert state(client, group) == "Empty" and state(client, unique("g")) == "Dead"


def test_a_connection_that_closes_while_its_join_waits(quick, unique):
    group = unique("g")
    a, b, watch = quick(), quick(), quick()
    member, generation = joined(a, group)
    assert sync(a, group, generation, member, [(member, b"all")])[0] == 0
    b.send(JOIN, 2, join_body(group, session_ms=500))
    wait_until(lambda: state(watch, group) == "PreparingRebalance", 20, "b waits for a")
    b.close()

    def alone():    # b may still have been a member when a came back; it never syncs nor calls, and its session is short
        error, _, _, leader, same, members = join_answer(a.ask(JOIN, 2, join_body(group, member)))
        assert (error, leader, same) == (0, member, member)
        return members == [(member, b"meta")]

    wait_until(alone, 20, "a is alone")


def test_the_node_stops_while_joins_and_syncs_wait(own_gateway, kafka, unique):
    gateway = own_gateway(kafka__group_initial_rebalance_delay="60s")
    late, group = kafka(gateway.ports["kafka"]), unique("g")
    late.send(JOIN, 2, join_body(group))
    watch = kafka(gateway.ports["kafka"])
    wait_until(lambda: state(watch, group) == "PreparingRebalance", 20, "it waits")
    assert gateway.stop(60) == 0


@pytest.mark.parametrize("more, error", [
    ({"session_ms": 1}, SESSION), ({"session_ms": -1}, SESSION), ({"session_ms": 2 ** 31 - 1}, SESSION),
    ({"protocols": ()}, INCONSISTENT), ({"kind": ""}, INCONSISTENT), ({"member": "made-up"}, UNKNOWN_MEMBER),
    ({"protocols": [("range", bytes(2 ** 20))]}, INVALID), ({"protocols": [("r", b"")] * 65}, INVALID)])
def test_joins_that_are_refused(quick, unique, more, error):
    client = quick()
    client.metadata([])     # it is in: before that a request has at most 1 MiB
    assert join_answer(client.ask(JOIN, 2, join_body(unique("g"), **more)))[0] == error
    assert join_answer(client.ask(JOIN, 2, join_body("")))[0] == NO_GROUP_ID


def commit(client, group, rows, generation=-1, member=""):
    """OffsetCommit 2 of rows (topic, partition, offset, metadata); the errors."""
    body = text(group) + struct.pack(">i", generation) + text(member) + struct.pack(">qi", -1, len(rows))
    for topic, partition, offset, metadata in rows:
        body += text(topic) + struct.pack(">iiq", 1, partition, offset) + text(metadata)
    r = client.ask(COMMIT, 2, body)
    errors = [row for _, rows in r.array(lambda x: (x.text(), x.array(lambda y: y.get("ih")[1]))) for row in rows]
    r.end()
    return errors


def positions(client, group, version=2):
    """All of the group: {(topic, partition): (offset, metadata)}."""
    r = client.ask(FETCH_OFFSETS, version, text(group) + struct.pack(">i", -1))
    rows = r.array(lambda x: (x.text(), x.array(lambda y: (y.get("i"), y.get("q"), y.text(), y.get("h")))))
    assert r.get("h") == 0
    r.end()
    return {(topic, row[0]): (row[1], row[2]) for topic, partitions in rows for row in partitions}


def test_commits_by_hand(quick, unique):
    client, group, topic = quick(), unique("g"), unique("t")
    client.metadata([topic])
    assert commit(client, group, [(topic, 0, 5, "one"), (topic, 0, 6, "x" * 4096), (topic, 7, 1, ""), ("none", 0, 1, ""),
                                  (topic, 0, 7, "x" * 4097), (topic, 0, -1, "")]) == [
        0, 0, NOT_FOUND_TOPIC, NOT_FOUND_TOPIC, TOO_LARGE, 28]
    assert positions(client, group) == {(topic, 0): (6, "x" * 4096)}
    member, generation = joined(client, group)
    assert commit(client, group, [(topic, 0, 9, "")]) == [UNKNOWN_MEMBER]
    assert commit(client, group, [(topic, 0, 9, "")], generation + 1, member) == [GENERATION]
    assert commit(client, group, [(topic, 0, 9, "")], generation, member) == [27]
    assert sync(client, group, generation, member, [(member, b"")])[0] == 0
    assert commit(client, group, [(topic, 0, 9, "")], generation, member) == [0]
    assert positions(client, group) == {(topic, 0): (9, "")}
    assert positions(client, unique("g")) == {}


def test_a_connection_that_closes_while_it_commits(quick, unique):
    client, group, topic = quick(), unique("g"), unique("t")
    client.metadata([topic])
    for offset in range(1, 20):
        rude = quick()
        rude.send(COMMIT, 2, text(group) + struct.pack(">i", -1) + text("") + struct.pack(">qi", -1, 1) + text(topic) +
                  struct.pack(">iiq", 1, 0, offset) + text(""))
        rude.close()
    assert commit(client, group, [(topic, 0, 99, "")]) == [0]
    wait_until(lambda: positions(client, group) != {}, 20, "something is committed")


def test_coordinators(kafka, unique):
    client = kafka()
    for kind, error in ((0, 0), (1, 0), (2, INVALID)):
        r = client.ask(FIND, 1, text(unique("g")) + struct.pack(">b", kind))
        r.get("i")
        assert r.get("h") == error
