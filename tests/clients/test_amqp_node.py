"""What the node does to its connections: memory pressure, an administrator who closes them, the end."""
import time

import pytest
from pika import spec

from mqtest import wire
from mqtest.broker import Gateway
from mqtest.fixtures import keep_alive_broker
from mqtest.wire import Conn

pytestmark = pytest.mark.timeout(90)
PIECE = b"x" * 65536
LIMIT_MIB = 24


@pytest.fixture(scope="module")
def small(broker_kind):
    """A broker that can be brought under memory pressure."""
    kind = (lambda: Gateway({"limits.memory": f"{LIMIT_MIB}MiB"})) if broker_kind is Gateway else broker_kind
    with keep_alive_broker(kind) as made:
        yield made


class Pressure:
    """Memory pressure: the gateway is filled beyond limits.memory, RabbitMQ is told that it has no memory."""

    def __init__(self, broker, queue):
        self.broker, self.queue = broker, queue
        self.filler = Conn(broker).connect()
        # The gateway puts transient messages aside rather than be blocked, but not those of priority queues.
        self.filler.rpc(1, spec.Queue.Declare(queue=queue, arguments={"x-max-priority": 1}), spec.Queue.DeclareOk)

    def begin(self):
        if self.broker.is_rabbitmq:
            self.filler.publish(1, "", self.queue, b"m")
            self.filler.rpc(1, spec.Basic.Qos(0, 1, False), spec.Basic.QosOk)
            self.broker.ctl("set_vm_memory_high_watermark", "absolute", "1")
            self.filler.publish(1, "", self.queue, b"m")
        else:
            self.filler.sock.settimeout(0.2)
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                try:
                    self.filler.publish(1, "", self.queue, PIECE)
                except TimeoutError:
                    break
        self.filler.wait_method(spec.Connection.Blocked, 20)

    def end(self):
        if self.broker.is_rabbitmq:
            self.broker.ctl("set_vm_memory_high_watermark", "0.4")
        else:
            with Conn(self.broker).connect() as other:
                other.rpc(1, spec.Queue.Purge(queue=self.queue), spec.Queue.PurgeOk)

    def close(self):
        self.filler.abort()
        self.end()
        with Conn(self.broker).connect() as other:
            other.rpc(1, spec.Queue.Delete(queue=self.queue), spec.Queue.DeleteOk)


@pytest.fixture
def pressure(small, unique):
    made = Pressure(small, unique("filled"))
    yield made
    made.close()


def test_publisher_is_blocked_and_unblocked(small, pressure, unique):
    pressure.begin()
    with Conn(small).connect() as conn:
        conn.publish(1, "", unique("none"), b"m")
        blocked = conn.wait_method(spec.Connection.Blocked, 10)
        assert blocked.reason == "low on memory"
        pressure.end()
        conn.wait_method(spec.Connection.Unblocked, 20)
        conn.rpc(1, spec.Basic.Qos(0, 1, False), spec.Basic.QosOk)


def test_consumer_is_served_under_pressure(small, pressure):
    pressure.begin()
    with Conn(small).connect() as conn:
        conn.rpc(1, spec.Basic.Qos(0, 1, False), spec.Basic.QosOk)
        conn.send(1, spec.Basic.Consume(queue=pressure.queue, consumer_tag="t"))
        conn.wait_method(spec.Basic.ConsumeOk)
        assert conn.read_content()[0].delivery_tag == 1
        conn.send(1, spec.Basic.Ack(1))


def test_only_publishers_are_told(small, pressure):
    """A client that only consumes must not take itself for blocked: some give up their connection then."""
    pressure.begin()
    with Conn(small).connect() as conn:
        conn.rpc(1, spec.Basic.Qos(0, 1, False), spec.Basic.QosOk)
        conn.rpc(1, spec.Basic.Consume(queue=pressure.queue, consumer_tag="t"), spec.Basic.ConsumeOk)
        conn.read_content()
        conn.send(1, spec.Basic.Cancel(consumer_tag="t"))
        conn.wait_method(spec.Basic.CancelOk)
        assert conn.notices == []


