"""Soft and hard errors: reply code, scope and text, as RabbitMQ 3.10 gives them.

Client libraries and applications compare these texts, so each row holds the whole text. A row's action runs
on a channel where queue {q} and exchange {x} exist (not durable, no arguments) and {new} does not.
"""
import pika
import pytest
from pika import spec

from mqtest import wire
from mqtest.pika_help import Sink, closes, get, put, wait_depth

CH, CONN = "channel", "connection"


class World:
    """What an action works on."""

    def __init__(self, amqp):
        self.amqp = amqp
        self.ch = amqp.channel()
        self.q = amqp.queue(self.ch)
        self.x = amqp.exchange(self.ch)
        self.new = amqp.unique("new")
        amqp.queues.append(self.new)
        amqp.exchanges.append(self.new)
        self.vhost = "/"

    def declare(self, durable=False, exclusive=False, auto_delete=False, **arguments):
        named = {key.replace("_", "-"): value for key, value in arguments.items()}
        return self.ch.queue_declare(self.new, durable=durable, exclusive=exclusive, auto_delete=auto_delete,
                                     arguments=named)

    def publish(self, exchange="", key=None, body=b"m", **props):
        self.ch.basic_publish(exchange, self.q if key is None else key, body, pika.BasicProperties(**props))
        self.ch.basic_qos(prefetch_count=0)

    def then(self, *_):
        """A call that shows what an asynchronous method did."""
        self.ch.basic_qos(prefetch_count=0)

    def send(self, method):
        """A method that pika itself would refuse."""
        self.ch._impl._send_method(method)

    def fresh(self):
        """A channel on which nothing was declared yet."""
        return self.amqp.channel()

    def other(self):
        """The same world on another connection."""
        self.ch = self.amqp.channel(new_connection=True)
        return self


def rows(*table):
    return [pytest.param(*row[1:], id=row[0]) for row in table]


def run(amqp, action, scope, code, text):
    world = World(amqp)
    with closes(scope, code, text.format(**vars(world))):
        action(world)


NO_QUEUE = "NOT_FOUND - no queue '{new}' in vhost '/'"
NO_EXCHANGE = "NOT_FOUND - no exchange '{new}' in vhost '/'"


@pytest.mark.parametrize("action,scope,code,text", rows(
    ("queue-passive", lambda w: w.ch.queue_declare(w.new, passive=True), CH, 404, NO_QUEUE),
    ("queue-passive-empty-name", lambda w: w.ch.queue_declare("", passive=True), CH, 404,
     "NOT_FOUND - no queue '' in vhost '/'"),
    ("exchange-passive", lambda w: w.ch.exchange_declare(w.new, passive=True), CH, 404, NO_EXCHANGE),
    ("purge", lambda w: w.ch.queue_purge(w.new), CH, 404, NO_QUEUE),
    ("get", lambda w: w.ch.basic_get(w.new), CH, 404, NO_QUEUE),
    ("consume", lambda w: w.ch.basic_consume(w.new, print), CH, 404, NO_QUEUE),
    ("publish", lambda w: w.publish(w.new), CH, 404, NO_EXCHANGE),
    ("bind-queue", lambda w: w.ch.queue_bind(w.new, w.x, "k"), CH, 404, NO_QUEUE),
    ("bind-exchange", lambda w: w.ch.queue_bind(w.q, w.new, "k"), CH, 404, NO_EXCHANGE),
    ("e2e-source", lambda w: w.ch.exchange_bind(w.x, w.new, "k"), CH, 404, NO_EXCHANGE),
    ("e2e-destination", lambda w: w.ch.exchange_bind(w.new, w.x, "k"), CH, 404, NO_EXCHANGE),
    ("get-empty-name", lambda w: w.fresh().basic_get(""), CH, 404,
     "NOT_FOUND - no previously declared queue"),
    ("bind-empty-name", lambda w: w.fresh().queue_bind("", w.x, "k"), CH, 404,
     "NOT_FOUND - no previously declared queue"),
))
def test_not_found(amqp, action, scope, code, text):
    run(amqp, action, scope, code, text)


def test_deleting_what_is_not_there_is_no_error(amqp):
    ch = amqp.channel()
    assert ch.queue_delete(amqp.unique("none")).method.message_count == 0
    ch.exchange_delete(amqp.unique("none"))
    assert ch.is_open


def test_unbinding_what_is_not_bound_is_no_error(amqp):
    world = World(amqp)
    world.ch.queue_unbind(world.q, world.x, "never")
    world.ch.exchange_unbind(world.x, "amq.topic", "never")
    assert world.ch.is_open


