"""Streams as addresses of others: an exchange that fronts a stream (x-stream), the bridge to amq.topic."""
import contextlib

import pytest
from pika import exceptions

from mqtest.pika_help import Sink, get_body, put

USER, PASSWORD = "narrow", "narrow-secret"


@pytest.fixture(autouse=True)
def only_here(broker_kind):
    if broker_kind.name != "mqgate":
        pytest.skip("an extension: not compared")


@contextlib.contextmanager
def refused(text):
    """The block ends with 406 on the channel, and a text that says this."""
    with pytest.raises(exceptions.ChannelClosedByBroker) as caught:
        yield
    assert caught.value.reply_code == 406 and text in caught.value.reply_text


def reader(amqp, stream):
    ch = amqp.channel(new_connection=True)
    ch.basic_qos(prefetch_count=100)
    return Sink(ch, stream, arguments={"x-stream-offset": "first"})


def bodies(amqp, stream, count):
    sink = reader(amqp, stream)
    sink.idle(count)
    return sink.bodies


@pytest.fixture
def front(amqp, unique):
    """front(kind, ...) declares an exchange before a stream; both go at the end."""
    made = []

    def make(kind="direct", **arguments):
        ch, name = amqp.channel(confirm=True), unique("front")
        ch.exchange_declare(name, kind, durable=True, arguments={"x-stream": True, **arguments})
        made.append(name)
        return ch, name
    yield make
    ch = amqp.channel()
    for name in made:
        ch.exchange_delete(name)
        ch.queue_delete(name)


# -- the front ------------------------------------------------------------------------------------------
def test_front_makes_its_stream_and_keeps_all(amqp, front):
    """What is published to the exchange is appended to the stream, whatever its key, bound or not."""
    ch, x = front("direct")
    q = amqp.queue(ch)
    ch.queue_bind(q, x, "one")
    for n, key in enumerate(["one", "two", "one"]):
        ch.basic_publish(x, key, b"%d" % n, mandatory=True)
    assert [get_body(ch, q), get_body(ch, q)] == [b"0", b"2"]
    got = reader(amqp, x).idle(3)
    assert [body for _, _, body in got] == [b"0", b"1", b"2"]
    assert [(d.exchange, d.routing_key) for d, _, _ in got] == [(x, "one"), (x, "two"), (x, "one")]


def test_what_is_appended_by_routing_is_not_routed_again(amqp, front):
    """Each bound queue gets it once: neither the stream nor its cursor sends it round."""
    ch, x = front("fanout")
    q = amqp.queue(ch)
    ch.queue_bind(q, x)
    ch.queue_bind(x, x)  # the stream, too
    for n in range(20):
        ch.basic_publish(x, "k", b"%d" % n)
    put(ch, x, b"straight to the stream")
    assert len(bodies(amqp, x, 21)) == 21
    sink = Sink(ch, q)
    sink.idle(20)
    assert sink.bodies == [b"%d" % n for n in range(20)]


def test_front_with_partitions(amqp, front):
    ch, x = front("topic", **{"x-stream-partitions": 3})
    ok = amqp.channel().queue_declare(x, durable=True, passive=True)
    assert ok.method.queue == x
    with refused("x-mqgate-partitions"):
        amqp.channel().queue_declare(x, durable=True, arguments={
            "x-queue-type": "stream", "x-mqgate-partitions": "three"})
    ch.basic_publish(x, "k", b"1", mandatory=True)


def test_front_is_durable(amqp, unique):
    ch = amqp.channel()
    with refused("must be durable"):
        ch.exchange_declare(unique(), "direct", durable=False, arguments={"x-stream": True})


def test_front_takes_true_or_false(amqp, unique):
    ch = amqp.channel()
    with refused("wants true or false"):
        ch.exchange_declare(unique(), "direct", durable=True, arguments={"x-stream": "yes"})


def test_front_of_a_queue_is_refused(amqp):
    ch = amqp.channel()
    q = amqp.queue(ch)
    with refused("not a stream"):
        ch.exchange_declare(q, "direct", durable=True, arguments={"x-stream": True})


def test_front_again_must_be_a_front(amqp, front):
    ch, x = front()
    ch.exchange_declare(x, "direct", durable=True, arguments={"x-stream": True})
    with refused("x-stream"):
        ch.exchange_declare(x, "direct", durable=True)


def test_front_over_a_stream_that_is_there(amqp, front, unique):
    ch, name = amqp.channel(confirm=True), unique()
    amqp.queue(ch, name, durable=True, arguments={"x-queue-type": "stream"})
    put(ch, name, b"before")
    amqp.exchange(ch, "fanout", name, durable=True, arguments={"x-stream": True})
    ch.basic_publish(name, "", b"through")
    assert bodies(amqp, name, 2) == [b"before", b"through"]


# -- the bridge -----------------------------------------------------------------------------------------
@pytest.fixture
def bridged(amqp, unique):
    """bridged(bits): a stream that is an address of amq.topic."""
    def make(bits):
        ch = amqp.channel(confirm=True)
        return ch, amqp.queue(ch, unique("br") + ".eu", durable=True,
                              arguments={"x-queue-type": "stream", "x-mqgate-bridge": bits})
    return make


def test_bridge_in(amqp, bridged):
    ch, stream = bridged(1)
    q = amqp.queue(ch)
    ch.queue_bind(q, "amq.topic", stream.rsplit(".", 1)[0] + ".*")
    ch.basic_publish("amq.topic", stream, b"both", mandatory=True)
    ch.basic_publish("amq.topic", stream + ".more", b"none")
    assert bodies(amqp, stream, 1) == [b"both"]
    assert get_body(ch, q) == b"both"


def test_bridge_bound_as_well_takes_once(amqp, bridged):
    ch, stream = bridged(3)
    ch.queue_bind(stream, "amq.topic", "#")
    ch.basic_publish("amq.topic", stream, b"once")
    ch.basic_publish("amq.topic", "elsewhere", b"bound")
    assert bodies(amqp, stream, 2) == [b"once", b"bound"]


@pytest.mark.parametrize("bits", [0, 2])
def test_no_bridge_in(amqp, bridged, bits):
    ch, stream = bridged(bits)
    ch.basic_publish("amq.topic", stream, b"not here")
    put(ch, stream, b"end")
    assert bodies(amqp, stream, 1) == [b"end"]


def test_bridge_bits_are_checked(amqp, unique):
    ch = amqp.channel()
    with refused("x-mqgate-bridge"):
        ch.queue_declare(unique(), durable=True, arguments={"x-queue-type": "stream", "x-mqgate-bridge": 4})


def test_bridge_wants_both_rights(amqp, bridged, broker):
    """Who may write to amq.topic only crosses no bridge; who may write to both does, at once."""
    ch, stream = bridged(1)
    broker.ctl("add_user", USER, PASSWORD)
    try:
        broker.ctl("set_permissions", "-p", "/", USER, "^$", "^amq\\.topic$", "^$")
        other = amqp.connect(user=USER, password=PASSWORD).channel()
        other.confirm_delivery()
        other.basic_publish("amq.topic", stream, b"denied")
        broker.ctl("set_permissions", "-p", "/", USER, "^$", "^(amq\\.topic|%s)$" % stream, "^$")
        other.basic_publish("amq.topic", stream, b"allowed", mandatory=True)
        assert bodies(amqp, stream, 1) == [b"allowed"]
    finally:
        broker.ctl("delete_user", USER)