def test_heartbeat_of_a_blocked_publisher_is_not_judged(small, pressure, unique):
    """We do not read it, so its silence says nothing."""
    pressure.begin()
    with Conn(small).connect(heartbeat=1) as conn:
        conn.publish(1, "", unique("none"), b"m")
        conn.wait_method(spec.Connection.Blocked, 10)
        until = time.monotonic() + 4
        while time.monotonic() < until:
            kind, _, _ = conn.read_raw_frame(timeout_s=30)
            assert kind == wire.HEARTBEAT
        pressure.end()
        conn.wait_method(spec.Connection.Unblocked, 20)


def test_stage_recovers_by_its_own_acks(small, pressure, unique):
    """A client that publishes one message for each that it takes, on one connection, works the node out of its
    pressure. RabbitMQ stops reading such a connection, acks and all, and waits for ever: there it runs without."""
    if small.is_rabbitmq:
        for _ in range(300):
            pressure.filler.publish(1, "", pressure.queue, PIECE)
        pressure.filler.rpc(1, spec.Basic.Qos(0, 1, False), spec.Basic.QosOk)
    else:
        pressure.begin()
    target = unique("target")
    with Conn(small).connect() as conn:
        waiting = conn.rpc(1, spec.Queue.Declare(queue=pressure.queue, passive=True), spec.Queue.DeclareOk).message_count
        assert waiting > 250
        conn.rpc(1, spec.Queue.Declare(queue=target, exclusive=True), spec.Queue.DeclareOk)
        conn.rpc(1, spec.Basic.Qos(0, 10, False), spec.Basic.QosOk)
        conn.rpc(1, spec.Basic.Consume(queue=pressure.queue, consumer_tag="t"), spec.Basic.ConsumeOk)
        for _ in range(waiting):
            tag = content_past_notices(conn)
            conn.publish(1, "", target, b"x" * 1024)
            conn.send(1, spec.Basic.Ack(tag))
    if not small.is_rabbitmq:
        pressure.filler.wait_method(spec.Connection.Unblocked, 10)


def content_past_notices(conn):
    """The delivery tag of the next delivery; connection.blocked may come before it."""
    while True:
        kind, _, payload = conn.read_raw_frame()
        if kind == wire.METHOD and payload[:4] == b"\x00\x3c\x00\x3c":
            at = 5 + payload[4]
            return int.from_bytes(payload[at:at + 8], "big")


# -- closed by others -----------------------------------------------------------------------------
def test_administrator_closes_all_connections(small):
    with Conn(small).connect() as conn:
        small.ctl("close_all_connections", "maintenance at noon")
        end = conn.closing()
        assert (end.scope, end.code) == ("connection", 320)
        assert end.text.startswith("CONNECTION_FORCED - ") and "maintenance at noon" in end.text


def test_stop_says_goodbye(broker_kind):
    """A clean stop closes connections with 320, and queues keep what was confirmed."""
    with keep_alive_broker(broker_kind) as made, Conn(made).connect() as conn:
        conn.rpc(1, spec.Queue.Declare(queue="kept", durable=True), spec.Queue.DeclareOk)
        conn.rpc(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
        conn.publish(1, "", "kept", b"m", props=b"\x10\x00\x02")
        conn.expect(spec.Basic.Ack)
        assert made.stop() == 0
        end = conn.closing()
        assert (end.scope, end.code) == ("connection", 320) and end.text.startswith("CONNECTION_FORCED - ")
        made.start()
        with Conn(made).connect() as again:
            again.send(1, spec.Basic.Get(queue="kept", no_ack=True))
            assert again.read_content()[2] == b"m"


def test_second_start_on_the_same_data_is_refused(broker_kind, own_broker):
    """Two processes must not write one store; the second one says so and ends."""
    if own_broker.is_rabbitmq:
        return  # its node name is what is taken
    second = Gateway({"store.journal.path": own_broker.settings["store.journal.path"]})
    try:
        with pytest.raises(Exception) as caught:
            second.start()
        assert "ended with" in str(caught.value)
    finally:
        second.close()
    with Conn(own_broker).connect() as conn:
        conn.rpc(1, spec.Basic.Qos(0, 1, False), spec.Basic.QosOk)
