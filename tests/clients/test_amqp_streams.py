"""Stream queues over AMQP: x-queue-type: stream, offsets, many readers, and what streams refuse."""
import datetime
import decimal
import socket
import time

import pika
import pytest

from mqtest.fixtures import keep_alive_broker
from mqtest.pika_help import Sink, closes, exists, pump, put

STREAM = {"x-queue-type": "stream"}


@pytest.fixture
def stream(amqp):
    """stream(...) declares a stream queue and returns (channel with confirms, name)."""
    def make(**arguments):
        ch = amqp.channel(confirm=True)
        return ch, amqp.queue(ch, durable=True, arguments={**STREAM, **arguments})
    return make


def bodies(first, last):
    return [b"%d" % n for n in range(first, last + 1)]


def reader(amqp, queue, offset=None, prefetch=100):
    """A consumer of its own connection, from an offset."""
    ch = amqp.channel(new_connection=True)
    ch.basic_qos(prefetch_count=prefetch)
    arguments = {} if offset is None else {"x-stream-offset": offset}
    return Sink(ch, queue, arguments=arguments)


def ack_all(sink):
    sink.ch.basic_ack(sink.tags[-1], multiple=True)


# -- reading ----------------------------------------------------------------------------------------
def test_reading_does_not_empty_it(amqp, stream):
    ch, q = stream()
    put(ch, q, *bodies(1, 20))
    for _ in range(3):
        sink = reader(amqp, q, "first")
        sink.idle(20)
        assert sink.bodies == bodies(1, 20)
        ack_all(sink)


def test_offsets_on_deliveries(amqp, stream):
    ch, q = stream()
    put(ch, q, *bodies(0, 9))
    got = reader(amqp, q, "first").idle(10)
    assert [props.headers["x-stream-offset"] for _, props, _ in got] == list(range(10))
    assert [d.redelivered for d, _, _ in got] == [False] * 10
    assert [(d.exchange, d.routing_key) for d, _, _ in got] == [("", q)] * 10


@pytest.mark.parametrize("offset,first", [(0, 0), (7, 7), (9, 9)])
def test_from_an_offset(amqp, stream, offset, first):
    ch, q = stream()
    put(ch, q, *bodies(0, 9))
    sink = reader(amqp, q, offset)
    sink.idle(10 - first)
    assert sink.bodies == bodies(first, 9)


def test_from_an_offset_beyond_the_end(amqp, stream):
    """What lies before the offset is not delivered when it comes later."""
    ch, q = stream()
    put(ch, q, *bodies(0, 4))
    sink = reader(amqp, q, 8)
    put(ch, q, *bodies(5, 9))
    sink.idle(2)
    assert sink.bodies == bodies(8, 9)


@pytest.mark.parametrize("offset", ["next", None])
def test_next_is_what_comes_from_now_on(amqp, stream, offset):
    ch, q = stream()
    put(ch, q, b"old")
    sink = reader(amqp, q, offset)
    put(ch, q, b"new 1")
    put(ch, q, b"new 2")
    sink.idle(2)
    assert sink.bodies == [b"new 1", b"new 2"]


def test_last_begins_with_the_newest_batch(amqp, stream):
    ch, q = stream()
    put(ch, q, *bodies(0, 9))
    sink = reader(amqp, q, "last")
    sink.wait(1)
    assert sink.bodies[-1] == b"9" and 1 <= len(sink.bodies) <= 10
    put(ch, q, b"10")
    pump(sink.ch, lambda: sink.bodies[-1] == b"10")


@pytest.mark.parametrize("offset", [
    lambda: datetime.datetime.utcnow() - datetime.timedelta(hours=1), lambda: "1h", lambda: "2Y", lambda: "30s"])
def test_from_a_time_in_the_past(amqp, stream, offset):
    ch, q = stream()
    put(ch, q, *bodies(0, 4))
    sink = reader(amqp, q, offset())
    sink.idle(5)
    assert sink.bodies == bodies(0, 4)


