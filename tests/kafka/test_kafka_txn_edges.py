"""Transactions out of step, byte by byte: ends twice and the other way, who was fenced, members that are none, markers for strangers.

The older forms here (AddPartitionsToTxn 0-2, EndTxn 0-2), which keep the epoch; test_kafka_txn_wire.py has those that raise it.
"""
import struct

import pytest
from mqtest.kafka import FETCH, PRODUCE, Kafka, batch, text
from test_kafka_txn_wire import END, INIT, INVALID_EPOCH, INVALID_MAPPING, INVALID_STATE, TRANSACTIONAL
from test_kafka_txn_wire import FENCED, OFFSET_FETCH, Producer, words

JOIN, ADD_PARTITIONS, ADD_OFFSETS, MARKERS, HEARTBEAT_848 = 11, 24, 25, 27, 68
NO_PARTITION, GENERATION, UNKNOWN_MEMBER, FENCED_INSTANCE = 3, 22, 25, 82
BAD_TIMEOUT, CONCURRENT, INVALID_REQUEST, NOT_ATTEMPTED, ABORTABLE = 50, 51, 42, 55, 120
COMMIT, ROLLBACK, CONTROL = True, False, 32


class Old(Producer):
    """A producer whose requests can be sent before earlier ones are answered."""

    def add_body(self, topics, epoch=None, id=None):
        body = text(self.name) + struct.pack(">qhi", self.id if id is None else id,
                                             self.epoch if epoch is None else epoch, len(topics))
        return body + b"".join(text(name) + struct.pack(">ii", 1, 0) for name in topics)

    def added(self, r):
        r.get("i")
        rows = r.array(lambda x: (x.text(), x.array(lambda y: y.get("ih")[1])[0]))
        r.end()
        return [code for _, code in rows]

    def add(self, *topics, version=1, **more):
        return self.added(self.client.ask(ADD_PARTITIONS, version, self.add_body(topics, **more)))

    def end_body(self, commit, epoch=None, id=None):
        return text(self.name) + struct.pack(">qhb", self.id if id is None else id,
                                             self.epoch if epoch is None else epoch, commit)

    def end_old(self, commit, version=1, **more):
        return self.client.ask(END, version, self.end_body(commit, **more)).get("ih")[1]

    def add_offsets(self, group, version=1, epoch=None):
        body = text(self.name) + struct.pack(">qh", self.id, self.epoch if epoch is None else epoch) + text(group)
        return self.client.ask(ADD_OFFSETS, version, body).get("ih")[1]

    def write(self, topic, sequence=0, epoch=None):
        made = batch([b"x"], producer=(self.id, self.epoch if epoch is None else epoch, sequence), attributes=TRANSACTIONAL)
        body = text(self.name) + Kafka.produce_body(topic, made)[2:]
        return Kafka.produce_answer(self.client.ask(PRODUCE, 7, body))

    def pipeline(self, *requests):
        """Sends (key, version, body) at once; the answers in turn."""
        frames = [self.client.frame(*request) for request in requests]
        self.client.socket.sendall(b"".join(frames))
        return [self.client.answer() for _ in requests]


@pytest.fixture
def make(port, unique):
    made = []

    def make(name=None):
        made.append(Old(port, name or unique("txn")))
        return made[-1]
    yield make
    for producer in made:
        producer.client.close()


@pytest.fixture
def producer(make):
    return make()


