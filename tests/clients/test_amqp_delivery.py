"""Consumers: acks, requeue order, redelivered, prefetch, priorities, cancel, recover, confirms, transactions, RPC."""
import time

import pika
import pytest
from pika import exceptions, spec

from mqtest import wire
from mqtest.pika_help import Sink, closes, depth, drain, get, pump, pump_for, put, wait_depth


def bodies(count, start=1):
    return [b"%d" % n for n in range(start, start + count)]


# -- consume and ack ------------------------------------------------------------------------------
def test_delivery_fields(amqp):
    ch = amqp.channel()
    q = amqp.queue(ch)
    sink = Sink(ch, q, consumer_tag="my-tag")
    put(ch, q, b"1", b"2")
    deliveries = [d for d, _, _ in sink.wait(2)]
    assert [(d.consumer_tag, d.delivery_tag, d.redelivered, d.exchange, d.routing_key) for d in deliveries] == [
        ("my-tag", 1, False, "", q), ("my-tag", 2, False, "", q)]


def test_server_made_consumer_tag(broker, amqp):
    q = amqp.queue(amqp.channel())
    with wire.Conn(broker).connect() as conn:
        tags = [conn.rpc(1, spec.Basic.Consume(queue=q), spec.Basic.ConsumeOk).consumer_tag for _ in range(2)]
    assert tags[0] != tags[1] and all(tag.startswith("amq.ctag-") for tag in tags)


def test_consume_no_wait(broker, amqp):
    ch = amqp.channel()
    q = amqp.queue(ch)
    with wire.Conn(broker).connect() as conn:
        conn.send(1, spec.Basic.Consume(queue=q, consumer_tag="t", nowait=True, no_ack=True))
        conn.publish(1, "", q, b"m")
        assert conn.read_content()[2] == b"m"


def test_no_local_is_accepted_and_ignored(broker, amqp):
    """As RabbitMQ, which does not implement no-local for AMQP 0-9-1."""
    q = amqp.queue(amqp.channel())
    with wire.Conn(broker).connect() as conn:
        conn.rpc(1, spec.Basic.Consume(queue=q, consumer_tag="t", no_local=True, no_ack=True), spec.Basic.ConsumeOk)
        conn.publish(1, "", q, b"m")
        assert conn.read_content()[2] == b"m"


def test_delivery_tags_are_per_channel(amqp):
    conn = amqp.connect()
    one, two = conn.channel(), conn.channel()
    q = amqp.queue(one)
    put(one, q, b"1", b"2")
    assert get(one, q, auto_ack=False)[0].delivery_tag == 1
    assert get(two, q, auto_ack=False)[0].delivery_tag == 1
    with closes("channel", 406, "PRECONDITION_FAILED - unknown delivery tag 2"):
        one.basic_ack(2)
        one.basic_qos()


def test_ack_multiple(amqp):
    ch = amqp.channel()
    q = amqp.queue(ch)
    put(ch, q, *bodies(5))
    sink = Sink(ch, q)
    sink.wait(5)
    ch.basic_ack(3, multiple=True)
    ch.basic_cancel(sink.tag)
    ch.close()
    assert drain(amqp.channel(), q, 2) == [b"4", b"5"]


def test_ack_zero_multiple_means_all(amqp):
    ch = amqp.channel()
    q = amqp.queue(ch)
    put(ch, q, *bodies(3))
    Sink(ch, q).wait(3)
    ch.basic_ack(0, multiple=True)
    ch.close()
    assert depth(amqp.channel(), q) == 0


def test_acks_in_any_order(amqp):
    ch = amqp.channel()
    q = amqp.queue(ch)
    put(ch, q, *bodies(6))
    sink = Sink(ch, q)
    sink.wait(6)
    for tag in (5, 1, 3):
        ch.basic_ack(tag)
    ch.close()
    assert drain(amqp.channel(), q, 3) == [b"2", b"4", b"6"]


