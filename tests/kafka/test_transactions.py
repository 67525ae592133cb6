"""Idempotent producers and transactions with librdkafka: what read_committed shows, positions, fencing, timeouts, restarts."""
import os
import random
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from mqtest.broker import Gateway, wait_until  # noqa: E402

WAIT_S = 60


def quiet_port():
    """A port outside the range that the kernel gives to clients, so that it is free again after a restart."""
    while True:
        port = random.randrange(15000, 30000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port


class Node:
    """A gateway whose Kafka port stays the same over restarts."""

    def __init__(self):
        self.port = quiet_port()
        self.gateway = Gateway({"listeners.kafka": f"127.0.0.1:{self.port}"}).start()
        self.names = 0

    def name(self, prefix):
        self.names += 1
        return f"{prefix}{self.names}"

    def settings(self, **more):
        return {"bootstrap.servers": f"127.0.0.1:{self.port}", "reconnect.backoff.max.ms": 200,
                "log_level": 0, **{key.replace("_", "."): value for key, value in more.items()}}

    def producer(self, name=None, **more):
        if name is None:
            return Producer(self.settings(enable_idempotence=True, **more))
        made = Producer({**self.settings(**more), "transactional.id": name})
        made.init_transactions(WAIT_S)
        return made

    def consumer(self, group, **more):
        return Consumer({**self.settings(**more), "group.id": group, "auto.offset.reset": "earliest",
                         "enable.auto.commit": False, "enable.partition.eof": True})

    def read(self, topic, isolation="read_committed"):
        """All values of partition 0 up to where the isolation level ends."""
        consumer = self.consumer("reader", isolation_level=isolation)
        consumer.assign([TopicPartition(topic, 0, 0)])
        values, deadline = [], time.monotonic() + WAIT_S
        try:
            while time.monotonic() < deadline:
                message = consumer.poll(0.5)
                if message is None:
                    continue
                if message.error():
                    return values
                values.append(message.value().decode())
            raise TimeoutError(f"no end of {topic}")
        finally:
            consumer.close()

    def position(self, group, topic):
        consumer = self.consumer(group)
        try:
            return consumer.committed([TopicPartition(topic, 0)], WAIT_S)[0].offset
        finally:
            consumer.close()


@pytest.fixture(scope="module")
def shared():
    node = Node()
    yield node
    assert node.gateway.stop(60) == 0, node.gateway.log_text()
    node.gateway.check_log()
    node.gateway.close()


@pytest.fixture
def own():
    node = Node()
    yield node
    node.gateway.stop(60)
    node.gateway.check_log()
    node.gateway.close()


def write(producer, topic, *values):
    for value in values:
        producer.produce(topic, value.encode())
    assert producer.flush(WAIT_S) == 0


def test_only_committed_records_are_read(shared):
    topic, producer = shared.name("t"), shared.producer(shared.name("tx"))
    for end, values in ((producer.commit_transaction, "ab"), (producer.abort_transaction, "cd"),
                        (producer.commit_transaction, "ef")):
        producer.begin_transaction()
        write(producer, topic, *values)
        end(WAIT_S)
    assert shared.read(topic) == list("abef")
    assert shared.read(topic, "read_uncommitted") == list("abcdef")


def test_an_open_transaction_holds_readers_back(shared):
    topic, producer, plain = shared.name("t"), shared.producer(shared.name("tx")), shared.producer()
    write(plain, topic, "a")
    producer.begin_transaction()
    write(producer, topic, "b")
    write(plain, topic, "c")
    assert shared.read(topic) == ["a"]
    assert shared.read(topic, "read_uncommitted") == ["a", "b", "c"]
    producer.commit_transaction(WAIT_S)
    assert shared.read(topic) == ["a", "b", "c"]


def test_a_transaction_over_several_topics_ends_in_all(shared):
    topics, producer = [shared.name("t") for _ in range(3)], shared.producer(shared.name("tx"))
    producer.begin_transaction()
    for topic in topics:
        write(producer, topic, "x")
    assert [shared.read(topic) for topic in topics] == [[]] * 3
    producer.commit_transaction(WAIT_S)
    assert [shared.read(topic) for topic in topics] == [["x"]] * 3


def test_positions_are_the_groups_when_it_is_committed(shared):
    source, group, producer = shared.name("t"), shared.name("g"), shared.producer(shared.name("tx"))
    write(shared.producer(), source, *"abcdef")
    consumer = shared.consumer(group)
    consumer.assign([TopicPartition(source, 0, 0)])
    for end, at, then in ((producer.commit_transaction, 2, 2), (producer.abort_transaction, 5, 2),
                          (producer.commit_transaction, 4, 4)):
        producer.begin_transaction()
        producer.send_offsets_to_transaction([TopicPartition(source, 0, at)], consumer.consumer_group_metadata(),
                                             WAIT_S)
        end(WAIT_S)
        assert shared.position(group, source) == then
    consumer.close()


def test_a_new_producer_fences_the_old_and_rolls_back(shared):
    topic, name = shared.name("t"), shared.name("tx")
    zombie = shared.producer(name)
    zombie.begin_transaction()
    write(zombie, topic, "lost")
    heir = shared.producer(name)
    with pytest.raises(KafkaException) as refused:
        zombie.commit_transaction(WAIT_S)
    assert refused.value.args[0].fatal()
    heir.begin_transaction()
    write(heir, topic, "kept")
    heir.commit_transaction(WAIT_S)
    assert shared.read(topic) == ["kept"]


def test_a_transaction_that_takes_too_long_is_rolled_back(shared):
    topic, plain = shared.name("t"), shared.producer()
    slow = shared.producer(shared.name("tx"), transaction_timeout_ms=1000)
    slow.begin_transaction()
    write(slow, topic, "lost")
    write(plain, topic, "kept")
    wait_until(lambda: shared.read(topic) == ["kept"], WAIT_S, "the rollback")
    with pytest.raises(KafkaException):
        slow.commit_transaction(WAIT_S)


@pytest.mark.parametrize("how", ["stop", "kill9"])
def test_an_open_transaction_survives_a_restart(own, how):
    producer, group = own.producer("tx"), "g"
    write(own.producer(), "source", *"abc")
    consumer = own.consumer(group)
    consumer.assign([TopicPartition("source", 0, 0)])
    for end, value in ((producer.abort_transaction, "aborted"), (producer.commit_transaction, "committed")):
        producer.begin_transaction()
        write(producer, "t", value)
        producer.send_offsets_to_transaction([TopicPartition("source", 0, len(value) % 3)],
                                             consumer.consumer_group_metadata(), WAIT_S)
        getattr(own.gateway, how)()
        own.gateway.start()
        assert own.read("t") == []
        end(WAIT_S)
    assert own.read("t") == ["committed"]
    assert own.position(group, "source") == len("committed") % 3
    getattr(own.gateway, how)()
    own.gateway.start()
    assert own.read("t") == ["committed"]
    assert own.read("t", "read_uncommitted") == ["aborted", "committed"]
    producer.begin_transaction()
    write(producer, "t", "again")
    producer.commit_transaction(WAIT_S)
    assert own.read("t") == ["committed", "again"]
    consumer.close()


def test_an_idempotent_producer_goes_on_after_kills(own):
    producer = own.producer(linger_ms=1)
    for i in range(900):
        producer.produce("t", f"{i}".encode())
        producer.poll(0)
        if i % 300 == 150:
            own.gateway.kill9()
            own.gateway.start()
    assert producer.flush(WAIT_S) == 0
    assert own.read("t") == [f"{i}" for i in range(900)]


@pytest.mark.parametrize("before", ["abort_transaction", "commit_transaction"])
def test_a_rollback_of_what_never_came(own, before):
    """The gateway dies with AddPartitionsToTxn unread, then librdkafka rolls back: EndTxn(abort) of a transaction that is not known. Where
    the one before was committed that is INVALID_TXN_STATE, as by Apache Kafka: it could be a rollback of the committed one. The
    library's producer is at its end then; the next one of the same id goes on."""
    from eos import Notes  # it uses this file's Node
    notes = Notes()
    producer = Producer({**own.settings(), "transactional.id": "tx", "debug": "eos", "log_level": 7}, logger=notes.logger())
    producer.init_transactions(WAIT_S)

    def said(text):
        try:
            producer.poll(0.05)  # which brings the notes
        except KafkaException:
            pass
        return any(text in line for line in notes.lines)

    def rolled_back():
        """One transaction, then a second one of which the gateway hears the end only; what the rollback failed with."""
        notes.lines.clear()
        producer.begin_transaction()
        write(producer, "t", "first")
        getattr(producer, before)(WAIT_S)
        wait_until(lambda: said("NotAcked -> Ready"), WAIT_S, "all notes of the first")
        notes.lines.clear()
        os.kill(own.gateway.proc.pid, signal.SIGSTOP)  # so it reads nothing any more
        producer.begin_transaction()
        producer.produce("t", b"second")
        wait_until(lambda: said("Registering partitions with transaction"), WAIT_S, "AddPartitionsToTxn")
        own.gateway.kill9()
        with ThreadPoolExecutor() as pool:
            end = pool.submit(producer.abort_transaction, WAIT_S)
            wait_until(lambda: said("BeginAbort -> AbortingTransaction"), WAIT_S, "EndTxn")  # it does not ask for partitions now
            own.gateway.start()
            return end.exception(WAIT_S)

    firsts, error = 1, rolled_back()
    while before == "commit_transaction" and error is None and firsts < 10:  # the library had not asked yet: nothing to roll back
        firsts, error = firsts + 1, rolled_back()
    if before == "abort_transaction":
        assert error is None
    else:
        assert error.args[0].fatal() and error.args[0].code() == KafkaError.INVALID_TXN_STATE
        producer = own.producer("tx")
    producer.begin_transaction()
    write(producer, "t", "third")
    producer.commit_transaction(WAIT_S)
    assert own.read("t") == ["first"] * (firsts if before == "commit_transaction" else 0) + ["third"]


def test_the_ledger_tells_what_is_lost_and_what_is_twice():
    from collections import Counter

    from eos import audit  # it uses this file's Node
    assert audit("t", Counter({1: 1, 2: 1}), {1, 2}, {1, 2, 3}) == []
    assert "twice" in audit("t", Counter({1: 2}), {1}, {1})[0]
    assert "lost" in audit("t", Counter({1: 1}), {1, 2}, {1, 2})[0]
    assert "nobody wrote" in audit("t", Counter({1: 1, 9: 1}), {1}, {1})[0]