def test_from_a_time_to_come(amqp, stream):
    ch, q = stream()
    put(ch, q, *bodies(0, 4))
    sink = reader(amqp, q, datetime.datetime.utcnow() + datetime.timedelta(hours=1))
    put(ch, q, b"5")
    sink.wait(1)
    assert b"4" not in sink.bodies and sink.bodies[-1] == b"5"


def test_an_empty_stream(amqp, stream):
    ch, q = stream()
    sinks = [reader(amqp, q, offset) for offset in ("first", "last", "next", 0)]
    put(ch, q, b"m")
    for sink in sinks:
        sink.idle(1)
        assert sink.bodies == [b"m"]


def test_many_readers_at_their_own_pace(amqp, stream):
    ch, q = stream()
    sinks = [reader(amqp, q, "first", prefetch=n) for n in (1, 2, 10, 1000)]
    put(ch, q, *bodies(1, 100))
    for sink in sinks:
        while len(sink.got) < 100:
            before = len(sink.got)
            sink.wait(before + 1)
            ack_all(sink)
        assert sink.bodies == bodies(1, 100)


def test_two_consumers_of_one_channel(amqp, stream):
    ch, q = stream()
    put(ch, q, *bodies(0, 9))
    ch.basic_qos(prefetch_count=100)
    sinks = [Sink(ch, q, arguments={"x-stream-offset": offset}) for offset in ("first", 5)]
    sinks[0].idle(10)
    sinks[1].idle(5)
    assert sinks[0].bodies == bodies(0, 9) and sinks[1].bodies == bodies(5, 9)


def test_cancelled_consumer_gets_no_more(amqp, stream):
    ch, q = stream()
    sink = reader(amqp, q, "first")
    put(ch, q, b"1")
    sink.idle(1)
    sink.ch.basic_cancel(sink.tag)
    put(ch, q, b"2")
    sink.idle(1)


def test_unacked_is_not_given_again(amqp, stream):
    """A stream has no redelivery: a reader begins where it says."""
    ch, q = stream()
    put(ch, q, *bodies(0, 4))
    sink = reader(amqp, q, "first")
    sink.idle(5)
    sink.ch.close()
    assert [d.redelivered for d, _, _ in reader(amqp, q, 3).idle(2)] == [False, False]


def test_large_and_empty_messages(amqp, stream):
    ch, q = stream()
    large = bytes(range(256)) * 12000
    put(ch, q, b"", large, b"x")
    sink = reader(amqp, q, "first")
    sink.idle(3)
    assert sink.bodies == [b"", large, b"x"]


def test_confirms_of_messages_without_delivery_mode(amqp, stream):
    """What is confirmed is there, persistent or not: a stream keeps everything."""
    ch, q = stream()
    put(ch, q, b"transient", delivery_mode=1)
    put(ch, q, b"persistent", delivery_mode=2)
    got = reader(amqp, q, "first").idle(2)
    assert [body for _, _, body in got] == [b"transient", b"persistent"]


# -- credit -----------------------------------------------------------------------------------------
def test_acknowledgements_give_credit(broker, amqp, stream):
    if broker.is_rabbitmq:
        pytest.skip("RabbitMQ delivers whole chunks, beyond the prefetch count")
    ch, q = stream()
    put(ch, q, *bodies(1, 10))
    sink = reader(amqp, q, "first", prefetch=3)
    sink.idle(3)
    sink.ch.basic_ack(sink.tags[0])
    sink.idle(4)
    ack_all(sink)
    sink.idle(7)
    assert sink.bodies == bodies(1, 7)