def committed(kafka, topic):
    """Offsets of the batches that a reader of committed records keeps: not markers, not what the answer calls rolled back."""
    client = kafka()
    r = client.ask(FETCH, 11, Kafka.fetch_body([(topic, 0, 0)], isolation=1))
    assert r.get("ihi")[1] == 0 and r.get("i") == 1 and r.text() == topic
    assert r.get("i") == 1 and r.get("ihqqq")[:2] == (0, 0)
    aborted = r.array(lambda x: x.get("qq")) or []
    r.get("i")
    data, out, gone = r.bytes(r.get("i")), [], set()
    at = 0
    while at < len(data):
        base, length = struct.unpack_from(">qi", data, at)
        attributes, producer = struct.unpack_from(">h", data, at + 21)[0], struct.unpack_from(">q", data, at + 43)[0]
        gone |= {id for id, first in aborted if (id, first) == (producer, base)}
        if attributes & CONTROL:
            gone.discard(producer)
        elif producer not in gone:
            out.append(base)
        at += 12 + length
    return out


def begun(producer, topic, sequence=0):
    assert producer.add(topic) == [0]
    error, offset = producer.write(topic, sequence)
    assert error == 0
    return offset


# -- ends ---------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("first", [COMMIT, ROLLBACK])
def test_an_end_comes_twice_and_the_other_way(producer, topic, first):
    assert [producer.end_old(end) for end in (COMMIT, ROLLBACK)] == [INVALID_STATE] * 2   # nothing was ever open
    begun(producer, topic)
    assert producer.end_old(first) == 0
    assert producer.end_old(first) == 0
    assert producer.end_old(not first) == INVALID_STATE
    assert producer.end_old(first, id=producer.id + 1) == INVALID_MAPPING
    begun(producer, topic, sequence=1)
    assert producer.end_old(not first) == 0


def test_the_ends_are_the_same_after_a_kill(own_gateway, unique):
    gateway = own_gateway()
    names = {first: unique("x") for first in (COMMIT, ROLLBACK)}
    topic = unique("t")
    with Kafka(gateway.ports["kafka"]) as client:
        client.metadata([topic])
    made = {first: Old(gateway.ports["kafka"], name) for first, name in names.items()}
    for first, producer in made.items():
        begun(producer, topic)
        assert producer.end_old(first) == 0
    idle = Old(gateway.ports["kafka"], unique("x"))
    gateway.kill9()
    gateway.start()
    for producer in (*made.values(), idle):
        producer.client.close()
        producer.client = Kafka(gateway.ports["kafka"])
    assert [idle.end_old(end) for end in (COMMIT, ROLLBACK)] == [INVALID_STATE] * 2
    for first, producer in made.items():
        assert producer.end_old(first) == 0             # the answer was lost
        assert producer.end_old(not first) == INVALID_STATE
        assert producer.end(not first)[0] == (0 if first == COMMIT else INVALID_STATE)   # in version 5 it is the next one's
    for producer in (*made.values(), idle):
        producer.client.close()


def test_what_is_sent_behind_an_end_waits_for_it(producer, make, topic, kafka, unique):
    other = unique("other")
    kafka().metadata([other])
    first = begun(producer, topic)
    end, again, add, wrong = producer.pipeline(
        (END, 1, producer.end_body(COMMIT)), (END, 1, producer.end_body(COMMIT)),
        (ADD_PARTITIONS, 1, producer.add_body([other])), (END, 1, producer.end_body(ROLLBACK)))
    assert end.get("ih")[1] == 0
    assert again.get("ih")[1] == 0
    assert producer.added(add) == [0]
    assert wrong.get("ih")[1] == 0             # the one that was begun by the third
    assert committed(kafka, topic) == [first]
    begun(producer, topic, sequence=1)
    end, wrong = producer.pipeline((END, 1, producer.end_body(COMMIT)), (END, 1, producer.end_body(ROLLBACK)))
    assert (end.get("ih")[1], wrong.get("ih")[1]) == (0, INVALID_STATE)