@pytest.mark.parametrize("how", ["channel", "connection", "abort"])
def test_unacked_return_when_the_consumer_goes(amqp, broker, how):
    keeper = amqp.channel()
    q = amqp.queue(keeper)
    put(keeper, q, *bodies(3))
    wait_depth(keeper, q, 3)
    with wire.Conn(broker).connect() as conn:
        conn.rpc(1, spec.Basic.Consume(queue=q, consumer_tag="t"), spec.Basic.ConsumeOk)
        for _ in range(3):
            conn.read_content()
        {"channel": lambda: conn.rpc(1, spec.Channel.Close(200, "", 0, 0), spec.Channel.CloseOk),
         "connection": conn.close, "abort": conn.abort}[how]()
        got = [get(keeper, q) for _ in range(3)]
    assert [(m.redelivered, body) for m, _, body in got] == [(True, b"1"), (True, b"2"), (True, b"3")]


@pytest.mark.parametrize("how", ["nack", "reject", "nack-multiple", "channel"])
def test_requeue_keeps_the_place(amqp, how):
    ch, other = amqp.channel(new_connection=True), amqp.channel()
    q = amqp.queue(ch)
    put(ch, q, *bodies(5))
    wait_depth(ch, q, 5)
    tags = [get(ch, q, auto_ack=False)[0].delivery_tag for _ in range(3)]
    if how == "nack-multiple":
        ch.basic_nack(tags[2], multiple=True, requeue=True)
    elif how == "channel":
        ch.close()
    else:
        for tag in reversed(tags):
            getattr(ch, f"basic_{how}")(tag, requeue=True)
    wait_depth(other, q, 5)
    got = [get(other, q) for _ in range(5)]
    assert [(body, m.redelivered) for m, _, body in got] == [
        (b"1", True), (b"2", True), (b"3", True), (b"4", False), (b"5", False)]


def test_reject_without_requeue_drops(amqp):
    ch = amqp.channel()
    q = amqp.queue(ch)
    put(ch, q, *bodies(3))
    ch.basic_reject(get(ch, q, auto_ack=False)[0].delivery_tag, requeue=False)
    ch.basic_nack(get(ch, q, auto_ack=False)[0].delivery_tag, requeue=False)
    assert drain(ch, q, 1) == [b"3"]


def test_no_ack_consumer_settles_at_once(amqp):
    ch = amqp.channel()
    q = amqp.queue(ch)
    put(ch, q, *bodies(3))
    Sink(ch, q, auto_ack=True).wait(3)
    ch.close()
    assert depth(amqp.channel(), q) == 0


def test_get_message_count_and_empty(amqp):
    ch = amqp.channel()
    q = amqp.queue(ch)
    assert ch.basic_get(q) == (None, None, None)
    put(ch, q, *bodies(3))
    wait_depth(ch, q, 3)
    assert [get(ch, q)[0].message_count for _ in range(3)] == [2, 1, 0]


def test_messages_keep_the_publishers_order(amqp):
    ch = amqp.channel()
    q = amqp.queue(ch)
    sink = Sink(ch, q, auto_ack=True)
    put(ch, q, *bodies(500))
    sink.wait(500)
    assert sink.bodies == bodies(500)


# -- prefetch -------------------------------------------------------------------------------------
@pytest.mark.parametrize("prefetch", [1, 3, 10])
def test_prefetch_bounds_unacked(amqp, prefetch):
    ch = amqp.channel()
    q = amqp.queue(ch)
    put(ch, q, *bodies(20))
    wait_depth(ch, q, 20)
    ch.basic_qos(prefetch_count=prefetch)
    sink = Sink(ch, q)
    sink.idle(prefetch)
    ch.basic_ack(sink.tags[0])
    sink.idle(prefetch + 1)
    ch.basic_ack(0, multiple=True)
    sink.idle(min(20, 2 * prefetch + 1))


def test_prefetch_zero_is_no_bound(amqp):
    ch = amqp.channel()
    q = amqp.queue(ch)
    put(ch, q, *bodies(200))
    ch.basic_qos(prefetch_count=0)
    Sink(ch, q).wait(200)