# -- properties and headers ---------------------------------------------------------------------------
def test_properties_and_headers_come_back(broker, amqp, stream):
    ch, q = stream()
    x = amqp.exchange(ch, "headers")
    ch.queue_bind(q, x, arguments={"x-match": "all", "n": 5})
    headers = {"n": 5, "text": "täxt", "bytes": b"\x00\xff", "true": True, "false": False, "big": 2**40, "neg": -3,
               "none": None, "dec": decimal.Decimal("12.34"), "when": datetime.datetime(2024, 2, 29),
               "list": [1, "a", None, {"x": [True]}], "table": {"a": 1, "b": {"c": "d"}}, "": "nameless"}
    if broker.is_rabbitmq:  # it keeps scalars only
        headers = {k: headers[k] for k in ("n", "text", "true", "false", "big", "neg")}
    props = pika.BasicProperties(
        content_type="text/plain", content_encoding="utf-8", correlation_id="c", reply_to="r", message_id="m",
        type="t", app_id="a", user_id="guest", timestamp=1700000000, priority=7, expiration="60000", delivery_mode=2,
        headers=headers)
    ch.basic_publish(x, "the.key", b"body", props)
    deliver, got, body = reader(amqp, q, "first").idle(1)[0]
    assert (deliver.exchange, deliver.routing_key, body) == (x, "the.key", b"body")
    assert got.headers.pop("x-stream-offset") == 0
    if not broker.is_rabbitmq:
        assert got.headers["true"] is True and list(got.headers) == list(headers)
        assert vars(got) == vars(props)
    assert got.headers == headers
    assert (got.content_type, got.correlation_id, got.message_id) == ("text/plain", "c", "m")


def test_no_properties(broker, amqp, stream):
    if broker.is_rabbitmq:
        pytest.skip("RabbitMQ adds a delivery mode")
    ch, q = stream()
    put(ch, q, b"m")
    _, props, _ = reader(amqp, q, "first").idle(1)[0]
    assert vars(props) == vars(pika.BasicProperties(headers={"x-stream-offset": 0}))


# -- routing ------------------------------------------------------------------------------------------
def test_bindings_and_one_copy_each(amqp, stream):
    ch, q = stream()
    other = amqp.queue(ch)
    x = amqp.exchange(ch, "topic")
    for key in ("a.*", "#", "a.b"):
        ch.queue_bind(q, x, key)
    ch.queue_bind(other, x, "a.b")
    ch.basic_publish(x, "a.b", b"one")
    ch.basic_publish(x, "c", b"two")
    sink = reader(amqp, q, "first")
    sink.idle(2)
    assert sink.bodies == [b"one", b"two"]
    assert ch.basic_get(other, auto_ack=True)[2] == b"one"
    ch.queue_unbind(q, x, "#")
    ch.basic_publish(x, "c", b"three")
    sink.idle(2)


def test_mandatory_is_routed(amqp, stream):
    ch, q = stream()
    ch.basic_publish("", q, b"m", mandatory=True)


def test_dead_letters_go_to_a_stream(broker, amqp, stream):
    if broker.is_rabbitmq:
        pytest.skip("RabbitMQ 3.10 loses them")
    ch, q = stream()
    dying = amqp.queue(ch, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": q,
                                      "x-message-ttl": 1})
    put(ch, dying, b"dead")
    _, props, body = reader(amqp, q, "first").wait(1)[0]
    assert body == b"dead" and props.headers["x-death"][0]["reason"] == "expired"


def test_transaction(amqp, stream):
    ch, q = stream()
    tx = amqp.channel()
    tx.tx_select()
    put(tx, q, b"1", b"2")
    tx.tx_rollback()
    put(tx, q, b"3")
    tx.tx_commit()
    sink = reader(amqp, q, "first")
    sink.idle(1)
    assert sink.bodies == [b"3"]


# -- definitions --------------------------------------------------------------------------------------
def text(amqp, q):
    return f"queue '{q}' in vhost '/'"


@pytest.mark.parametrize("kw,what", [
    ({"durable": False}, "non-durable"),
    ({"durable": True, "auto_delete": True}, "auto-delete"),
    ({"durable": True, "exclusive": True}, "exclusive-owner"),
])
def test_only_durable_and_shared(amqp, unique, kw, what):
    q = unique("q")
    with closes("channel", 406, f"PRECONDITION_FAILED - invalid property '{what}' for {text(amqp, q)}"):
        amqp.channel().queue_declare(q, arguments=STREAM, **kw)