def test_an_end_of_version_5_comes_again_while_it_is_under_way(producer, topic, kafka):
    for commit, other in ((COMMIT, ROLLBACK), (ROLLBACK, COMMIT)):
        assert producer.produce(topic)[0][0] == 0
        ends = [b"\0" + words(producer.name) + struct.pack(">qhb", producer.id, producer.epoch, end) + b"\0"
                for end in (commit, commit, other)]
        first, again, wrong = producer.pipeline(*((END, 5, body) for body in ends))
        assert first.get("bihqh") == (0, 0, 0, producer.id, producer.epoch + 1)
        assert again.get("bihqh") == (0, 0, 0, producer.id, producer.epoch + 1)
        assert wrong.get("bih") == (0, 0, INVALID_STATE)
        assert producer.produce(topic) == {0: (INVALID_EPOCH, -1)}
        producer.epoch += 1
    assert committed(kafka, topic) == [0]


def test_brokers_do_not_wait_for_an_end(producer, topic):
    """AddPartitionsToTxn 4, which brokers send, is told CONCURRENT_TRANSACTIONS where a client's request would wait."""
    begun(producer, topic)
    ask = b"\0\2" + words(producer.name) + struct.pack(">qhb", producer.id, producer.epoch, True)
    ask += b"\2" + words(topic) + b"\2" + struct.pack(">i", 0) + b"\0\0\0"

    def code(r):
        assert r.get("bihb") == (0, 0, 0, 2)
        r.bytes(r.get("b") - 1)
        assert r.get("b") == 2
        r.bytes(r.get("b") - 1)
        assert r.get("bi") == (2, 0)
        return r.get("h")
    assert code(producer.client.ask(ADD_PARTITIONS, 4, ask + b"\0")) == 0
    end, verify = producer.pipeline((END, 1, producer.end_body(COMMIT)), (ADD_PARTITIONS, 4, ask + b"\0"))
    assert end.get("ih")[1] == 0
    assert code(verify) in (CONCURRENT, ABORTABLE)   # under way, or over
    assert code(producer.client.ask(ADD_PARTITIONS, 4, ask + b"\0")) == ABORTABLE


def test_a_new_producer_comes_while_a_commit_is_under_way(producer, make, topic, kafka):
    offset = begun(producer, topic)
    init = text(producer.name) + struct.pack(">i", 60000)
    end, made = producer.pipeline((END, 1, producer.end_body(COMMIT)), (INIT, 1, init))
    assert end.get("ih")[1] == 0
    assert made.get("ihqh") == (0, 0, producer.id, producer.epoch + 1)
    assert committed(kafka, topic) == [offset]       # it was not rolled back
    assert producer.end_old(COMMIT) == INVALID_EPOCH


# -- who may ------------------------------------------------------------------------------------------------------------------

def test_who_was_fenced_is_told_so_everywhere(producer, make, topic, kafka, unique):
    begun(producer, topic)
    heir = make(producer.name)
    assert (heir.id, heir.epoch) == (producer.id, producer.epoch + 2)   # one for the rollback, one for itself
    other, group = unique("other"), unique("g")
    kafka().metadata([other])
    assert producer.write(topic, 1)[0] == INVALID_EPOCH
    assert producer.write(other)[0] == INVALID_STATE      # where it never was
    for version, code in ((1, INVALID_EPOCH), (2, FENCED)):
        assert producer.add(topic, version=version) == [code]
        assert producer.add_offsets(group, version=version) == code
        assert [producer.end_old(end, version=version) for end in (COMMIT, ROLLBACK)] == [code] * 2
    assert producer.commit_offset(group, topic, 1, version=3) == INVALID_EPOCH
    assert producer.add(topic, id=producer.id + 1) == [INVALID_MAPPING]
    assert producer.add(topic, epoch=heir.epoch + 1) == [INVALID_EPOCH]
    offset = begun(heir, topic)
    assert heir.end_old(COMMIT) == 0
    assert committed(kafka, topic) == [offset]