def test_prefetch_is_per_consumer(amqp):
    ch = amqp.channel()
    q1, q2 = amqp.queue(ch), amqp.queue(ch)
    for q in (q1, q2):
        put(ch, q, *bodies(10))
        wait_depth(ch, q, 10)
    ch.basic_qos(prefetch_count=2)
    first = Sink(ch, q1)
    ch.basic_qos(prefetch_count=3)
    second = Sink(ch, q2)
    first.idle(2)
    second.idle(3)


def test_global_prefetch_is_shared_by_the_channel(amqp):
    ch = amqp.channel()
    q1, q2 = amqp.queue(ch), amqp.queue(ch)
    for q in (q1, q2):
        put(ch, q, *bodies(10))
        wait_depth(ch, q, 10)
    ch.basic_qos(prefetch_count=3, global_qos=True)
    first, second = Sink(ch, q1), Sink(ch, q2)
    pump_for(ch, 0.3)
    assert len(first.got) + len(second.got) == 3
    ch.basic_ack(0, multiple=True)
    pump(ch, lambda: len(first.got) + len(second.got) == 6)


def test_global_prefetch_counts_what_is_held_already(amqp):
    ch = amqp.channel()
    q = amqp.queue(ch)
    put(ch, q, *bodies(10))
    wait_depth(ch, q, 10)
    ch.basic_qos(prefetch_count=4)
    sink = Sink(ch, q)
    sink.idle(4)
    ch.basic_qos(prefetch_count=2, global_qos=True)
    ch.basic_ack(2, multiple=True)
    sink.idle(4)  # 2 held, 2 allowed
    ch.basic_ack(0, multiple=True)
    sink.idle(6)


def test_global_prefetch_counts_deliveries_of_a_cancelled_consumer(amqp):
    ch = amqp.channel()
    q1, q2 = amqp.queue(ch), amqp.queue(ch)
    for q in (q1, q2):
        put(ch, q, *bodies(10))
        wait_depth(ch, q, 10)
    ch.basic_qos(prefetch_count=3, global_qos=True)
    first = Sink(ch, q1)
    first.idle(3)
    ch.basic_cancel(first.tag)
    second = Sink(ch, q2)
    second.idle(0)
    ch.basic_ack(2, multiple=True)
    second.idle(2)


def test_global_prefetch_comes_back_from_a_deleted_queue(amqp):
    ch = amqp.channel()
    q1, q2 = amqp.queue(ch), amqp.queue(ch)
    for q in (q1, q2):
        put(ch, q, *bodies(10))
        wait_depth(ch, q, 10)
    ch.basic_qos(prefetch_count=3, global_qos=True)
    first = Sink(ch, q1)
    first.idle(3)
    ch.queue_delete(q1)
    ch.basic_ack(0, multiple=True)
    Sink(ch, q2).idle(3)


def test_global_and_consumer_prefetch_together(amqp):
    ch = amqp.channel()
    q1, q2 = amqp.queue(ch), amqp.queue(ch)
    for q in (q1, q2):
        put(ch, q, *bodies(10))
        wait_depth(ch, q, 10)
    ch.basic_qos(prefetch_count=2)
    ch.basic_qos(prefetch_count=3, global_qos=True)
    first, second = Sink(ch, q1), Sink(ch, q2)
    pump_for(ch, 0.3)
    assert sorted((len(first.got), len(second.got))) == [1, 2]


def test_prefetch_does_not_bound_get_and_no_ack(amqp):
    ch = amqp.channel()
    q = amqp.queue(ch)
    put(ch, q, *bodies(20))
    wait_depth(ch, q, 20)
    ch.basic_qos(prefetch_count=1)
    for _ in range(5):
        get(ch, q, auto_ack=False)
    Sink(ch, q, auto_ack=True).wait(15)


# -- several consumers ----------------------------------------------------------------------------
def test_round_robin(amqp):
    ch = amqp.channel()
    q = amqp.queue(ch)
    ch.basic_qos(prefetch_count=100)
    sinks = [Sink(ch, q) for _ in range(3)]
    put(ch, q, *bodies(30))
    pump(ch, lambda: sum(len(s.got) for s in sinks) == 30)
    assert [len(s.got) for s in sinks] == [10, 10, 10]


