"""What a clean restart keeps: durable definitions and persistent messages, and nothing else."""
import time

import pika
import pytest
from pika import exceptions

from mqtest.fixtures import keep_alive_broker
from mqtest.pika_help import Amqp, drain, get, get_body, put

pytestmark = pytest.mark.timeout(90)


@pytest.fixture(scope="module")
def restarted(broker_kind):
    """A broker that was filled, stopped and started again; one restart serves all tests here."""
    with keep_alive_broker(broker_kind) as made:
        conn = pika.BlockingConnection(pika.URLParameters(made.url))
        fill(conn.channel())
        conn.close()
        made.stop()
        # longer than the time to live of queue "short"
        time.sleep(0.4)  # lint:allow banned_calls a time to live runs out while nobody is there to ask
        made.start()
        yield made


def fill(ch):
    ch.confirm_delivery()
    for name, kind in [("xd", "direct"), ("xt", "topic"), ("xh", "headers"), ("xf", "fanout")]:
        ch.exchange_declare(name, kind, durable=True)
    ch.exchange_declare("xauto", "direct", durable=True, auto_delete=True)
    ch.exchange_declare("xalt", "direct", durable=True, arguments={"alternate-exchange": "xf"})
    ch.exchange_declare("gone-x", "direct")
    ch.queue_declare("plain", durable=True)
    ch.queue_declare("args", durable=True, arguments={"x-max-length": 7, "x-dead-letter-exchange": "xf"})
    ch.queue_declare("quorum", durable=True, arguments={"x-queue-type": "quorum"})
    ch.queue_declare("priority", durable=True, arguments={"x-max-priority": 3})
    ch.queue_declare("ttl", durable=True, arguments={"x-message-ttl": 600000})
    ch.queue_declare("short", durable=True, arguments={"x-message-ttl": 300})
    ch.queue_declare("gone-q")
    ch.queue_bind("plain", "xd", "key")
    ch.queue_bind("plain", "xt", "a.#")
    ch.queue_bind("plain", "xh", "", arguments={"x-match": "any", "h": 1})
    ch.queue_bind("plain", "gone-x", "key")
    ch.queue_bind("gone-q", "xd", "key")
    ch.exchange_bind("xd", "xf", "")
    ch.queue_bind("args", "xauto", "k")
    for q in ("plain", "quorum", "gone-q", "short"):
        put(ch, q, *[b"p%d" % n for n in range(20)], delivery_mode=2)
    put(ch, "plain", b"transient", delivery_mode=1)
    put(ch, "plain", b"no mode")
    put(ch, "plain", b"last", delivery_mode=2, headers={"h": [1, {"t": None}]}, message_id="m", priority=3)
    for priority in (0, 3, 1):
        put(ch, "priority", b"%d" % priority, priority=priority, delivery_mode=2)
    put(ch, "ttl", b"x" * 300_000, delivery_mode=2, expiration="500000")
    put(ch, "args", b"acked", b"held", b"got", delivery_mode=2)
    assert get_body(ch, "args") == b"acked"
    get(ch, "args", auto_ack=False)


@pytest.fixture
def amqp(restarted, unique):
    helper = Amqp(restarted, unique)
    yield helper
    helper.close()


def test_persistent_messages_in_order(amqp):
    ch = amqp.channel()
    got = [get(ch, "plain") for _ in range(21)]
    assert [body for _, _, body in got] == [b"p%d" % n for n in range(20)] + [b"last"]
    assert ch.basic_get("plain")[0] is None
    props = got[-1][1]
    assert (props.headers, props.message_id, props.priority, props.delivery_mode) == (
        {"h": [1, {"t": None}]}, "m", 3, 2)


def test_acked_is_gone_and_unacked_is_back(amqp):
    ch = amqp.channel()
    first = get(ch, "args")
    assert (first[2], first[0].redelivered) == (b"held", True)
    assert get_body(ch, "args") == b"got"


def test_quorum_queue(amqp):
    assert drain(amqp.channel(), "quorum", 20) == [b"p%d" % n for n in range(20)]


def test_priorities(amqp):
    assert drain(amqp.channel(), "priority", 3) == [b"3", b"1", b"0"]


def test_large_message_and_expiration(amqp):
    _, props, body = get(amqp.channel(), "ttl")
    assert (len(body), props.expiration) == (300_000, "500000")


def test_time_goes_on_while_down(amqp):
    """Messages whose time ended while the broker was down are not delivered."""
    assert amqp.channel().basic_get("short")[0] is None


@pytest.mark.parametrize("action", [
    pytest.param(lambda ch: ch.queue_declare("gone-q", passive=True), id="queue"),
    pytest.param(lambda ch: ch.exchange_declare("gone-x", passive=True), id="exchange"),
])
def test_transient_definitions_are_gone(amqp, action):
    with pytest.raises(exceptions.ChannelClosedByBroker) as caught:
        action(amqp.channel())
    assert caught.value.reply_code == 404


def test_definitions_are_equivalent(amqp):
    ch = amqp.channel()
    ch.queue_declare("args", durable=True, arguments={"x-max-length": 7, "x-dead-letter-exchange": "xf"})
    ch.queue_declare("quorum", durable=True, arguments={"x-queue-type": "quorum"})
    ch.exchange_declare("xalt", "direct", durable=True, arguments={"alternate-exchange": "xf"})
    ch.exchange_declare("xauto", "direct", durable=True, auto_delete=True)
    ch.exchange_declare("xh", "headers", durable=True)


@pytest.mark.parametrize("exchange,key,headers", [
    ("xd", "key", None), ("xt", "a.b.c", None), ("xh", "", {"h": 1}), ("xf", "key", None), ("xalt", "key", None),
])
def test_bindings_work(amqp, exchange, key, headers):
    ch = amqp.channel(confirm=True)
    ch.queue_purge("plain")
    ch.basic_publish(exchange, key, b"again", pika.BasicProperties(headers=headers), mandatory=True)
    assert get_body(ch, "plain") == b"again"