@pytest.mark.parametrize("arg,value,text_of", [
    ("x-max-age", "5x", "invalid arg 'x-max-age' for {q}: invalid_max_age"),
    ("x-max-age", "0s", "invalid arg 'x-max-age' for {q}: invalid_max_age"),
    ("x-max-age", 5, "invalid arg 'x-max-age' for {q}: {{unacceptable_type,signedint}}"),
    ("x-max-length-bytes", -1, "invalid arg 'x-max-length-bytes' for {q}: {{value_negative,-1}}"),
    ("x-stream-max-segment-size-bytes", 3000000001,
     "Exceeded max value for x-stream-max-segment-size-bytes"),
    ("x-message-ttl", 1000, "invalid arg 'x-message-ttl' for {q} of queue type rabbit_stream_queue"),
    ("x-max-length", 5, "invalid arg 'x-max-length' for {q} of queue type rabbit_stream_queue"),
    ("x-max-priority", 5, "invalid arg 'x-max-priority' for {q} of queue type rabbit_stream_queue"),
    ("x-dead-letter-exchange", "x", "invalid arg 'x-dead-letter-exchange' for {q} of queue type rabbit_stream_queue"),
    ("x-single-active-consumer", True,
     "invalid arg 'x-single-active-consumer' for {q} of queue type rabbit_stream_queue"),
    ("x-initial-cluster-size", 0, "invalid arg 'x-initial-cluster-size' for {q}: {{value_zero,0}}"),
])
def test_arguments_are_checked(amqp, unique, arg, value, text_of):
    q = unique("q")
    with closes("channel", 406, "PRECONDITION_FAILED - " + text_of.format(q=text(amqp, q))):
        amqp.channel().queue_declare(q, durable=True, arguments={**STREAM, arg: value})


@pytest.mark.parametrize("arg", ["x-max-age", "x-stream-max-segment-size-bytes"])
def test_arguments_of_streams_on_a_queue(amqp, unique, arg):
    q = unique("q")
    with closes("channel", 406, f"PRECONDITION_FAILED - invalid arg '{arg}' for {text(amqp, q)} of queue type "
                                "rabbit_classic_queue"):
        amqp.channel().queue_declare(q, arguments={arg: "1h" if arg == "x-max-age" else 1000})


def test_declared_again(amqp, stream):
    ch, q = stream(**{"x-max-age": "1h", "x-max-length-bytes": 1000000})
    assert amqp.channel().queue_declare(q, durable=True, arguments={
        **STREAM, "x-max-age": "1h", "x-max-length-bytes": 1000000}).method.queue == q
    with closes("channel", 406, "PRECONDITION_FAILED - inequivalent arg 'x-max-age' for "
                f"{text(amqp, q)}: received '2h' but current is '1h'"):
        amqp.channel().queue_declare(q, durable=True, arguments={
            **STREAM, "x-max-age": "2h", "x-max-length-bytes": 1000000})


def test_a_queue_is_no_stream_and_a_stream_no_queue(amqp, stream):
    _, q = stream()
    with closes("channel", 406, f"PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for {text(amqp, q)}: "
                "received none but current is the value 'stream' of type 'longstr'"):
        amqp.channel().queue_declare(q, durable=True)
    classic = amqp.queue(amqp.channel(), durable=True)
    with closes("channel", 406, f"PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for {text(amqp, classic)}: "
                "received the value 'stream' of type 'longstr' but current is none"):
        amqp.channel().queue_declare(classic, durable=True, arguments=STREAM)


def test_passive_declare_counts(broker, amqp, stream):
    ch, q = stream()
    put(ch, q, *bodies(1, 5))
    sink = reader(amqp, q, "first")
    sink.idle(5)
    if broker.is_rabbitmq:
        pytest.skip("RabbitMQ counts every few seconds, and never consumers")
    ok = ch.queue_declare(q, passive=True).method
    assert (ok.queue, ok.message_count, ok.consumer_count) == (q, 5, 1)