def test_positions_need_an_open_transaction_with_the_group(producer, topic, unique):
    group = unique("g")
    assert producer.commit_offset(group, topic, 1, version=3) == INVALID_STATE
    assert producer.add_offsets(group) == 0
    assert producer.commit_offset(unique("g"), topic, 1, version=3) == INVALID_STATE
    assert producer.commit_offset(group, topic, 1, version=3) == 0
    assert producer.end_old(COMMIT) == 0
    assert producer.commit_offset(group, topic, 2, version=3) == INVALID_STATE


def test_partitions_join_all_or_none(producer, topic):
    assert producer.add(topic, "no-such-topic-here") == [NOT_ATTEMPTED, NO_PARTITION]
    assert producer.write(topic)[0] == INVALID_STATE
    assert producer.end_old(ROLLBACK) == INVALID_STATE


@pytest.mark.parametrize("timeout_ms, code", [(0, BAD_TIMEOUT), (-1, BAD_TIMEOUT), (900001, BAD_TIMEOUT), (2**31 - 1, BAD_TIMEOUT),
                                              (900000, 0), (1, 0)])
def test_the_bounds_of_a_timeout(kafka, unique, timeout_ms, code):
    r = kafka().ask(INIT, 1, text(unique("x")) + struct.pack(">i", timeout_ms))
    _, error, id, epoch = r.get("ihqh")
    r.end()
    assert error == code
    assert (id >= 0, epoch) == ((True, 0) if code == 0 else (False, -1))


def test_ids_that_are_none(kafka):
    assert kafka().ask(INIT, 1, text("") + struct.pack(">i", 60000)).get("ihqh") == (0, INVALID_REQUEST, -1, -1)
    assert kafka().ask(INIT, 1, text("i" * 5000) + struct.pack(">i", 60000)).get("ihqh") == (0, INVALID_REQUEST, -1, -1)
    body = text("nobody") + struct.pack(">qhb", 1, 0, True)
    assert kafka().ask(END, 1, body).get("ih") == (0, INVALID_MAPPING)
    assert kafka().ask(END, 5, b"\0" + words("nobody") + struct.pack(">qhb", 1, 0, True) + b"\0").get("bih") == (0, 0, INVALID_MAPPING)


# -- positions of members (KIP-447) ---------------------------------------------------------------------------------------------

def joined(client, group, member="", instance=None):
    """(member, generation), alone in its group; its generation rises with each join."""
    instance = struct.pack(">h", -1) if instance is None else text(instance)
    body = text(group) + struct.pack(">ii", 10000, 10000) + text(member) + instance + text("consumer")
    r = client.ask(JOIN, 5, body + struct.pack(">i", 1) + text("range") + struct.pack(">i", 0))
    _, error, generation = r.get("ihi")
    _, _, member = r.text(), r.text(), r.text()
    if error == 79:  # it has to come again, with the name that it is given
        return joined(client, group, member)
    assert error == 0
    return member, generation


@pytest.mark.parametrize("instance", [None, "i"])
def test_positions_of_who_is_no_member_are_refused(own_gateway, unique, instance):
    gateway = own_gateway(kafka__group_initial_rebalance_delay="0s")
    topic, group = unique("t"), unique("g")
    with Kafka(gateway.ports["kafka"]) as client:
        client.metadata([topic])
        member, generation = joined(client, group, instance=instance)
        producer = Old(gateway.ports["kafka"], unique("x"))
        assert producer.add_offsets(group) == 0

        def commit(offset=7, **more):
            return producer.commit_offset(group, topic, offset, version=3,
                                          **{"generation": generation, "member": member, "instance": instance, **more})
        assert commit(generation=generation + 1) == GENERATION
        assert commit(generation=generation - 1) == GENERATION
        assert commit(member="stranger") == (FENCED_INSTANCE if instance else UNKNOWN_MEMBER)
        assert commit(instance="other") == UNKNOWN_MEMBER
        assert producer.commit_offset(unique("g"), topic, 7, generation=1, member=member, version=3) == GENERATION   # no such group
        assert commit() == 0
        if instance:   # another process takes the instance over
            heir, _ = joined(client, group, instance=instance)
            assert heir != member and commit(9) == FENCED_INSTANCE
        assert producer.end_old(COMMIT) == 0   # what was taken stays
        body = text(group) + struct.pack(">i", 1) + text(topic) + struct.pack(">ii", 1, 0)
        r = client.ask(OFFSET_FETCH, 1, body)
        assert r.get("i") == 1 and r.text() == topic and r.get("iiq") == (1, 0, 7)
        producer.client.close()