def differs(kind, name, how):
    return f"PRECONDITION_FAILED - inequivalent arg '{name}' for {kind} in vhost '/': {how}"


@pytest.mark.parametrize("action,scope,code,text", rows(
    ("durable", lambda w: w.ch.queue_declare(w.q, durable=True), CH, 406,
     differs("queue '{q}'", "durable", "received 'true' but current is 'false'")),
    ("auto-delete", lambda w: w.ch.queue_declare(w.q, auto_delete=True), CH, 406,
     differs("queue '{q}'", "auto_delete", "received 'true' but current is 'false'")),
    ("exclusive", lambda w: w.ch.queue_declare(w.q, exclusive=True), CH, 405,
     "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{q}' in vhost '/'. It could be originally "
     "declared on another connection or the exclusive property value does not match that of the original "
     "declaration."),
    ("ttl-added", lambda w: w.ch.queue_declare(w.q, arguments={"x-message-ttl": 1000}), CH, 406,
     differs("queue '{q}'", "x-message-ttl", "received the value '1000' of type 'signedint' but current is none")),
    ("ttl-removed", lambda w: (w.declare(x_message_ttl=1000), w.ch.queue_declare(w.new)), CH, 406,
     differs("queue '{new}'", "x-message-ttl", "received none but current is the value '1000' of type 'signedint'")),
    ("ttl-other", lambda w: (w.declare(x_message_ttl=1000), w.declare(x_message_ttl=2000)), CH, 406,
     differs("queue '{new}'", "x-message-ttl", "received '2000' but current is '1000'")),
    ("dlx-other", lambda w: (w.declare(x_dead_letter_exchange="a"), w.declare(x_dead_letter_exchange="b")), CH, 406,
     differs("queue '{new}'", "x-dead-letter-exchange", "received 'b' but current is 'a'")),
    ("dlx-added", lambda w: w.ch.queue_declare(w.q, arguments={"x-dead-letter-exchange": "a"}), CH, 406,
     differs("queue '{q}'", "x-dead-letter-exchange",
             "received the value 'a' of type 'longstr' but current is none")),
    ("max-length", lambda w: (w.declare(x_max_length=1), w.declare(x_max_length=2)), CH, 406,
     differs("queue '{new}'", "x-max-length", "received '2' but current is '1'")),
    ("max-bytes", lambda w: (w.declare(x_max_length_bytes=1), w.declare(x_max_length_bytes=2)), CH, 406,
     differs("queue '{new}'", "x-max-length-bytes", "received '2' but current is '1'")),
    ("overflow", lambda w: (w.declare(x_overflow="drop-head"), w.declare(x_overflow="reject-publish")), CH, 406,
     differs("queue '{new}'", "x-overflow", "received 'reject-publish' but current is 'drop-head'")),
    ("expires", lambda w: (w.declare(x_expires=60000), w.declare(x_expires=70000)), CH, 406,
     differs("queue '{new}'", "x-expires", "received '70000' but current is '60000'")),
    ("priority", lambda w: (w.declare(x_max_priority=5), w.declare(x_max_priority=6)), CH, 406,
     differs("queue '{new}'", "x-max-priority", "received '6' but current is '5'")),
    ("single-active", lambda w: (w.declare(x_single_active_consumer=True), w.ch.queue_declare(w.new)), CH, 406,
     differs("queue '{new}'", "x-single-active-consumer",
             "received none but current is the value 'true' of type 'bool'")),
    ("queue-type", lambda w: (w.declare(durable=True), w.declare(durable=True, x_queue_type="quorum")), CH, 406,
     differs("queue '{new}'", "x-queue-type",
             "received the value 'quorum' of type 'longstr' but current is none")),
    ("exchange-type", lambda w: w.ch.exchange_declare(w.x, "fanout"), CH, 406,
     differs("exchange '{x}'", "type", "received 'fanout' but current is 'direct'")),
    ("exchange-durable", lambda w: w.ch.exchange_declare(w.x, "direct", durable=True), CH, 406,
     differs("exchange '{x}'", "durable", "received 'true' but current is 'false'")),
    ("exchange-auto-delete", lambda w: w.ch.exchange_declare(w.x, "direct", auto_delete=True), CH, 406,
     differs("exchange '{x}'", "auto_delete", "received 'true' but current is 'false'")),
    ("exchange-internal", lambda w: w.ch.exchange_declare(w.x, "direct", internal=True), CH, 406,
     differs("exchange '{x}'", "internal", "received 'true' but current is 'false'")),
    ("exchange-alternate", lambda w: w.ch.exchange_declare(w.x, "direct", arguments={"alternate-exchange": "y"}),
     CH, 406, differs("exchange '{x}'", "alternate-exchange",
                      "received the value 'y' of type 'longstr' but current is none")),
))
def test_inequivalent(amqp, action, scope, code, text):
    run(amqp, action, scope, code, text)


