"""Queues: life, time to live, length limits, dead letters, priorities, and the limits of quorum queues."""
import datetime
import time

import pika
import pytest
from pika import exceptions

from mqtest.pika_help import (Sink, closes, depth, drain, exists, get, get_body, put, wait_depth)

QUORUM = {"x-queue-type": "quorum"}


def gone(amqp, queue, timeout_s=40.0, step_s=0.02):
    """Waits until the queue does not exist any more. Asking renews a lease: step_s must be longer than it."""
    deadline = time.monotonic() + timeout_s
    while True:
        time.sleep(step_s)
        if not exists(amqp, queue):
            return
        assert time.monotonic() < deadline, f"{queue} still exists"


# -- life -----------------------------------------------------------------------------------------
def test_server_named_queues(amqp):
    ch = amqp.channel()
    first = ch.queue_declare("", exclusive=True).method.queue
    second = ch.queue_declare("", exclusive=True).method.queue
    assert first.startswith("amq.gen-") and second.startswith("amq.gen-") and first != second
    put(ch, first, b"m")
    assert get_body(ch, first) == b"m"


def test_empty_name_means_the_queue_declared_last(amqp):
    ch = amqp.channel()
    name = ch.queue_declare("", exclusive=True).method.queue
    ch.queue_bind("", "amq.direct", name)
    ch.basic_publish("amq.direct", name, b"m")
    assert get_body(ch, "") == b"m"
    ch.queue_purge("")
    ch.queue_delete("")


def test_declare_ok_counts_ready_messages_and_consumers(amqp):
    ch = amqp.channel()
    q = amqp.queue(ch)
    put(ch, q, b"1", b"2", b"3")
    wait_depth(ch, q, 3)
    get(ch, q, auto_ack=False)
    ok = ch.queue_declare(q, passive=True).method
    assert (ok.queue, ok.message_count, ok.consumer_count) == (q, 2, 0)
    ch.basic_qos(prefetch_count=1)
    sink = Sink(ch, q)
    sink.wait(1)
    ok = ch.queue_declare(q, passive=True).method
    assert (ok.message_count, ok.consumer_count) == (1, 1)


def test_exclusive_queue_goes_with_its_connection(amqp):
    other = amqp.connect()
    q = other.channel().queue_declare(amqp.unique("ex"), exclusive=True).method.queue
    with pytest.raises(exceptions.ChannelClosedByBroker):
        amqp.channel().queue_declare(q, passive=True)
    other.close()
    gone(amqp, q)


def test_exclusive_queue_is_shared_by_channels_of_one_connection(amqp):
    conn = amqp.connect()
    one, two = conn.channel(), conn.channel()
    q = one.queue_declare(amqp.unique("ex"), exclusive=True).method.queue
    put(two, q, b"m")
    assert get_body(two, q) == b"m"


def test_exclusive_queue_survives_its_channel(amqp):
    conn = amqp.connect()
    one = conn.channel()
    q = one.queue_declare(amqp.unique("ex"), exclusive=True).method.queue
    one.close()
    assert conn.channel().queue_declare(q, passive=True).method.queue == q


def test_others_may_publish_to_an_exclusive_queue(amqp):
    conn = amqp.connect()
    owner = conn.channel()
    q = owner.queue_declare(amqp.unique("ex"), exclusive=True).method.queue
    put(amqp.channel(), q, b"m")
    assert get_body(owner, q) == b"m"


@pytest.mark.parametrize("how", ["cancel", "channel", "connection"])
def test_auto_delete_queue_goes_with_its_last_consumer(amqp, how):
    conn = amqp.connect()
    ch, keeper = conn.channel(), amqp.channel(new_connection=True)
    q = amqp.queue(keeper, auto_delete=True)
    second = Sink(keeper, q)
    first = Sink(ch, q)
    {"cancel": lambda: ch.basic_cancel(first.tag), "channel": ch.close, "connection": conn.close}[how]()
    assert exists(amqp, q)
    keeper.basic_cancel(second.tag)
    gone(amqp, q)