def test_delete_cancels_its_readers(amqp, stream):
    ch, q = stream()
    put(ch, q, b"m")
    sink = reader(amqp, q, "first")
    sink.idle(1)
    gone = []
    sink.ch.add_on_cancel_callback(lambda frame: gone.append(frame.method.consumer_tag))
    ch.queue_delete(q)
    pump(sink.ch, lambda: gone == [sink.tag])
    assert not exists(amqp, q)
    ch.basic_publish("", q, b"nobody")


@pytest.mark.parametrize("condition,what", [("if_unused", "in use"), ("if_empty", "not empty")])
def test_delete_conditions(broker, amqp, stream, condition, what):
    if broker.is_rabbitmq:
        pytest.skip("RabbitMQ deletes the stream whatever is asked")
    ch, q = stream()
    put(ch, q, b"m")
    reader(amqp, q, "first").wait(1)
    with closes("channel", 406, f"PRECONDITION_FAILED - {text(amqp, q)} {what}"):
        amqp.channel().queue_delete(q, **{condition: True})
    assert exists(amqp, q)


def test_made_anew_it_is_empty(amqp, stream):
    ch, q = stream()
    put(ch, q, b"old")
    ch.queue_delete(q)
    ch.queue_declare(q, durable=True, arguments=STREAM)
    sink = reader(amqp, q, "first")
    put(ch, q, b"new")
    got = sink.idle(1)
    assert sink.bodies == [b"new"] and got[0][1].headers["x-stream-offset"] == 0


# -- refusals -----------------------------------------------------------------------------------------
def test_consumers_need_a_prefetch_count(amqp, stream):
    _, q = stream()
    with closes("channel", 406, f"PRECONDITION_FAILED - consumer prefetch count is not set for '{text(amqp, q)}'"):
        amqp.channel().basic_consume(q, lambda *_: None)


def test_consumers_acknowledge(amqp, stream):
    _, q = stream()
    ch = amqp.channel(new_connection=True)
    ch.basic_qos(prefetch_count=10)
    with closes("connection", 540, "NOT_IMPLEMENTED - automatic acknowledgement not supported by stream queues "
                f"{text(amqp, q)}"):
        ch.basic_consume(q, lambda *_: None, auto_ack=True)


def test_no_global_prefetch(amqp, stream):
    _, q = stream()
    ch = amqp.channel(new_connection=True)
    ch.basic_qos(prefetch_count=10)
    ch.basic_qos(prefetch_count=10, global_qos=True)
    with closes("connection", 540, f"NOT_IMPLEMENTED - {text(amqp, q)} does not support global qos"):
        ch.basic_consume(q, lambda *_: None)


def test_no_get(amqp, stream):
    _, q = stream()
    with closes("connection", 540, f"NOT_IMPLEMENTED - basic.get not supported by stream queues {text(amqp, q)}"):
        amqp.channel(new_connection=True).basic_get(q)


def test_no_purge(amqp, stream):
    _, q = stream()
    with closes("connection", 540, f"NOT_IMPLEMENTED - queue.purge not supported by stream queues {text(amqp, q)}"):
        amqp.channel(new_connection=True).queue_purge(q)


@pytest.mark.parametrize("settle", [
    lambda ch, tag: ch.basic_reject(tag, requeue=True), lambda ch, tag: ch.basic_reject(tag, requeue=False),
    lambda ch, tag: ch.basic_nack(tag, multiple=True)])
def test_no_reject(amqp, stream, settle):
    ch, q = stream()
    put(ch, q, b"m")
    sink = reader(amqp, q, "first")
    sink.idle(1)
    with closes("connection", 540, "NOT_IMPLEMENTED - basic.nack and basic.reject not supported by stream queues "
                f"{text(amqp, q)}"):
        settle(sink.ch, sink.tags[0])
        pump(sink.ch, lambda: False, 5)


