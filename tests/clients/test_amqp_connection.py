"""Connections and channels: handshake, tuning, login, channel numbers, heartbeats, and errors of the frame layer."""
import time

import pytest
from pika import spec

from mqtest import wire
from mqtest.broker import wait_until
from mqtest.wire import Closed, Conn


def closed_by(conn):
    end = conn.closing()
    return end.scope, end.code, end.text


# -- handshake ------------------------------------------------------------------------------------
def test_start_offers(broker):
    with Conn(broker) as conn:
        conn.send_raw(wire.PROTOCOL_HEADER)
        start = conn.expect(spec.Connection.Start)
        assert (start.version_major, start.version_minor) == (0, 9)
        # EXTERNAL is offered to who has shown a certificate: clients take it first, without being asked to.
        assert {b"PLAIN", b"AMQPLAIN"} == set(start.mechanisms.split())
        assert b"en_US" in start.locales.split()


def test_tune_offers(broker):
    with Conn(broker).connect() as conn:
        assert conn.tune.frame_max == 131072
        assert conn.tune.channel_max == 2047
        assert conn.tune.heartbeat == 60


@pytest.mark.parametrize("header", [
    b"AMQP\x00\x00\x08\x00", b"AMQP\x00\x00\x09\x02", b"GET / HT", b"\x16\x03\x01\x02\x00\x01\0\0",
    b"AMQP\x00\x09\x01\x00", b"\0" * 8,
], ids=lambda header: header.decode("latin-1"))
def test_wrong_protocol_header(broker, header):
    """Refused with the version that we speak, then closed."""
    with Conn(broker) as conn:
        conn.send_raw(header)
        wait_until(lambda: conn._fill(time.monotonic() + 5) or len(conn.buf) >= 8, 5, "8 bytes")
        assert bytes(conn.buf) == b"AMQP\x00\x00\x09\x01"
        conn.buf.clear()
        with pytest.raises(Closed):
            conn.read_raw_frame()


def test_amqplain_login(broker):
    fields = (("LOGIN", b"S", wire.long_string("guest")), ("PASSWORD", b"S", wire.long_string("guest")))
    response = wire.table(*fields)[4:].decode("latin-1")
    with Conn(broker).connect(mechanism="AMQPLAIN", response=response) as conn:
        conn.rpc(1, spec.Basic.Qos(0, 1, False), spec.Basic.QosOk)


@pytest.mark.parametrize("mechanism", ["PLAIN", "AMQPLAIN"])
def test_wrong_password(broker, mechanism):
    fields = (("LOGIN", b"S", wire.long_string("guest")), ("PASSWORD", b"S", wire.long_string("wrong")))
    response = {"PLAIN": "\0guest\0wrong", "AMQPLAIN": wire.table(*fields)[4:].decode("latin-1")}[mechanism]
    with Conn(broker) as conn, pytest.raises(Closed) as caught:
        conn.connect(mechanism=mechanism, response=response)
    assert (caught.value.code, caught.value.text) == (
        403, f"ACCESS_REFUSED - Login was refused using authentication mechanism {mechanism}. "
        "For details see the broker logfile.")


def test_wrong_password_without_the_capability(broker):
    """A client that does not know authentication_failure_close just loses its socket."""
    with Conn(broker) as conn, pytest.raises(Closed) as caught:
        conn.connect(password="wrong", capabilities=())
    assert caught.value.scope == "socket"


def refused_before_open(broker, code, text, **connect):
    """RabbitMQ ends such a connection without a word (it trusts nobody before open); saying why is as good."""
    with Conn(broker) as conn, pytest.raises(Closed) as caught:
        conn.connect(**connect)
    end = caught.value
    assert (end.scope, end.code, end.text) in [("socket", 0, ""), ("connection", code, text)]


def test_unknown_mechanism(broker):
    refused_before_open(broker, 504, "CHANNEL_ERROR - authentication mechanism 'ROT13' is not supported",
                        mechanism="ROT13")


def test_unknown_vhost(broker):
    with Conn(broker) as conn, pytest.raises(Closed) as caught:
        conn.connect(vhost="nowhere")
    assert (caught.value.scope, caught.value.code, caught.value.text) == (
        "connection", 530, "NOT_ALLOWED - vhost nowhere not found")


@pytest.mark.parametrize("frame_max,text", [
    (100, "NOT_ALLOWED - negotiated frame_max = 100 is lower than the minimum allowed value (4096)"),
    (1 << 20, "NOT_ALLOWED - negotiated frame_max = 1048576 is higher than the maximum allowed value (131072)"),
])
def test_frame_max_out_of_range(broker, frame_max, text):
    refused_before_open(broker, 530, text, frame_max=frame_max)


def test_channel_max_out_of_range(broker):
    refused_before_open(broker, 530, "NOT_ALLOWED - negotiated channel_max = 60000 is higher than the maximum "
                        "allowed value (2047)", channel_max=60000)