def test_auto_delete_queue_without_a_consumer_stays(amqp):
    conn = amqp.connect()
    q = amqp.queue(conn.channel(), auto_delete=True)
    put(amqp.channel(), q, b"m")
    get(amqp.channel(), q)
    conn.close()
    assert exists(amqp, q)


def test_delete_tells_how_many_messages(amqp):
    ch = amqp.channel()
    q = amqp.queue(ch)
    put(ch, q, b"1", b"2")
    wait_depth(ch, q, 2)
    assert ch.queue_delete(q).method.message_count == 2
    assert not exists(amqp, q)


def test_delete_if_unused_and_if_empty(amqp):
    ch = amqp.channel()
    q = amqp.queue(ch)
    ch.queue_delete(q, if_unused=True, if_empty=True)
    assert not exists(amqp, q)


def test_purge_leaves_unacked_messages(amqp):
    ch = amqp.channel()
    q = amqp.queue(ch)
    put(ch, q, b"1", b"2", b"3")
    wait_depth(ch, q, 3)
    method, _, _ = get(ch, q, auto_ack=False)
    assert ch.queue_purge(q).method.message_count == 2
    assert depth(ch, q) == 0
    ch.basic_nack(method.delivery_tag, requeue=True)
    method, _, body = get(ch, q)
    assert (body, method.redelivered) == (b"1", True)


def test_names_up_to_255_bytes_and_any_utf8(amqp):
    ch = amqp.channel()
    for name in ["q" * (255 - 20) + amqp.unique("-")[:20], "schlange-ü-" + amqp.unique("q"), "a b/c'd\"e " + amqp.unique("q")]:
        amqp.queue(ch, name)
        put(ch, name, b"m")
        assert get_body(ch, name) == b"m"


def test_durable_auto_delete_and_arguments_are_accepted(amqp):
    """Arguments that old applications send and that have no effect must not be refused."""
    ch = amqp.channel()
    for arguments in [{"x-queue-mode": "lazy"}, {"x-queue-mode": "default"}, {"x-queue-type": "classic"},
                      {"ha-mode": "all"}, {"x-ha-policy": "all"}, {"x-queue-version": 1}, {"anything": {"n": 1}}]:
        q = amqp.queue(ch, durable=True, arguments=arguments)
        put(ch, q, b"m")
        assert get_body(ch, q) == b"m"


# -- time to live ---------------------------------------------------------------------------------
@pytest.mark.parametrize("where", ["queue", "message", "both", "shorter-queue"])
def test_messages_expire(amqp, where):
    ch = amqp.channel()
    queue_ttl = {"queue": 1000, "both": 60000, "shorter-queue": 1000}.get(where)
    message_ttl = {"message": "1000", "both": "1000", "shorter-queue": "60000"}.get(where)
    q = amqp.queue(ch, arguments={"x-message-ttl": queue_ttl} if queue_ttl else None)
    started = time.monotonic()
    put(ch, q, b"m", expiration=message_ttl)
    wait_depth(ch, q, 1)
    wait_depth(ch, q, 0)
    assert 0.995 < time.monotonic() - started < 50


def test_unexpired_message_keeps_its_expiration(amqp):
    ch = amqp.channel()
    q = amqp.queue(ch, arguments={"x-message-ttl": 50000})
    put(ch, q, b"m", expiration="60000")
    assert get(ch, q)[1].expiration == "60000"


@pytest.mark.parametrize("ttl", ["queue", "message"])
def test_ttl_zero_reaches_a_waiting_consumer_only(amqp, ttl):
    ch = amqp.channel()
    q = amqp.queue(ch, arguments={"x-message-ttl": 0} if ttl == "queue" else None)
    expiration = "0" if ttl == "message" else None
    put(ch, q, b"lost", expiration=expiration)
    wait_depth(ch, q, 0)
    assert ch.basic_get(q, auto_ack=True)[0] is None
    sink = Sink(ch, q, auto_ack=True)
    put(ch, q, b"taken", expiration=expiration)
    assert sink.idle(1)[0][2] == b"taken"