@pytest.mark.parametrize("again", [
    dict(arguments={"x-message-ttl": 1000}),
    dict(arguments={"x-message-ttl": 1000, "x-unknown": "is ignored"}),
])
def test_equivalent_declare_is_ok(amqp, again):
    ch = amqp.channel()
    q = amqp.queue(ch, arguments={"x-message-ttl": 1000})
    put(ch, q, b"1", b"2")
    wait_depth(ch, q, 2)
    assert ch.queue_declare(q, **again).method.message_count == 2


def test_integer_width_of_an_argument_does_not_matter(broker, unique):
    with wire.Conn(broker).connect() as conn:
        name = unique("q")
        for kind, value in ((b"b", b"\x64"), (b"s", b"\x00\x64"), (b"I", b"\0\0\0\x64"), (b"l", b"\0" * 7 + b"\x64")):
            args = wire.table(("x-message-ttl", kind, value))
            payload = spec.Queue.Declare.INDEX.to_bytes(4, "big") + b"\0\0" + wire.short_string(name) + b"\x08" + args
            conn.send_raw(wire.raw_frame(wire.METHOD, 1, payload))
            assert conn.expect(spec.Queue.DeclareOk).queue == name


def test_passive_declare_compares_nothing(amqp):
    world = World(amqp)
    world.ch.queue_declare(world.q, passive=True, durable=True, auto_delete=True, arguments={"x-message-ttl": 5})
    world.ch.exchange_declare(world.x, "fanout", passive=True, durable=True, internal=True)
    assert world.ch.is_open


DEFAULT_X = "ACCESS_REFUSED - operation not permitted on the default exchange"


@pytest.mark.parametrize("action,scope,code,text", rows(
    ("queue-prefix", lambda w: w.ch.queue_declare("amq.mine"), CH, 403,
     "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'"),
    ("exchange-prefix", lambda w: w.ch.exchange_declare("amq.mine", "direct"), CH, 403,
     "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'"),
    ("delete-predeclared", lambda w: w.ch.exchange_delete("amq.direct"), CH, 403,
     "ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed"),
    ("delete-default", lambda w: w.ch.exchange_delete(""), CH, 403, DEFAULT_X),
    ("bind-default", lambda w: w.ch.queue_bind(w.q, "", w.q), CH, 403, DEFAULT_X),
    ("unbind-default", lambda w: w.ch.queue_unbind(w.q, "", w.q), CH, 403, DEFAULT_X),
    ("e2e-default", lambda w: w.ch.exchange_bind(w.x, "", "k"), CH, 403, DEFAULT_X),
    ("publish-internal", lambda w: (w.ch.exchange_declare(w.new, "fanout", internal=True), w.publish(w.new)),
     CH, 403, "ACCESS_REFUSED - cannot publish to internal exchange '{new}' in vhost '/'"),
    ("consume-exclusive-taken", lambda w: (w.ch.basic_consume(w.q, print), w.ch.basic_consume(
        w.q, print, exclusive=True)), CH, 403, "ACCESS_REFUSED - queue '{q}' in vhost '/' in exclusive use"),
    ("consume-while-exclusive", lambda w: (w.ch.basic_consume(w.q, print, exclusive=True), w.ch.basic_consume(
        w.q, print)), CH, 403, "ACCESS_REFUSED - queue '{q}' in vhost '/' in exclusive use"),
))
def test_access_refused(amqp, action, scope, code, text):
    run(amqp, action, scope, code, text)


LOCKED = ("RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{new}' in vhost '/'. It could be "
          "originally declared on another connection or the exclusive property value does not match that of the "
          "original declaration.")


@pytest.mark.parametrize("action", [
    pytest.param(lambda w: w.ch.queue_declare(w.new, exclusive=True), id="declare"),
    pytest.param(lambda w: w.ch.queue_declare(w.new), id="declare-shared"),
    pytest.param(lambda w: w.ch.queue_declare(w.new, passive=True), id="passive"),
    pytest.param(lambda w: w.ch.queue_delete(w.new), id="delete"),
    pytest.param(lambda w: w.ch.queue_purge(w.new), id="purge"),
    pytest.param(lambda w: w.ch.basic_get(w.new), id="get"),
    pytest.param(lambda w: w.ch.basic_consume(w.new, print), id="consume"),
    pytest.param(lambda w: w.ch.queue_bind(w.new, w.x, "k"), id="bind"),
])
def test_exclusive_queue_is_locked_for_others(amqp, action):
    world = World(amqp)
    world.declare(exclusive=True)
    with closes("channel", 405, LOCKED.format(new=world.new)):
        action(world.other())