def test_positions_of_members_of_the_other_kind_of_group(producer, kafka, topic, unique):
    """KIP-848: an epoch that is not the member's is ILLEGAL_GENERATION to a producer, which does not know STALE_MEMBER_EPOCH."""
    group, member, client = unique("g"), "m" * 22, kafka()
    body = words(group) + words(member) + struct.pack(">i", 0) + b"\0\0" + struct.pack(">i", 60000)
    body += b"\2" + words(topic) + b"\0" + b"\1"
    r = client.ask(HEARTBEAT_848, 0, b"\0" + body + b"\0")
    assert r.get("bih") == (0, 0, 0)
    assert r.get("b") == 0
    r.bytes(r.get("b") - 1)
    epoch = r.get("i")
    assert producer.add_offsets(group) == 0
    for given, code in ((epoch + 1, GENERATION), (epoch - 1 if epoch > 1 else epoch + 2, GENERATION), (epoch, 0)):
        assert producer.commit_offset(group, topic, 5, generation=given, member=member, version=3) == code
    assert producer.commit_offset(group, topic, 5, generation=epoch, member="stranger", version=3) == UNKNOWN_MEMBER
    assert producer.end_old(ROLLBACK) == 0


# -- markers --------------------------------------------------------------------------------------------------------------------

def markers(client, *rows):
    """rows: (producer, epoch, commit, topic, partition); {producer: error}"""
    body = struct.pack(">i", len(rows))
    for id, epoch, commit, topic, partition in rows:
        body += struct.pack(">qhbi", id, epoch, commit, 1) + text(topic) + struct.pack(">iii", 1, partition, 0)
    r = client.ask(MARKERS, 0, body)
    told = r.array(lambda x: (x.get("q"), x.array(lambda y: (y.text(), y.array(lambda z: z.get("ih")))[1][0][1])[0]))
    r.end()
    return dict(told)


def test_markers_of_producers_that_nobody_knows(producer, topic, kafka):
    client, stranger = kafka(), 1 << 60
    assert markers(client, (stranger, 0, ROLLBACK, topic, 0), (stranger + 1, 3, COMMIT, topic, 0),
                   (stranger + 2, 0, COMMIT, "no-such-topic-here", 0), (stranger + 3, 0, COMMIT, topic, 999)) == {
                       stranger: 0, stranger + 1: 0, stranger + 2: NO_PARTITION, stranger + 3: NO_PARTITION}
    assert committed(kafka, topic) == []
    offset = begun(producer, topic)                     # others go on
    assert producer.end_old(COMMIT) == 0
    assert committed(kafka, topic) == [offset]


def test_markers_of_a_transaction_that_is_open_here(producer, topic, kafka):
    client = kafka()
    begun(producer, topic)
    assert markers(client) == {}     # with nothing to write the answer waits for nothing
    assert markers(client, (producer.id, producer.epoch - 1, ROLLBACK, topic, 0)) == {producer.id: INVALID_EPOCH}
    assert markers(client, (producer.id, producer.epoch, COMMIT, topic, 0)) == {producer.id: INVALID_STATE}   # not over its head
    assert markers(client, (producer.id, producer.epoch, ROLLBACK, topic, 0)) == {producer.id: 0}
    assert producer.end_old(COMMIT) == INVALID_EPOCH
    assert producer.write(topic, 1)[0] == INVALID_EPOCH
    assert committed(kafka, topic) == []