def test_message_ttl_waits_behind_the_head(amqp):
    """A classic queue expires from its head: a short message behind a long one is not delivered after its time."""
    ch = amqp.channel()
    q = amqp.queue(ch)
    put(ch, q, b"long", expiration="60000")
    put(ch, q, b"short", expiration="50")
    wait_depth(ch, q, 2)
    time.sleep(0.1)
    assert drain(ch, q, 1) == [b"long"]


def test_requeued_message_keeps_its_deadline(amqp):
    ch = amqp.channel()
    q = amqp.queue(ch, arguments={"x-message-ttl": 1500})
    put(ch, q, b"m")
    method, _, _ = get(ch, q, auto_ack=False)
    clock = amqp.queue(ch, arguments={"x-message-ttl": 1550})
    put(ch, clock, b"m")
    wait_depth(ch, clock, 0)
    ch.basic_nack(method.delivery_tag, requeue=True)
    wait_depth(ch, q, 0, timeout_s=1.4)  # a new one would end later


def test_unacked_message_does_not_expire(amqp):
    ch = amqp.channel()
    q = amqp.queue(ch, arguments={"x-message-ttl": 60})
    sink = Sink(ch, q)
    put(ch, q, b"m")
    sink.wait(1)
    time.sleep(0.12)
    ch.basic_ack(sink.tags[0])
    assert depth(ch, q) == 0 and ch.is_open


def test_queue_expires_when_unused(amqp):
    ch = amqp.channel()
    q = amqp.queue(ch, arguments={"x-expires": 1000})
    put(ch, q, b"messages do not keep it")
    assert exists(amqp, q)
    gone(amqp, q, step_s=1.5)  # asking renews it


def test_queue_with_a_consumer_does_not_expire(amqp):
    ch = amqp.channel()
    q = amqp.queue(ch, arguments={"x-expires": 800})
    sink = Sink(ch, q)
    time.sleep(1.2)  # lint:allow banned_calls a time that must not end it runs out
    assert exists(amqp, q)
    ch.basic_cancel(sink.tag)
    gone(amqp, q, step_s=1.2)


def test_get_and_declare_renew_the_lease(amqp):
    ch = amqp.channel()
    q = amqp.queue(ch, arguments={"x-expires": 1500})
    for turn in range(6):
        time.sleep(0.4)  # lint:allow banned_calls a lease is used up in part
        if turn % 2:
            ch.basic_get(q)
        else:
            ch.queue_declare(q, arguments={"x-expires": 1500})
    assert exists(amqp, q)


# -- length limits --------------------------------------------------------------------------------
@pytest.mark.parametrize("arguments", [
    {"x-max-length": 3}, {"x-max-length": 3, "x-overflow": "drop-head"}, {"x-max-length-bytes": 3},
    {"x-max-length": 5, "x-max-length-bytes": 3},
])
def test_drop_head(amqp, arguments):
    ch = amqp.channel(confirm=True)
    q = amqp.queue(ch, arguments=arguments)
    put(ch, q, *[b"%d" % n for n in range(6)])
    assert drain(ch, q, 3) == [b"3", b"4", b"5"]


def test_max_length_counts_ready_messages_only(amqp):
    ch = amqp.channel(confirm=True)
    q = amqp.queue(ch, arguments={"x-max-length": 2})
    put(ch, q, b"1", b"2")
    held = [get(ch, q, auto_ack=False) for _ in range(2)]
    put(ch, q, b"3", b"4")
    assert depth(ch, q) == 2
    assert [body for _, _, body in held] == [b"1", b"2"]
    assert drain(ch, q, 2) == [b"3", b"4"]