def test_channel_number_above_channel_max(broker):
    with Conn(broker).connect(channel_max=10, channels=10) as conn:
        conn.send(11, spec.Channel.Open())
        assert closed_by(conn) == (
            "connection", 530, "NOT_ALLOWED - number of channels opened (10) has reached the negotiated "
            "channel_max (10)")


def test_many_channels(broker):
    with Conn(broker).connect(channels=0) as conn:
        for number in (1, 2, 500, 2046, 2047):
            conn.open_channel(number)
            conn.rpc(number, spec.Basic.Qos(0, 1, False), spec.Basic.QosOk)
            conn.rpc(number, spec.Channel.Close(200, "", 0, 0), spec.Channel.CloseOk)
            conn.open_channel(number)


def test_close_is_answered(broker):
    with Conn(broker).connect() as conn:
        conn.rpc(0, spec.Connection.Close(200, "bye", 0, 0), spec.Connection.CloseOk)


def test_update_secret(broker):
    with Conn(broker).connect() as conn:
        conn.send(0, spec.Connection.UpdateSecret("new", "because")) if hasattr(spec.Connection, "UpdateSecret") else \
            conn.send_raw(wire.raw_frame(wire.METHOD, 0, (10 << 16 | 70).to_bytes(4, "big") + wire.long_string("new") +
                                         wire.short_string("because")))
        kind, channel, payload = conn.read_raw_frame()
        assert (kind, channel, payload) == (wire.METHOD, 0, (10 << 16 | 71).to_bytes(4, "big"))
        conn.rpc(1, spec.Basic.Qos(0, 1, False), spec.Basic.QosOk)


# -- wrong order ----------------------------------------------------------------------------------
QOS = spec.Basic.Qos(0, 1, False)


def publish_then(*pieces):
    return wire.method_frame(1, spec.Basic.Publish(exchange="", routing_key="none")) + b"".join(pieces)


NO_METHOD = "UNEXPECTED_FRAME - expected method frame, got non method frame instead"
NO_HEADER = "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead"
NO_BODY = "UNEXPECTED_FRAME - expected content body, got non content body frame instead"
RUNNING = "CHANNEL_ERROR - unexpected method in connection state running"
NOT_OURS = "COMMAND_INVALID - unimplemented method"

WRONG_ORDER = {
    "channel-not-open": (wire.method_frame(9, QOS), 504, "CHANNEL_ERROR - expected 'channel.open'"),
    "channel-open-twice": (wire.method_frame(1, spec.Channel.Open()), 504,
                           "CHANNEL_ERROR - second 'channel.open' seen"),
    "header-without-method": (wire.header_frame(1, 0), 505, NO_METHOD),
    "body-without-method": (wire.raw_frame(wire.BODY, 1, b"x"), 505, NO_METHOD),
    "method-instead-of-header": (publish_then(wire.method_frame(1, QOS)), 505, NO_HEADER),
    "body-instead-of-header": (publish_then(wire.raw_frame(wire.BODY, 1, b"x")), 505, NO_HEADER),
    "method-instead-of-body": (publish_then(wire.header_frame(1, 5), wire.method_frame(1, QOS)), 505, NO_BODY),
    "header-instead-of-body": (publish_then(wire.header_frame(1, 5), wire.header_frame(1, 5)), 505, NO_BODY),
    "header-of-another-class": (publish_then(wire.header_frame(1, 5, class_id=50)), 505,
                                "UNEXPECTED_FRAME - expected content header for class 60, got one for class 50 "
                                "instead"),
    "server-method": (wire.method_frame(1, spec.Basic.QosOk()), 503, NOT_OURS),
    "connection-method-on-a-channel": (wire.method_frame(1, spec.Connection.Open("/")), 503, NOT_OURS),
    "channel-method-on-zero": (wire.method_frame(0, QOS), 504, RUNNING),
    "open-again": (wire.method_frame(0, spec.Connection.Open("/")), 504, RUNNING),
    "tune-ok-again": (wire.method_frame(0, spec.Connection.TuneOk(0, 131072, 0)), 504, RUNNING),
    "immediate": (wire.raw_frame(wire.METHOD, 1, b"\x00\x3c\x00\x28\x00\x00\x00\x01k\x02") + wire.header_frame(1, 0),
                  540, "NOT_IMPLEMENTED - immediate=true"),
}


@pytest.mark.parametrize("name", WRONG_ORDER)
def test_wrong_order(broker, name):
    data, code, text = WRONG_ORDER[name]
    with Conn(broker).connect() as conn:
        conn.send_raw(data)
        assert closed_by(conn) == ("connection", code, text)