def test_offset_that_means_nothing(amqp, stream):
    _, q = stream()
    ch = amqp.channel(new_connection=True)
    ch.basic_qos(prefetch_count=10)
    with closes("channel", 406, f"PRECONDITION_FAILED - invalid arg 'x-stream-offset' for {text(amqp, q)}: "
                "{invalid_stream_offset_arg,{longstr,<<\"5x\">>}}"):
        ch.basic_consume(q, lambda *_: None, arguments={"x-stream-offset": "5x"})


def test_consume_arguments_of_other_types(amqp, stream):
    ch, q = stream()
    classic = amqp.queue(ch)
    for queue, arg, kind in ((q, "x-priority", "stream"), (classic, "x-stream-offset", "classic")):
        other = amqp.channel(new_connection=True)
        other.basic_qos(prefetch_count=10)
        with closes("channel", 406, f"PRECONDITION_FAILED - invalid arg '{arg}' for {text(amqp, queue)} of queue "
                    f"type rabbit_{kind}_queue"):
            other.basic_consume(queue, lambda *_: None, arguments={arg: 1})


# -- restart ------------------------------------------------------------------------------------------
@pytest.mark.timeout(90)
@pytest.mark.parametrize("how", ["clean", "kill9"])
def test_restart_keeps_the_log(own_broker, how):
    if own_broker.is_rabbitmq:
        pytest.skip("its streams are not there yet when it says that it is")
    def connect():
        return pika.BlockingConnection(pika.URLParameters(own_broker.url))

    def read(ch, n):
        ch.basic_qos(prefetch_count=1000)
        sink = Sink(ch, "s", arguments={"x-stream-offset": "first"})
        sink.idle(n)
        assert [props.headers["x-stream-offset"] for _, props, _ in sink.got] == list(range(n))
        return sink.bodies

    conn = connect()
    ch = conn.channel()
    ch.confirm_delivery()
    ch.queue_declare("s", durable=True, arguments={**STREAM, "x-max-age": "1D"})
    ch.exchange_declare("x", "fanout", durable=True)
    ch.queue_bind("s", "x", "")
    for n in range(1, 101):
        ch.basic_publish("x", "k", b"%d" % n, pika.BasicProperties(headers={"n": n}))
    if how == "clean":
        conn.close()
        own_broker.stop()
        own_broker.start()
    else:
        own_broker.kill9()
        own_broker.start()
    conn = connect()
    ch = conn.channel()
    ch.confirm_delivery()
    ch.queue_declare("s", durable=True, arguments={**STREAM, "x-max-age": "1D"})
    ch.basic_publish("x", "k", b"101")
    assert read(ch, 101) == bodies(1, 101)
    ch.queue_delete("s")
    conn.close()


@pytest.mark.timeout(90)
def test_partitions_come_back(own_broker):
    """A stream with several partitions: all of them are counted, before and after."""
    if own_broker.is_rabbitmq:
        pytest.skip("RabbitMQ's streams have no partitions")
    arguments = {**STREAM, "x-mqgate-partitions": 5}

    def connect():
        return pika.BlockingConnection(pika.URLParameters(own_broker.url)).channel()

    ch = connect()
    ch.confirm_delivery()
    ch.queue_declare("p", durable=True, arguments=arguments)
    for n in range(100):
        ch.basic_publish("", "p", b"%d" % n, pika.BasicProperties(headers={"x-partition-key": f"k{n % 20}"}))
    first = ch.queue_declare("p", passive=True).method.message_count
    own_broker.kill9()
    own_broker.start()
    ch = connect()
    ch.confirm_delivery()
    assert first == ch.queue_declare("p", durable=True, arguments=arguments).method.message_count == 100
    ch.basic_publish("", "p", b"more", pika.BasicProperties(headers={"x-partition-key": "k1"}))
    assert ch.queue_declare("p", passive=True).method.message_count == 101
    ch.queue_delete("p")
    ch.queue_declare("p", durable=True, arguments=arguments)
    assert ch.queue_declare("p", passive=True).method.message_count == 0