def test_max_length_zero_keeps_nothing(amqp):
    ch = amqp.channel(confirm=True)
    q = amqp.queue(ch, arguments={"x-max-length": 0})
    put(ch, q, b"1")
    assert depth(ch, q) == 0


@pytest.mark.parametrize("arguments", [{"x-max-length": 2}, {"x-max-length-bytes": 2}])
def test_reject_publish(amqp, arguments):
    ch = amqp.channel(confirm=True)
    q = amqp.queue(ch, arguments={**arguments, "x-overflow": "reject-publish"})
    put(ch, q, b"1", b"2")
    with pytest.raises(exceptions.NackError):
        put(ch, q, b"3")
    assert get_body(ch, q) == b"1"
    put(ch, q, b"4")
    assert drain(ch, q, 2) == [b"2", b"4"]


def test_reject_publish_without_confirms_drops(amqp):
    ch = amqp.channel()
    q = amqp.queue(ch, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    put(ch, q, b"1", b"2")
    assert drain(ch, q, 1) == [b"1"]
    assert ch.is_open


def test_reject_publish_by_one_of_two_queues_is_a_nack(amqp):
    ch = amqp.channel(confirm=True)
    x = amqp.exchange(ch, "fanout")
    full = amqp.queue(ch, arguments={"x-max-length": 0, "x-overflow": "reject-publish"})
    roomy = amqp.queue(ch)
    for q in (full, roomy):
        ch.queue_bind(q, x, "")
    with pytest.raises(exceptions.NackError):
        ch.basic_publish(x, "", b"m")
    assert get_body(ch, roomy) == b"m"


# -- dead letters ---------------------------------------------------------------------------------
class Dead:
    """A queue with a dead letter exchange and the queue behind it."""

    def __init__(self, amqp, confirm=True, key=None, bind="#", durable=False, **arguments):
        self.ch = amqp.channel(confirm=confirm)
        self.dlx = amqp.exchange(self.ch, "topic")
        self.dlq = amqp.queue(self.ch)
        self.ch.queue_bind(self.dlq, self.dlx, bind)
        args = {name.replace("_", "-"): value for name, value in arguments.items()}
        args["x-dead-letter-exchange"] = self.dlx
        if key is not None:
            args["x-dead-letter-routing-key"] = key
        self.q = amqp.queue(self.ch, durable=durable, arguments=args)

    def letter(self):
        return get(self.ch, self.dlq)


REASONS = {
    "rejected": ({}, {}, lambda d: d.ch.basic_reject(get(d.ch, d.q, auto_ack=False)[0].delivery_tag, requeue=False)),
    "nacked": ({}, {}, lambda d: d.ch.basic_nack(get(d.ch, d.q, auto_ack=False)[0].delivery_tag, requeue=False)),
    "expired": ({"x_message_ttl": 20}, {}, None),
    "expired-message": ({}, {"expiration": "20"}, None),
    "maxlen": ({"x_max_length": 0}, {}, None),
    "maxlen-bytes": ({"x_max_length_bytes": 0}, {}, None),
}


@pytest.mark.parametrize("case", REASONS)
def test_x_death_field_by_field(amqp, case):
    arguments, props, action = REASONS[case]
    reason = {"nacked": "rejected", "maxlen-bytes": "maxlen", "expired-message": "expired"}.get(case, case)
    dead = Dead(amqp, **arguments)
    before = datetime.datetime.utcnow().replace(microsecond=0)
    put(dead.ch, dead.q, b"body", headers={"mine": 1}, message_id="m1", content_type="text/x", delivery_mode=2,
        **props)
    if action:
        action(dead)
    method, got, body = dead.letter()
    assert (method.exchange, method.routing_key, method.redelivered) == (dead.dlx, dead.q, False)
    assert (body, got.message_id, got.content_type, got.delivery_mode) == (b"body", "m1", "text/x", 2)
    assert got.expiration is None
    headers = dict(got.headers)
    (death,) = headers.pop("x-death")
    moment = death.pop("time")
    assert datetime.timedelta(0) <= moment - before < datetime.timedelta(seconds=100)
    expected = {"count": 1, "reason": reason, "queue": dead.q, "exchange": "", "routing-keys": [dead.q]}
    if "expiration" in props:
        expected["original-expiration"] = "20"
    assert death == expected
    assert headers == {"mine": 1, "x-first-death-reason": reason, "x-first-death-queue": dead.q,
                       "x-first-death-exchange": ""}


def test_dead_letter_routing_key(amqp):
    dead = Dead(amqp, key="fixed.key", bind="fixed.*", x_max_length=0)
    x = amqp.exchange(dead.ch, "topic")
    dead.ch.queue_bind(dead.q, x, "#")
    dead.ch.basic_publish(x, "original.key", b"m")
    method, props, _ = dead.letter()
    assert method.routing_key == "fixed.key"
    (death,) = props.headers["x-death"]
    assert (death["exchange"], death["routing-keys"]) == (x, ["original.key"])


def test_dead_letter_keeps_cc_without_a_new_key(amqp):
    dead = Dead(amqp, x_max_length=0)
    dead.ch.basic_publish("", dead.q, b"m", pika.BasicProperties(headers={"CC": ["copy"]}))
    _, props, _ = dead.letter()
    assert props.headers["x-death"][0]["routing-keys"] == [dead.q, "copy"]
    assert props.headers["CC"] == ["copy"]


def test_dead_letter_key_removes_cc(amqp):
    dead = Dead(amqp, key="new", x_max_length=0)
    dead.ch.basic_publish("", dead.q, b"m", pika.BasicProperties(headers={"CC": ["copy"]}))
    _, props, _ = dead.letter()
    assert props.headers["x-death"][0]["routing-keys"] == [dead.q, "copy"]
    assert "CC" not in props.headers


def test_x_death_counts_and_puts_the_newest_first(amqp):
    """Rejected in one queue, expired in the next, back to the first: two entries, moved and counted."""
    ch = amqp.channel()
    first, wait = amqp.unique("first"), amqp.unique("wait")
    amqp.queue(ch, first, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": wait})
    amqp.queue(ch, wait, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": first,
                                    "x-message-ttl": 10})
    put(ch, first, b"m")
    for turn in range(1, 4):
        method, props, _ = get(ch, first, auto_ack=False)
        if turn > 1:
            entries = [(d["queue"], d["reason"], d["count"]) for d in props.headers["x-death"]]
            assert entries == [(wait, "expired", turn - 1), (first, "rejected", turn - 1)]
            assert props.headers["x-first-death-queue"] == first
            assert props.headers["x-first-death-reason"] == "rejected"
        ch.basic_reject(method.delivery_tag, requeue=False)


def test_dead_letter_cycle_without_a_rejection_ends(amqp):
    """A message that expires in a circle is dropped, not circled for ever."""
    ch = amqp.channel(confirm=True)
    q = amqp.unique("loop")
    amqp.queue(ch, q, arguments={"x-dead-letter-exchange": "", "x-message-ttl": 10})
    put(ch, q, b"m")
    wait_depth(ch, q, 0)
    assert ch.basic_get(q)[0] is None


def test_dead_letter_exchange_may_be_missing(amqp):
    ch = amqp.channel(confirm=True)
    q = amqp.queue(ch, arguments={"x-dead-letter-exchange": amqp.unique("nowhere"), "x-max-length": 0})
    put(ch, q, b"m")
    assert depth(ch, q) == 0 and ch.is_open


def test_reject_publish_dlx(amqp):
    dead = Dead(amqp, x_max_length=1, x_overflow="reject-publish-dlx")
    put(dead.ch, dead.q, b"1")
    with pytest.raises(exceptions.NackError):
        put(dead.ch, dead.q, b"2")
    _, props, body = dead.letter()
    assert (body, props.headers["x-death"][0]["reason"]) == (b"2", "maxlen")


def test_drop_head_dead_letters_in_order(amqp):
    dead = Dead(amqp, x_max_length=2)
    put(dead.ch, dead.q, *[b"%d" % n for n in range(6)])
    assert drain(dead.ch, dead.dlq, 4) == [b"0", b"1", b"2", b"3"]


@pytest.mark.parametrize("how", ["purge", "delete", "ack"])
def test_not_dead_lettered(amqp, how):
    dead = Dead(amqp)
    put(dead.ch, dead.q, b"m")
    if how == "ack":
        dead.ch.basic_ack(get(dead.ch, dead.q, auto_ack=False)[0].delivery_tag)
    else:
        getattr(dead.ch, f"queue_{how}")(dead.q)
    time.sleep(0.05)
    assert depth(dead.ch, dead.dlq) == 0


def test_user_made_x_death_is_kept_behind(amqp):
    """Whatever a publisher calls x-death must not break dead lettering."""
    dead = Dead(amqp, x_max_length=0)
    dead.ch.basic_publish("", dead.q, b"m", pika.BasicProperties(headers={"x-death": "not a list"}))
    _, props, _ = dead.letter()
    assert props.headers["x-death"][0]["queue"] == dead.q


# -- priorities -----------------------------------------------------------------------------------
def test_priority_order(amqp):
    ch = amqp.channel(confirm=True)
    q = amqp.queue(ch, arguments={"x-max-priority": 5})
    for n, priority in enumerate([1, 5, None, 3, 5, 0, 9, 1]):
        put(ch, q, b"%d:%s" % (n, str(priority).encode()), priority=priority)
    assert drain(ch, q, 8) == [b"1:5", b"4:5", b"6:9", b"3:3", b"0:1", b"7:1", b"2:None", b"5:0"]


def test_priority_is_ignored_without_the_argument(amqp):
    ch = amqp.channel(confirm=True)
    q = amqp.queue(ch)
    put(ch, q, b"1", priority=1)
    put(ch, q, b"9", priority=9)
    assert drain(ch, q, 2) == [b"1", b"9"]


def test_priority_and_requeue(amqp):
    ch = amqp.channel(confirm=True)
    q = amqp.queue(ch, arguments={"x-max-priority": 5})
    put(ch, q, b"low", priority=1)
    put(ch, q, b"high", priority=4)
    method, _, body = get(ch, q, auto_ack=False)
    assert body == b"high"
    put(ch, q, b"middle", priority=2)
    ch.basic_nack(method.delivery_tag, requeue=True)
    assert drain(ch, q, 3) == [b"high", b"middle", b"low"]


def test_priority_drop_head_drops_the_highest(amqp):
    """The head of a priority queue is its highest priority; RabbitMQ drops just that."""
    ch = amqp.channel(confirm=True)
    q = amqp.queue(ch, arguments={"x-max-priority": 5, "x-max-length": 2})
    for body, priority in ((b"low", 1), (b"high", 5), (b"middle", 3)):
        put(ch, q, body, priority=priority)
    assert drain(ch, q, 2) == [b"middle", b"low"]


# -- quorum ---------------------------------------------------------------------------------------
def test_quorum_queue_hello(amqp):
    ch = amqp.channel(confirm=True)
    q = amqp.queue(ch, durable=True, arguments=QUORUM)
    put(ch, q, b"1", b"2")
    assert drain(ch, q, 2) == [b"1", b"2"]


def attempts(amqp, ch, q, most):
    """Requeues the one message of q until it is gone; the x-delivery-count seen at each attempt."""
    seen = []
    sink = Sink(ch, q)
    while len(seen) < most:
        try:
            sink.wait(len(seen) + 1, timeout_s=3.0)
        except AssertionError:
            break
        deliver, props, _ = sink.got[-1]
        assert deliver.redelivered is bool(seen)
        seen.append((props.headers or {}).get("x-delivery-count"))
        ch.basic_nack(deliver.delivery_tag, requeue=True)
    ch.basic_cancel(sink.tag)
    return seen


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_delivery_limit_dead_letters(amqp, limit):
    dead = Dead(amqp, durable=True, x_queue_type="quorum", x_delivery_limit=limit)
    put(dead.ch, dead.q, b"poison")
    counts = attempts(amqp, dead.ch, dead.q, limit + 5)
    assert counts == [None, *range(1, limit + 1)]
    _, props, body = dead.letter()
    death = props.headers["x-death"][0]
    assert (body, death["reason"], death["queue"], death["count"]) == (b"poison", "delivery_limit", dead.q, 1)


def test_delivery_limit_default(amqp):
    """RabbitMQ 3.10 has no default limit; the gateway takes the 20 that RabbitMQ has since 4.0."""
    dead = Dead(amqp, durable=True, x_queue_type="quorum")
    put(dead.ch, dead.q, b"poison")
    counts = attempts(amqp, dead.ch, dead.q, 30)
    assert len(counts) == (30 if amqp.broker.is_rabbitmq else 21)


@pytest.mark.parametrize("arguments,expected", [
    ({"x-max-length": 2}, [b"2", b"3"]), ({"x-message-ttl": 20}, []),
])
def test_quorum_queue_limits(amqp, arguments, expected):
    ch = amqp.channel(confirm=True)
    q = amqp.queue(ch, durable=True, arguments={**QUORUM, **arguments})
    put(ch, q, *[b"%d" % n for n in range(4)])
    wait_depth(ch, q, len(expected))
    assert drain(ch, q) == expected


def test_quorum_reject_publish(amqp):
    ch = amqp.channel(confirm=True)
    q = amqp.queue(ch, durable=True, arguments={**QUORUM, "x-max-length": 1, "x-overflow": "reject-publish"})
    with pytest.raises(exceptions.NackError):
        put(ch, q, *[b"m"] * 20)


def test_quorum_dead_letter_at_least_once(amqp):
    dead = Dead(amqp, durable=True, x_queue_type="quorum", x_dead_letter_strategy="at-least-once",
                x_overflow="reject-publish")
    put(dead.ch, dead.q, b"m")
    dead.ch.basic_reject(get(dead.ch, dead.q, auto_ack=False)[0].delivery_tag, requeue=False)
    _, props, body = dead.letter()
    assert (body, props.headers["x-death"][0]["reason"]) == (b"m", "rejected")
    wait_depth(dead.ch, dead.q, 0)


# -- single active consumer -----------------------------------------------------------------------
class TestSingleActiveConsumer:
    def test_one_gets_all_then_the_next(self, amqp):
        one, two = amqp.channel(), amqp.channel(new_connection=True)
        q = amqp.queue(one, arguments={"x-single-active-consumer": True})
        first, second = Sink(one, q, auto_ack=True), Sink(two, q, auto_ack=True)
        put(one, q, b"1", b"2", b"3")
        first.wait(3)
        assert second.idle(0) == []
        one.basic_cancel(first.tag)
        put(one, q, b"4")
        assert second.wait(1)[0][2] == b"4"

    def test_takes_over_what_was_not_acked(self, amqp):
        one, two = amqp.channel(new_connection=True), amqp.channel(new_connection=True)
        q = amqp.queue(two, arguments={"x-single-active-consumer": True})
        first, second = Sink(one, q), Sink(two, q)
        put(two, q, b"1", b"2")
        first.wait(2)
        one.connection.close()
        second.wait(2)
        assert [(m.redelivered, body) for m, _, body in second.got] == [(True, b"1"), (True, b"2")]

    def test_exclusive_consume_is_refused(self, amqp):
        ch = amqp.channel()
        q = amqp.queue(ch, arguments={"x-single-active-consumer": True})
        with closes("channel", 403, f"ACCESS_REFUSED - queue '{q}' in vhost '/' in exclusive use"):
            Sink(ch, q, exclusive=True)