def test_a_full_consumer_is_passed_over(amqp):
    ch, other = amqp.channel(), amqp.channel(new_connection=True)
    q = amqp.queue(ch)
    ch.basic_qos(prefetch_count=1)
    slow = Sink(ch, q)
    fast = Sink(other, q, auto_ack=True)
    put(ch, q, *bodies(10))
    fast.wait(9)
    slow.idle(1)


def test_consumer_priorities(amqp):
    ch = amqp.channel()
    q = amqp.queue(ch)
    ch.basic_qos(prefetch_count=2)
    low = Sink(ch, q, arguments={"x-priority": -5})
    middle = Sink(ch, q)
    high = Sink(ch, q, arguments={"x-priority": 10})
    put(ch, q, *bodies(5))
    pump(ch, lambda: len(low.got) + len(middle.got) + len(high.got) == 5)
    assert (high.bodies, middle.bodies, low.bodies) == ([b"1", b"2"], [b"3", b"4"], [b"5"])


def test_exclusive_consumer_leaves_the_queue_free_again(amqp):
    ch, other = amqp.channel(), amqp.channel(new_connection=True)
    q = amqp.queue(ch)
    sink = Sink(ch, q, exclusive=True)
    ch.basic_cancel(sink.tag)
    Sink(other, q, exclusive=True)


# -- cancel ---------------------------------------------------------------------------------------
def test_cancel_keeps_unacked(amqp):
    ch = amqp.channel()
    q = amqp.queue(ch)
    put(ch, q, *bodies(3))
    wait_depth(ch, q, 3)
    ch.basic_qos(prefetch_count=1)
    sink = Sink(ch, q)
    sink.wait(1)
    ch.basic_cancel(sink.tag)
    put(ch, q, b"4")
    wait_depth(ch, q, 3)
    ch.basic_ack(1)
    assert ch.queue_declare(q, passive=True).method.consumer_count == 0
    assert drain(ch, q, 3) == [b"2", b"3", b"4"]


def test_cancel_of_an_unknown_tag_is_ok(broker):
    with wire.Conn(broker).connect() as conn:
        assert conn.rpc(1, spec.Basic.Cancel(consumer_tag="none"), spec.Basic.CancelOk).consumer_tag == "none"


def test_tag_may_be_used_again_after_cancel(amqp):
    ch = amqp.channel()
    q = amqp.queue(ch)
    for n in range(3):
        sink = Sink(ch, q, consumer_tag="again", auto_ack=True)
        put(ch, q, b"%d" % n)
        sink.wait(1)
        ch.basic_cancel(sink.tag)


def test_consumer_cancel_notification(broker, amqp):
    ch = amqp.channel()
    q = amqp.queue(ch)
    with wire.Conn(broker).connect() as conn:
        conn.rpc(1, spec.Basic.Consume(queue=q, consumer_tag="t"), spec.Basic.ConsumeOk)
        ch.queue_delete(q)
        cancel = conn.expect(spec.Basic.Cancel)
        assert (cancel.consumer_tag, cancel.nowait) == ("t", True)
        conn.rpc(1, spec.Basic.Qos(0, 1, False), spec.Basic.QosOk)


def test_no_cancel_notification_without_the_capability(broker, amqp):
    ch = amqp.channel()
    q = amqp.queue(ch)
    with wire.Conn(broker).connect(capabilities=()) as conn:
        conn.rpc(1, spec.Basic.Consume(queue=q, consumer_tag="t"), spec.Basic.ConsumeOk)
        ch.queue_delete(q)
        with pytest.raises(TimeoutError):
            conn.read_frame(timeout_s=0.2)


# -- recover, flow --------------------------------------------------------------------------------
def test_recover_requeues(amqp):
    ch = amqp.channel()
    q = amqp.queue(ch)
    put(ch, q, *bodies(3))
    wait_depth(ch, q, 3)
    for _ in range(2):
        get(ch, q, auto_ack=False)
    ch.basic_recover(requeue=True)
    wait_depth(ch, q, 3)
    got = [get(ch, q) for _ in range(3)]
    assert [(body, m.redelivered) for m, _, body in got] == [(b"1", True), (b"2", True), (b"3", False)]