@pytest.mark.parametrize("action,scope,code,text", rows(
    ("delete-in-use", lambda w: (w.ch.basic_consume(w.q, print), w.ch.queue_delete(w.q, if_unused=True)), CH, 406,
     "PRECONDITION_FAILED - queue '{q}' in vhost '/' in use"),
    ("delete-not-empty", lambda w: (put(w.ch, w.q, b"m"), w.ch.queue_delete(w.q, if_empty=True)), CH, 406,
     "PRECONDITION_FAILED - queue '{q}' in vhost '/' not empty"),
    ("exchange-in-use", lambda w: (w.ch.queue_bind(w.q, w.x, "k"), w.ch.exchange_delete(w.x, if_unused=True)), CH,
     406, "PRECONDITION_FAILED - exchange '{x}' in vhost '/' in use"),
    ("ack-unknown", lambda w: w.then(w.ch.basic_ack(7)), CH, 406, "PRECONDITION_FAILED - unknown delivery tag 7"),
    ("nack-unknown", lambda w: w.then(w.ch.basic_nack(7)), CH, 406, "PRECONDITION_FAILED - unknown delivery tag 7"),
    ("reject-unknown", lambda w: w.then(w.ch.basic_reject(7)), CH, 406,
     "PRECONDITION_FAILED - unknown delivery tag 7"),
    ("ack-multiple-unknown", lambda w: w.then(w.ch.basic_ack(7, multiple=True)), CH, 406,
     "PRECONDITION_FAILED - unknown delivery tag 7"),
    ("ack-zero", lambda w: w.then(w.ch.basic_ack(0)), CH, 406, "PRECONDITION_FAILED - unknown delivery tag 0"),
    ("ack-twice", lambda w: (put(w.ch, w.q, b"m"), get(w.ch, w.q, auto_ack=False), w.ch.basic_ack(1),
                             w.then(w.ch.basic_ack(1))), CH, 406, "PRECONDITION_FAILED - unknown delivery tag 1"),
    ("tx-after-confirm", lambda w: (w.ch.confirm_delivery(), w.ch.tx_select()), CH, 406,
     "PRECONDITION_FAILED - cannot switch from confirm to tx mode"),
    ("confirm-after-tx", lambda w: (w.ch.tx_select(), w.ch.confirm_delivery()), CH, 406,
     "PRECONDITION_FAILED - cannot switch from tx to confirm mode"),
    ("commit-without-tx", lambda w: w.ch.tx_commit(), CH, 406,
     "PRECONDITION_FAILED - channel is not transactional"),
    ("rollback-without-tx", lambda w: w.ch.tx_rollback(), CH, 406,
     "PRECONDITION_FAILED - channel is not transactional"),
    ("user-id", lambda w: w.publish(user_id="somebody"), CH, 406,
     "PRECONDITION_FAILED - user_id property set to 'somebody' but authenticated user was 'guest'"),
    ("expiration-text", lambda w: w.publish(expiration="soon"), CH, 406,
     "PRECONDITION_FAILED - invalid expiration 'soon': no_integer"),
    ("expiration-negative", lambda w: w.publish(expiration="-1"), CH, 406,
     "PRECONDITION_FAILED - invalid expiration '-1': {{value_negative,-1}}"),
    ("expiration-rest", lambda w: w.publish(expiration="10s"), CH, 406,
     "PRECONDITION_FAILED - invalid expiration '10s': {{leftover_string,\"s\"}}"),
    ("delivery-mode-0", lambda w: w.publish(delivery_mode=0), CH, 406,
     "PRECONDITION_FAILED - invalid message: {{delivery_mode_unknown,0}}"),
    ("delivery-mode-3", lambda w: w.publish(delivery_mode=3), CH, 406,
     "PRECONDITION_FAILED - invalid message: {{delivery_mode_unknown,3}}"),
    ("cc-no-list", lambda w: w.publish(headers={"CC": "q"}), CH, 406,
     "PRECONDITION_FAILED - invalid message: {{unacceptable_type_in_header,\"CC\",longstr}}"),
    ("bcc-no-list", lambda w: w.publish(headers={"BCC": "q"}), CH, 406,
     "PRECONDITION_FAILED - invalid message: {{unacceptable_type_in_header,\"BCC\",longstr}}"),
    ("consumer-priority", lambda w: w.ch.basic_consume(w.q, print, arguments={"x-priority": "high"}), CH, 406,
     "PRECONDITION_FAILED - invalid arg 'x-priority' for queue '{q}' in vhost '/': "
     "\"expected integer, got longstr\""),
))
def test_precondition_failed(amqp, action, scope, code, text):
    run(amqp, action, scope, code, text)