# -- other protocols ------------------------------------------------------------------------------------
def stomp(port, *frames, until):
    """Says these frames and returns what comes until these bytes are in it."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
        sock.sendall(b"CONNECT\naccept-version:1.2\nhost:/\nlogin:guest\npasscode:guest\n\n\0" + b"".join(frames))
        out = b""
        while until not in out:
            data = sock.recv(65536)
            assert data, out
            out += data
        return out


@pytest.mark.timeout(90)
def test_stomp_writes_and_reads_a_stream(broker_kind):
    if broker_kind.name != "mqgate":
        pytest.skip("needs the plug-in; not compared")
    with keep_alive_broker(lambda: broker_kind({"listeners.stomp": "127.0.0.1:0"})) as made:
        port = made.ports["stomp"]
        ch = pika.BlockingConnection(pika.URLParameters(made.url)).channel()
        ch.confirm_delivery()
        ch.queue_declare("s", durable=True, arguments=STREAM)
        ch.queue_bind("s", "amq.topic", "a.*")
        ch.basic_publish("", "s", b"from amqp", pika.BasicProperties(headers={"n": 5}, message_id="m"))
        stomp(port, b"SEND\ndestination:/topic/a.b\ncontent-type:text/plain\nfoo:b\\car\nreceipt:r\n\nfrom stomp\0",
              until=b"receipt-id:r")
        ch.basic_qos(prefetch_count=10)
        sink = Sink(ch, "s", arguments={"x-stream-offset": "first"})
        deliver, props, _ = sink.wait(2)[1]
        assert sink.bodies == [b"from amqp", b"from stomp"]
        assert (deliver.exchange, deliver.routing_key, props.content_type) == ("amq.topic", "a.b", "text/plain")
        assert props.headers["foo"] == "b:ar" and props.headers["x-stream-offset"] == 1
        got = stomp(port, b"SUBSCRIBE\nid:1\ndestination:/amq/queue/s\nack:client\nprefetch-count:10\n"
                          b"x-stream-offset:first\n\n\0", until=b"from stomp")
        first = got[got.index(b"MESSAGE"):got.index(b"from amqp")]
        assert b"\nn:5\n" in first and b"\nx-stream-offset:0\n" in first


@pytest.mark.long
def test_throughput_of_a_long_stream(amqp, stream):
    """A hundred thousand records, read twice at once: all there, in order."""
    ch, q = stream()
    n = 100_000
    pub = amqp.channel(new_connection=True)
    for i in range(n):
        pub.basic_publish("", q, b"%d" % i)
    deadline = time.monotonic() + 60
    sinks = [reader(amqp, q, "first", prefetch=5000) for _ in range(2)]
    while any(len(s.got) < n for s in sinks):
        assert time.monotonic() < deadline
        for s in sinks:
            s.ch.connection.process_data_events(time_limit=0.01)
            if s.got:
                s.ch.basic_ack(s.tags[-1], multiple=True)
    for s in sinks:
        assert s.bodies == [b"%d" % i for i in range(n)]


# -- retention ----------------------------------------------------------------------------------------
def test_retention_by_bytes(broker, amqp, stream):
    """Old records go in whole files; the newest stay, and offsets go on."""
    if broker.is_rabbitmq:
        pytest.skip("RabbitMQ looks at its segments when one ends")
    ch, q = stream(**{"x-max-length-bytes": 100_000, "x-stream-max-segment-size-bytes": 20_000})
    put(ch, q, *[b"%d " % n + bytes(5_000) for n in range(100)])

    def count():
        return ch.queue_declare(q, passive=True).method.message_count
    pump(ch, lambda: count() < 60, 15, lambda: f"{count()} messages")
    sink = reader(amqp, q, "first")
    sink.wait(count())
    offsets = [props.headers["x-stream-offset"] for _, props, _ in sink.got]
    assert offsets == list(range(offsets[0], 100)) and 0 < offsets[0] <= 90
    assert [int(body.split(b" ")[0]) for body in sink.bodies] == offsets
    late = reader(amqp, q, 0)
    late.wait(1)
    assert late.got[0][1].headers["x-stream-offset"] == offsets[0]
