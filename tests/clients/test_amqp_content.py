"""Content: bodies of every size and split, properties, and field tables with every type RabbitMQ knows."""
import datetime
import decimal
import hashlib
import struct

import pika
import pytest
from pika import spec

from mqtest import wire
from mqtest.pika_help import get, put

SIZES = [0, 1, 100, 4087, 4088, 4089, 8176, 65535, 65536, 131064, 131065, 1 << 20]


def body_of(size):
    """Bytes that tell a lost, doubled or swapped frame."""
    block = b"".join(struct.pack(">I", n) for n in range(min(size, 1 << 16) // 4 + 1))
    return (block * (size // len(block) + 1))[:size]


def digest(data):
    return len(data), hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("frame_max", [4096, 131072])
def test_body_sizes(broker, amqp, frame_max, size):
    q = amqp.queue(amqp.channel())
    body = body_of(size)
    with wire.Conn(broker).connect(frame_max=frame_max) as conn:
        conn.rpc(1, spec.Basic.Consume(queue=q, consumer_tag="t", no_ack=True), spec.Basic.ConsumeOk)
        conn.publish(1, "", q, body)
        assert digest(conn.read_content()[2]) == digest(body)


def test_body_larger_than_any_frame(amqp):
    ch = amqp.channel(confirm=True)
    q = amqp.queue(ch)
    body = body_of(8 << 20)
    put(ch, q, body)
    assert digest(get(ch, q)[2]) == digest(body)


def test_body_from_a_large_frame_to_a_small_one(broker, amqp):
    q = amqp.queue(amqp.channel())
    body = body_of(100_000)
    with wire.Conn(broker).connect(frame_max=131072) as big, wire.Conn(broker).connect(frame_max=4096) as small:
        big.publish(1, "", q, body)
        small.rpc(1, spec.Basic.Consume(queue=q, consumer_tag="t", no_ack=True), spec.Basic.ConsumeOk)
        assert digest(small.read_content()[2]) == digest(body)


@pytest.mark.parametrize("splits", [[1, 1, 1], [0, 5, 0], [7, 3], [10]], ids=str)
def test_body_in_any_split(broker, amqp, splits):
    q = amqp.queue(amqp.channel())
    with wire.Conn(broker).connect() as conn:
        conn.publish(1, "", q, b"0123456789", splits=splits)
        conn.rpc(1, spec.Basic.Consume(queue=q, consumer_tag="t", no_ack=True), spec.Basic.ConsumeOk)
        assert conn.read_content()[2] == b"0123456789"


@pytest.mark.parametrize("step", [1, 2, 3, 7, 50])
def test_bytes_in_any_piece(broker, amqp, step):
    """The same bytes, sent in pieces of `step` bytes."""
    q = amqp.queue(amqp.channel())
    with wire.Conn(broker).connect() as conn:
        data = wire.method_frame(1, spec.Basic.Consume(queue=q, consumer_tag="t", no_ack=True))
        data += wire.content(1, "", q, b"body" * 20) + wire.content(1, "", q, b"")
        for at in range(0, len(data), step):
            conn.send_raw(data[at:at + step])
        conn.expect(spec.Basic.ConsumeOk)
        assert [conn.read_content()[2] for _ in range(2)] == [b"body" * 20, b""]


def test_contents_of_two_channels_interleave(broker, amqp):
    q = amqp.queue(amqp.channel())
    with wire.Conn(broker).connect(channels=2) as conn:
        one, two = (wire.content(n, "", q, bytes([64 + n]) * 10, splits=[5, 5]) for n in (1, 2))
        pieces = [list(frames(data)) for data in (one, two)]
        conn.send_raw(b"".join(piece for pair in zip(*pieces) for piece in pair))
        conn.rpc(1, spec.Basic.Consume(queue=q, consumer_tag="t", no_ack=True), spec.Basic.ConsumeOk)
        assert sorted(conn.read_content()[2] for _ in range(2)) == [b"A" * 10, b"B" * 10]


def frames(data):
    while data:
        size = struct.unpack_from(">I", data, 3)[0] + 8
        yield data[:size]
        data = data[size:]


# -- properties -----------------------------------------------------------------------------------
PROPERTIES = dict(
    content_type="text/plain", content_encoding="gzip", headers={"a": 1}, delivery_mode=2, priority=7,
    correlation_id="cid", reply_to="somewhere", expiration="60000", message_id="mid", timestamp=1700000000,
    type="a.type", user_id="guest", app_id="app", cluster_id="cluster")


@pytest.mark.parametrize("names", [[name] for name in PROPERTIES] + [list(PROPERTIES), []],
                         ids=lambda names: names[0] if len(names) == 1 else f"{len(names)}-of-them")
def test_properties_round_trip(amqp, names):
    ch = amqp.channel()
    q = amqp.queue(ch)
    sent = {name: PROPERTIES[name] for name in names}
    put(ch, q, b"m", **sent)
    props = get(ch, q)[1]
    assert {name: getattr(props, name) for name in PROPERTIES if getattr(props, name) is not None} == sent


@pytest.mark.parametrize("value", ["", "x" * 255, "ü" * 127])
def test_short_string_limits(amqp, value):
    ch = amqp.channel()
    q = amqp.queue(ch)
    put(ch, q, b"m", message_id=value)
    assert get(ch, q)[1].message_id == value


@pytest.mark.parametrize("mode", [1, 2])
@pytest.mark.parametrize("priority", [0, 255])
def test_octet_properties(broker, amqp, mode, priority):
    q = amqp.queue(amqp.channel())
    props = struct.pack(">HBB", 1 << 12 | 1 << 11, mode, priority)
    assert round_trip(broker, q, props) == props


# -- tables ---------------------------------------------------------------------------------------
def round_trip(broker, queue, props):
    """The property list of a message after its way through the queue, as bytes."""
    with wire.Conn(broker).connect() as conn:
        conn.rpc(1, spec.Basic.Consume(queue=queue, consumer_tag="t", no_ack=True), spec.Basic.ConsumeOk)
        conn.publish(1, "", queue, b"m", props=props)
        return conn.read_content()[1][12:]


NESTED = wire.table(("i", b"I", struct.pack(">i", -5)), ("s", b"S", wire.long_string("deep")))
FIELDS = {
    "bool-true": (b"t", b"\x01"), "bool-false": (b"t", b"\x00"),
    "int8": (b"b", struct.pack(">b", -128)), "uint8": (b"B", b"\xff"),
    "int16": (b"s", struct.pack(">h", -32768)), "uint16": (b"u", b"\xff\xff"),
    "int32": (b"I", struct.pack(">i", -(1 << 31))), "uint32": (b"i", b"\xff" * 4),
    "int64": (b"l", struct.pack(">q", -(1 << 63))), "int64-L": (b"L", struct.pack(">q", 1 << 62)),
    "float": (b"f", struct.pack(">f", 1.5)), "double": (b"d", struct.pack(">d", -2.25e300)),
        "decimal": (b"D", struct.pack(">BI", 2, 12345)), "timestamp": (b"T", struct.pack(">Q", 1700000000)),
    "timestamp-max": (b"T", b"\xff" * 8),
    "string": (b"S", wire.long_string("text")), "string-empty": (b"S", wire.long_string("")),
    "string-binary": (b"S", wire.long_string(bytes(range(256)))), "string-64k": (b"S", wire.long_string(b"z" * 65536)),
    "bytes": (b"x", wire.long_string(b"\x00\xff")), "void": (b"V", b""),
    "table": (b"F", NESTED), "table-empty": (b"F", wire.table()),
    "array": (b"A", wire.long_string(b"I\0\0\0\1" + b"S" + wire.long_string("x") + b"V" + b"F" + NESTED)),
    "array-empty": (b"A", wire.long_string(b"")),
}


@pytest.mark.parametrize("name", FIELDS)
def test_field_table_type_round_trip(broker, amqp, name):
    """A header of each type comes back with the same bytes: type letter, width and order."""
    q = amqp.queue(amqp.channel())
    kind, value = FIELDS[name]
    props = wire.headers_only_props(wire.table(("first", b"t", b"\x01"), ("field", kind, value), ("z", b"V", b"")))
    assert round_trip(broker, q, props) == props


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_doubles_that_erlang_cannot_hold(broker, amqp, value):
    """RabbitMQ answers INTERNAL_ERROR; the gateway passes them on as they are."""
    q = amqp.queue(amqp.channel())
    props = wire.headers_only_props(wire.table(("d", b"d", struct.pack(">d", value))))
    if broker.is_rabbitmq:
        with pytest.raises(wire.Closed):
            round_trip(broker, q, props)
    else:
        assert round_trip(broker, q, props) == props


def test_repeated_and_unordered_fields_stay(broker, amqp):
    q = amqp.queue(amqp.channel())
    table = wire.table(("z", b"I", b"\0\0\0\1"), ("a", b"I", b"\0\0\0\2"), ("z", b"I", b"\0\0\0\3"), ("", b"V", b""))
    props = wire.headers_only_props(table)
    assert round_trip(broker, q, props) == props


def test_headers_survive_dead_lettering(broker, amqp):
    """What a hop adds leaves the publisher's own fields as they were."""
    ch = amqp.channel()
    target = amqp.queue(ch)
    q = amqp.queue(ch, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": target,
                                  "x-max-length": 0})
    fields = [(name, *FIELDS[name]) for name in FIELDS if name != "int64-L"]
    with wire.Conn(broker).connect() as conn:
        conn.publish(1, "", q, b"m", props=wire.headers_only_props(wire.table(*fields)))
        conn.rpc(1, spec.Basic.Consume(queue=target, consumer_tag="t", no_ack=True), spec.Basic.ConsumeOk)
        table = conn.read_content()[1][14:]
    for name, kind, value in fields:
        assert wire.short_string(name) + kind + value in table, name
    assert b"\x07x-deathA" in table


def test_python_values(amqp):
    ch = amqp.channel()
    q = amqp.queue(ch)
    moment = datetime.datetime(2024, 2, 29, 12, 30, 15)
    headers = {"text": "ü", "int": 5, "big": 1 << 40, "neg": -7, "yes": True, "none": None, "bytes": b"\0\1",
               "dec": decimal.Decimal("3.14"), "when": moment, "list": [1, "a", [True], {"k": None}],
               "table": {"a": {"b": {"c": 1}}}}
    put(ch, q, b"m", headers=headers)
    assert get(ch, q)[1].headers == headers


@pytest.mark.parametrize("depth", [10, 100])
def test_nested_tables(broker, amqp, depth):
    q = amqp.queue(amqp.channel())
    table = wire.table()
    for _ in range(depth):
        table = wire.table(("n", b"F", table))
    props = wire.headers_only_props(table)
    assert round_trip(broker, q, props) == props


def test_client_properties_of_every_type(broker):
    """The table of start-ok is a peer's too."""
    conn = wire.Conn(broker)
    with conn:
        conn.send_raw(wire.PROTOCOL_HEADER)
        conn.expect(spec.Connection.Start)
        table = wire.table(*((name, *value) for name, value in FIELDS.items() if name != "string-64k"))
        payload = (10 << 16 | 11).to_bytes(4, "big") + table + wire.short_string("PLAIN")
        payload += wire.long_string("\0guest\0guest") + wire.short_string("en_US")
        conn.send_raw(wire.raw_frame(wire.METHOD, 0, payload))
        conn.expect(spec.Connection.Tune)


def test_server_properties(broker):
    with wire.Conn(broker).connect() as conn:
        properties = conn.server_properties
        assert {"product", "version", "platform", "copyright", "information", "capabilities"} <= set(properties)
        names = ("publisher_confirms exchange_exchange_bindings basic.nack consumer_cancel_notify connection.blocked "
                 "consumer_priorities authentication_failure_close per_consumer_qos direct_reply_to").split()
        assert properties["capabilities"] == {name: True for name in names}


@pytest.mark.parametrize("arguments", [
    {"a": 1, "b": "two", "c": True, "d": None, "e": [1, 2], "f": {"g": "deep"}},
])
def test_arguments_of_every_kind(amqp, arguments):
    ch = amqp.channel()
    q = amqp.queue(ch, arguments=arguments)
    ch.queue_declare(q, arguments=arguments)
    x = amqp.exchange(ch, "fanout", arguments=arguments)
    ch.queue_bind(q, x, "", arguments=arguments)
    ch.basic_publish(x, "", b"m", pika.BasicProperties())
    assert get(ch, q)[2] == b"m"