def test_recover_gives_back_to_the_consumer(amqp):
    ch = amqp.channel()
    q = amqp.queue(ch)
    sink = Sink(ch, q)
    put(ch, q, *bodies(3))
    sink.wait(3)
    ch.basic_recover(requeue=True)
    sink.wait(6)
    assert [(body, m.redelivered, m.delivery_tag) for m, _, body in sink.got[3:]] == [
        (b"1", True, 4), (b"2", True, 5), (b"3", True, 6)]


def test_recover_async(broker, amqp):
    q = amqp.queue(amqp.channel())
    with wire.Conn(broker).connect() as conn:
        conn.publish(1, "", q, b"m")
        conn.rpc(1, spec.Basic.Consume(queue=q, consumer_tag="t"), spec.Basic.ConsumeOk)
        conn.read_content()
        conn.send_raw(wire.raw_frame(wire.METHOD, 1, (60 << 16 | 100).to_bytes(4, "big") + b"\x01"))
        method, _, _ = conn.read_content()
        assert (method.delivery_tag, method.redelivered) == (2, True)


def test_flow_active_is_answered(amqp):
    assert amqp.channel().flow(True) is True


def test_flow_off_pauses_consumers(amqp):
    """RabbitMQ does not implement it (540); the gateway stops the channel's deliveries until they are wanted."""
    ch, other = amqp.channel(new_connection=True), amqp.channel()
    q = amqp.queue(other)
    if amqp.broker.is_rabbitmq:
        with closes("connection", 540, "NOT_IMPLEMENTED - active=false"):
            ch.flow(False)
        return
    sink = Sink(ch, q, auto_ack=True)
    put(other, q, b"1")
    sink.wait(1)
    assert ch.flow(False) is False
    put(other, q, b"2", b"3")
    wait_depth(other, q, 2)
    sink.idle(1)
    assert ch.flow(True) is True
    assert [body for _, _, body in sink.wait(3)] == [b"1", b"2", b"3"]


# -- confirms -------------------------------------------------------------------------------------
def confirms(conn, count):
    """Reads acks and nacks until `count` publishes are settled; {tag: ok}. No tag may be settled twice."""
    done = {}
    while len(done) < count:
        method = conn.read_frame().method
        assert isinstance(method, (spec.Basic.Ack, spec.Basic.Nack)), method
        tags = range(1, method.delivery_tag + 1) if method.multiple else [method.delivery_tag]
        fresh = [tag for tag in tags if tag not in done]
        assert fresh
        done.update((tag, isinstance(method, spec.Basic.Ack)) for tag in fresh)
    return done