# The text of these holds an Erlang term on RabbitMQ, so only the code and the name before it are compared.
BROKEN_FRAMES = {
    "unknown-method": (wire.raw_frame(wire.METHOD, 1, b"\x00\x3c\x00\xc8"), 501),
    "truncated-method": (wire.raw_frame(wire.METHOD, 1, b"\x00\x3c\x00\x0a\x00"), 501),
    "empty-method": (wire.raw_frame(wire.METHOD, 1, b""), 501),
    "trailing-bytes": (wire.raw_frame(wire.METHOD, 1, wire.method_payload(QOS) + b"more"), 501),
    "bad-frame-end": (wire.method_frame(1, QOS)[:-1] + b"\x00", 501),
    "unknown-frame-type": (wire.raw_frame(77, 1, b"abc"), 501),
    "frame-too-large": (b"\x01\x00\x01\x00\x10\x00\x00" + b"\0" * 64, 501),
    "heartbeat-on-a-channel": (wire.raw_frame(wire.HEARTBEAT, 1, b""), 505),
}
NAMES = {501: "FRAME_ERROR", 505: "UNEXPECTED_FRAME"}


@pytest.mark.parametrize("name", BROKEN_FRAMES)
def test_broken_frames(broker, name):
    data, code = BROKEN_FRAMES[name]
    with Conn(broker).connect() as conn:
        conn.send_raw(data)
        end = conn.closing()
        assert (end.scope, end.code, end.text.split(" - ")[0]) == ("connection", code, NAMES[code])


def test_unknown_class(broker):
    """RabbitMQ's reader crashes and just drops the socket; the gateway answers as to an unknown method."""
    with Conn(broker).connect() as conn:
        conn.send_raw(wire.raw_frame(wire.METHOD, 1, b"\x00\x63\x00\x0a"))
        assert closed_by(conn)[:2] == (("socket", 0) if broker.is_rabbitmq else ("connection", 501))


def test_methods_for_a_closing_channel_are_dropped(broker, unique):
    """After a channel error the client may still have sent methods and content; they are ignored until close-ok."""
    with Conn(broker).connect() as conn:
        conn.send(1, spec.Queue.Declare(queue=unique("none"), passive=True))
        conn.send(1, spec.Basic.Qos(0, 1, False))
        conn.publish(1, "", "x", b"body" * 5)
        frame = conn.read_frame()
        assert isinstance(frame.method, spec.Channel.Close)
        conn.send(1, spec.Channel.CloseOk())
        conn.open_channel(1)
        conn.rpc(1, spec.Basic.Qos(0, 1, False), spec.Basic.QosOk)


def test_crossing_closes(broker, unique):
    """Both sides close a channel at once: the client's close is answered, and the number may be used again."""
    with Conn(broker).connect() as conn:
        conn.send(1, spec.Queue.Declare(queue=unique("none"), passive=True))
        conn.send(1, spec.Channel.Close(200, "", 0, 0))
        seen = {type(conn.read_frame().method) for _ in range(2)}
        assert seen == {spec.Channel.Close, spec.Channel.CloseOk}
        conn.send(1, spec.Channel.CloseOk())
        conn.open_channel(1)
        conn.rpc(1, spec.Basic.Qos(0, 1, False), spec.Basic.QosOk)


def test_channel_error_leaves_other_channels(broker, unique):
    with Conn(broker).connect(channels=2) as conn:
        conn.send(1, spec.Queue.Declare(queue=unique("none"), passive=True))
        assert conn.closing().scope == "channel"
        conn.rpc(2, spec.Basic.Qos(0, 1, False), spec.Basic.QosOk)


def test_close_names_the_method(broker, unique):
    with Conn(broker).connect() as conn:
        conn.send(1, spec.Queue.Declare(queue=unique("none"), passive=True))
        end = conn.closing()
        assert (end.class_id, end.method_id) == (50, 10)


# -- heartbeats -----------------------------------------------------------------------------------
def test_heartbeats_are_sent(broker):
    with Conn(broker).connect(heartbeat=1) as conn:
        kinds = [conn.read_raw_frame(timeout_s=30) for _ in range(2)]
        assert kinds == [(wire.HEARTBEAT, 0, b"")] * 2


def test_silent_client_is_dropped(broker):
    with Conn(broker).connect(heartbeat=1) as conn, pytest.raises(Closed) as caught:
        while True:
            conn.read_raw_frame(timeout_s=60)
    assert caught.value.scope == "socket"


def test_heartbeats_keep_a_connection(broker):
    with Conn(broker).connect(heartbeat=1) as conn:
        until = time.monotonic() + 3.5
        while time.monotonic() < until:
            conn.send_raw(wire.raw_frame(wire.HEARTBEAT, 0, b""))
            conn.read_raw_frame(timeout_s=30)
        conn.send(1, spec.Basic.Qos(0, 1, False))
        conn.wait_method(spec.Basic.QosOk)


def test_no_heartbeat_when_zero(broker):
    with Conn(broker).connect(heartbeat=0) as conn:
        with pytest.raises(TimeoutError):
            conn.read_raw_frame(timeout_s=1.5)