@pytest.mark.parametrize("action,scope,code,text", rows(
    ("exchange-type-unknown", lambda w: w.ch.exchange_declare(w.new, "bogus"), CONN, 503,
     "COMMAND_INVALID - unknown exchange type 'bogus'"),
    ("tag-reuse", lambda w: (w.ch.basic_consume(w.q, print, consumer_tag="a"), w.send(
        spec.Basic.Consume(queue=w.q, consumer_tag="a")), w.then()), CONN, 530, "NOT_ALLOWED - attempt to reuse consumer tag 'a'"),
    ("prefetch-size", lambda w: w.ch.basic_qos(prefetch_size=100), CONN, 540,
     "NOT_IMPLEMENTED - prefetch_size!=0 (100)"),
    ("recover-no-requeue", lambda w: w.ch.basic_recover(requeue=False), CONN, 540,
     "NOT_IMPLEMENTED - requeue=false"),
))
def test_hard_errors(amqp, action, scope, code, text):
    run(amqp, action, scope, code, text)


NO_INT = '"expected integer, got {}"'
BAD_ARGS = [
    ("x-message-ttl", "abc", NO_INT.format("longstr")), ("x-message-ttl", -1, "{value_negative,-1}"),
    ("x-message-ttl", True, NO_INT.format("bool")), ("x-message-ttl", 1 << 40, "{value_too_large,1099511627776}"),
    ("x-expires", 0, "{value_zero,0}"), ("x-expires", -5, "{value_negative,-5}"),
    ("x-expires", "1", NO_INT.format("longstr")),
    ("x-max-length", -1, "{value_negative,-1}"), ("x-max-length", "x", NO_INT.format("longstr")),
    ("x-max-length-bytes", -1, "{value_negative,-1}"),
    ("x-max-priority", -1, "{value_negative,-1}"), ("x-max-priority", 256, "{max_value_exceeded,256}"),
    ("x-max-priority", "9", NO_INT.format("longstr")),
    ("x-overflow", "explode", "invalid_overflow"), ("x-overflow", 3, "{unacceptable_type,signedint}"),
    ("x-dead-letter-routing-key", "k", "routing_key_but_no_dlx_defined"),
    ("x-queue-mode", "odd", "\"unsupported queue mode 'odd'\""),
    ("x-queue-type", "bogus", "\"unsupported queue type 'bogus'\""),
    ("x-queue-type", 3, "{unacceptable_type,signedint}"),
    ("x-single-active-consumer", "yes", "{unacceptable_type,longstr}"),
]


@pytest.mark.parametrize("name,value,how", BAD_ARGS, ids=[f"{n}={v!r}" for n, v, _ in BAD_ARGS])
def test_bad_queue_argument(amqp, name, value, how):
    world = World(amqp)
    with closes("channel", 406, f"PRECONDITION_FAILED - invalid arg '{name}' for queue '{world.new}' in vhost '/': {how}"):
        world.ch.queue_declare(world.new, arguments={name: value})


QUORUM_REFUSES = [
    (dict(durable=False), "property 'non-durable'", ""),
    (dict(durable=True, exclusive=True), "property 'exclusive-owner'", ""),
    (dict(durable=True, auto_delete=True), "property 'auto-delete'", ""),
    (dict(durable=True, x_max_priority=3), "arg 'x-max-priority'", " of queue type rabbit_quorum_queue"),
    (dict(durable=True, x_dead_letter_strategy="some"), "arg 'x-dead-letter-strategy'", ": invalid_dlx_strategy"),
]


@pytest.mark.parametrize("kw,what,how", QUORUM_REFUSES, ids=[what for _, what, _ in QUORUM_REFUSES])
def test_quorum_queue_refuses(amqp, kw, what, how):
    text = f"PRECONDITION_FAILED - invalid {what} for queue '{{new}}' in vhost '/'{how}"
    run(amqp, lambda w: w.declare(x_queue_type="quorum", **kw), CH, 406, text)