@pytest.mark.parametrize("durable", [False, True])
def test_every_publish_is_confirmed_once(broker, amqp, durable):
    q = amqp.queue(amqp.channel(), durable=durable)
    with wire.Conn(broker).connect() as conn:
        conn.rpc(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
        props = b"\x10\x00\x02" if durable else b"\x00\x00"
        conn.send_raw(b"".join(wire.content(1, "", q, b"m", props) for _ in range(300)))
        assert confirms(conn, 300) == {tag: True for tag in range(1, 301)}
        with pytest.raises(TimeoutError):
            conn.read_frame(timeout_s=0.1)


def test_confirm_counts_from_select(broker, amqp):
    q = amqp.queue(amqp.channel())
    with wire.Conn(broker).connect() as conn:
        conn.publish(1, "", q, b"before")
        conn.rpc(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
        conn.publish(1, "", q, b"after")
        assert confirms(conn, 1) == {1: True}
        conn.rpc(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
        conn.publish(1, "", q, b"again")
        assert conn.read_frame().method.delivery_tag == 2


def test_return_comes_before_its_confirm(broker, amqp):
    with wire.Conn(broker).connect() as conn:
        conn.rpc(1, spec.Confirm.Select(nowait=False), spec.Confirm.SelectOk)
        conn.publish(1, "", amqp.unique("none"), b"m", mandatory=True)
        returned, _, body = conn.read_content()
        assert isinstance(returned, spec.Basic.Return) and body == b"m"
        assert conn.read_frame().method.delivery_tag == 1


def test_nacks_are_numbered(broker, amqp):
    q = amqp.queue(amqp.channel(), arguments={"x-max-length": 2, "x-overflow": "reject-publish"})
    with wire.Conn(broker).connect() as conn:
        conn.rpc(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
        conn.send_raw(b"".join(wire.content(1, "", q, b"m") for _ in range(4)))
        assert confirms(conn, 4) == {1: True, 2: True, 3: False, 4: False}


def test_confirm_of_a_persistent_message_that_is_consumed_at_once(broker, amqp):
    q = amqp.queue(amqp.channel(), durable=True)
    with wire.Conn(broker).connect(channels=2) as conn:
        conn.rpc(2, spec.Basic.Consume(queue=q, consumer_tag="t", no_ack=True), spec.Basic.ConsumeOk)
        conn.rpc(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
        conn.publish(1, "", q, b"m", props=b"\x10\x00\x02")
        kinds = set()
        while kinds != {spec.Basic.Ack, spec.Basic.Deliver}:
            kinds.add(type(getattr(conn.read_frame(), "method", None)))
            kinds.discard(type(None))


# -- transactions ---------------------------------------------------------------------------------
class TestTransactions:
    def test_publish_shows_at_commit(self, amqp):
        ch, other = amqp.channel(), amqp.channel(new_connection=True)
        q = amqp.queue(ch)
        ch.tx_select()
        put(ch, q, *bodies(3))
        ch.basic_qos()
        assert depth(other, q) == 0
        ch.tx_commit()
        assert depth(other, q) == 3

    def test_rollback_forgets_publishes(self, amqp):
        ch = amqp.channel()
        q = amqp.queue(ch)
        ch.tx_select()
        put(ch, q, *bodies(3))
        ch.tx_rollback()
        put(ch, q, b"kept")
        ch.tx_commit()
        assert drain(amqp.channel(), q, 1) == [b"kept"]

    def test_ack_counts_at_commit(self, amqp):
        ch = amqp.channel(new_connection=True)
        q = amqp.queue(ch)
        put(ch, q, *bodies(2))
        ch.tx_select()
        ch.basic_ack(get(ch, q, auto_ack=False)[0].delivery_tag)
        ch.tx_commit()
        ch.basic_ack(get(ch, q, auto_ack=False)[0].delivery_tag)
        ch.connection.close()
        method, _, body = get(amqp.channel(), q)
        assert (body, method.redelivered) == (b"2", True)

    def test_rollback_forgets_acks(self, amqp):
        ch = amqp.channel(new_connection=True)
        q = amqp.queue(ch)
        put(ch, q, b"1")
        ch.tx_select()
        method, _, _ = get(ch, q, auto_ack=False)
        ch.basic_ack(method.delivery_tag)
        ch.tx_rollback()
        assert depth(ch, q) == 0
        ch.basic_ack(method.delivery_tag)
        ch.tx_commit()
        ch.connection.close()
        assert depth(amqp.channel(), q) == 0

    def test_nack_at_commit_requeues(self, amqp):
        ch, other = amqp.channel(), amqp.channel(new_connection=True)
        q = amqp.queue(ch)
        put(ch, q, b"1")
        ch.tx_select()
        ch.basic_nack(get(ch, q, auto_ack=False)[0].delivery_tag, requeue=True)
        ch.basic_qos()
        assert depth(other, q) == 0
        ch.tx_commit()
        wait_depth(other, q, 1)

    def test_closing_the_channel_rolls_back(self, amqp):
        ch = amqp.channel()
        q = amqp.queue(ch)
        ch.tx_select()
        put(ch, q, b"m")
        ch.close()
        assert depth(amqp.channel(), q) == 0

    def test_mandatory_is_returned_at_commit(self, amqp):
        ch = amqp.channel()
        got = []
        ch.add_on_return_callback(lambda *message: got.append(message))
        ch.tx_select()
        ch.basic_publish("", amqp.unique("none"), b"m", mandatory=True)
        ch.basic_qos()
        pump_for(ch, 0.1)
        assert got == []
        ch.tx_commit()
        pump(ch, lambda: got)


# -- direct reply-to ------------------------------------------------------------------------------
REPLY_TO = "amq.rabbitmq.reply-to"


class TestDirectReplyTo:
    def test_request_and_reply(self, amqp):
        client, server = amqp.channel(), amqp.channel(new_connection=True)
        q = amqp.queue(server)
        replies = Sink(client, REPLY_TO, auto_ack=True)
        for n in range(3):
            client.basic_publish("", q, b"ask", pika.BasicProperties(reply_to=REPLY_TO, correlation_id=str(n)))
            _, props, body = get(server, q)
            assert body == b"ask" and props.reply_to.startswith(REPLY_TO + ".")
            server.basic_publish("", props.reply_to, b"answer",
                                 pika.BasicProperties(correlation_id=props.correlation_id))
        replies.wait(3)
        assert [(d.exchange, d.redelivered, p.correlation_id, body) for d, p, body in replies.got] == [
            ("", False, str(n), b"answer") for n in range(3)]
        assert all(d.routing_key == props.reply_to for d, _, _ in replies.got)

    def test_is_checked_with_a_passive_declare(self, amqp):
        client, server = amqp.channel(), amqp.channel(new_connection=True)
        q = amqp.queue(server)
        Sink(client, REPLY_TO, auto_ack=True)
        client.basic_publish("", q, b"ask", pika.BasicProperties(reply_to=REPLY_TO))
        name = get(server, q)[1].reply_to
        assert server.queue_declare(name, passive=True).method.queue == name
        client.close()
        with closes("channel", 404, f"NOT_FOUND - no queue '{name}' in vhost '/'"):
            server.queue_declare(name, passive=True)

    def test_consumer_must_not_ack(self, amqp):
        ch = amqp.channel()
        with closes("channel", 406, "PRECONDITION_FAILED - reply consumer cannot acknowledge"):
            Sink(ch, REPLY_TO)

    def test_one_consumer_per_channel(self, amqp):
        ch = amqp.channel()
        Sink(ch, REPLY_TO, auto_ack=True)
        with closes("channel", 406, "PRECONDITION_FAILED - reply consumer already set"):
            Sink(ch, REPLY_TO, auto_ack=True)

    def test_request_without_a_consumer(self, amqp):
        ch = amqp.channel()
        q = amqp.queue(ch)
        with closes("channel", 406, "PRECONDITION_FAILED - fast reply consumer does not exist"):
            ch.basic_publish("", q, b"m", pika.BasicProperties(reply_to=REPLY_TO))
            ch.basic_qos()

    def test_mandatory_reply_to_nobody_is_returned(self, amqp):
        ch = amqp.channel(confirm=True)
        with pytest.raises(exceptions.UnroutableError):
            ch.basic_publish("", REPLY_TO + ".none", b"m", mandatory=True)

    def test_cancel_frees_it(self, amqp):
        ch = amqp.channel()
        sink = Sink(ch, REPLY_TO, auto_ack=True)
        ch.basic_cancel(sink.tag)
        Sink(ch, REPLY_TO, auto_ack=True)


def test_user_id_that_is_right(amqp):
    ch = amqp.channel()
    q = amqp.queue(ch)
    put(ch, q, b"m", user_id="guest")
    assert get(ch, q)[1].user_id == "guest"


def test_queue_is_shared_by_many_connections(amqp):
    """Each message goes to one of the consumers, none is lost, none twice."""
    ch = amqp.channel()
    q = amqp.queue(ch)
    others = [amqp.channel(new_connection=True) for _ in range(4)]
    for other in others:
        other.basic_qos(prefetch_count=5)
    got = []

    def take(other, deliver, _props, body):
        got.append(int(body))
        other.basic_ack(deliver.delivery_tag)

    for other in others:
        other.basic_consume(q, take)
    put(ch, q, *bodies(200))
    deadline = time.monotonic() + 10
    while len(got) < 200 and time.monotonic() < deadline:
        for other in others:
            other.connection.process_data_events(time_limit=0.002)
    assert sorted(got) == list(range(1, 201))
