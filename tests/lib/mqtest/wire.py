"""A raw AMQP 0-9-1 client for tests: it can say what no proper client would say.

Methods are built and read with pika's generated classes (`pika.spec`); frames, table bytes and the order
of things are ours, so a test can cut, repeat, reorder or forge any of them. Nothing here hides an error of
the broker: a close that was not asked for raises Closed with its reply code and text.
"""
import contextlib
import select
import socket
import struct
import time

from pika import frame as pika_frame
from pika import spec

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
FRAME_END = b"\xce"
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
NOTICES = (spec.Connection.Blocked, spec.Connection.Unblocked)
CAPABILITIES = ("publisher_confirms exchange_exchange_bindings basic.nack consumer_cancel_notify "
                "connection.blocked authentication_failure_close").split()


class Closed(Exception):
    """The broker closed the channel or the connection (code and text), or the socket (code 0)."""

    def __init__(self, scope, code=0, text="", class_id=0, method_id=0):
        super().__init__(f"{scope} closed: {code} {text}")
        self.scope, self.code, self.text = scope, code, text
        self.class_id, self.method_id = class_id, method_id


def raw_frame(kind: int, channel: int, payload: bytes) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + FRAME_END


def method_payload(method) -> bytes:
    return struct.pack(">I", method.INDEX) + b"".join(method.encode())


def method_frame(channel: int, method) -> bytes:
    return raw_frame(METHOD, channel, method_payload(method))


def header_frame(channel: int, body_size: int, props: bytes = b"\x00\x00", class_id: int = 60) -> bytes:
    return raw_frame(HEADER, channel, struct.pack(">HHQ", class_id, 0, body_size) + props)


def headers_only_props(table: bytes) -> bytes:
    """Property list that holds just the headers table, given as bytes (with its length)."""
    return struct.pack(">H", 1 << 13) + table


def short_string(text) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return bytes([len(data)]) + data


def long_string(data) -> bytes:
    data = data.encode() if isinstance(data, str) else data
    return struct.pack(">I", len(data)) + data


def table(*fields) -> bytes:
    """A field table from (name, type letter, value bytes), exactly as given."""
    inside = b"".join(short_string(name) + kind + value for name, kind, value in fields)
    return long_string(inside)


def content(channel: int, exchange: str, key: str, body: bytes, props: bytes = b"\x00\x00",
            frame_max: int = 131072, mandatory: bool = False, splits=None) -> bytes:
    """basic.publish with header and body frames; `splits` gives the sizes of the body frames."""
    out = [method_frame(channel, spec.Basic.Publish(exchange=exchange, routing_key=key, mandatory=mandatory)),
           header_frame(channel, len(body), props)]
    at = 0
    for size in splits or []:
        out.append(raw_frame(BODY, channel, body[at:at + size]))
        at += size
    while at < len(body):
        out.append(raw_frame(BODY, channel, body[at:at + frame_max - 8]))
        at += frame_max - 8
    return b"".join(out)


class Conn:
    """One connection. `channel 1` is open after connect() unless channels=0."""

    def __init__(self, broker, timeout_s: float = 30.0, port: int = 0):
        self.sock = socket.create_connection((broker.host, port or broker.amqp_port), timeout=timeout_s)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.timeout_s = timeout_s
        self.buf = bytearray()
        self.frame_max = 131072
        self.tune = None
        self.notices = []   # connection.blocked and unblocked that came between answers
        self.server_properties = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.abort()

    def abort(self):
        self.sock.close()

    # -- handshake ----------------------------------------------------------------------------
    def connect(self, user="guest", password="guest", vhost="/", frame_max=0, channel_max=0, heartbeat=0,
                channels=1, mechanism="PLAIN", response=None, capabilities=CAPABILITIES, properties=None):
        self.send_raw(PROTOCOL_HEADER)
        start = self.expect(spec.Connection.Start)
        self.server_properties = start.server_properties
        self.mechanisms = start.mechanisms
        client = dict(properties or {})
        client["capabilities"] = {name: True for name in capabilities}
        answer = response if response is not None else f"\0{user}\0{password}"
        self.send(0, spec.Connection.StartOk(client_properties=client, mechanism=mechanism, response=answer,
                                             locale="en_US"))
        self.tune = self.expect(spec.Connection.Tune)
        self.frame_max = frame_max or self.tune.frame_max or 131072
        self.send(0, spec.Connection.TuneOk(channel_max=channel_max or self.tune.channel_max,
                                            frame_max=self.frame_max, heartbeat=heartbeat))
        self.send(0, spec.Connection.Open(virtual_host=vhost))
        self.expect(spec.Connection.OpenOk)
        for number in range(1, channels + 1):
            self.open_channel(number)
        return self

    def open_channel(self, number: int):
        return self.rpc(number, spec.Channel.Open(), spec.Channel.OpenOk)

    def close(self):
        self.send(0, spec.Connection.Close(200, "bye", 0, 0))
        self.wait_method(spec.Connection.CloseOk)
        self.abort()

    # -- sending ------------------------------------------------------------------------------
    def send_raw(self, data: bytes):
        self.sock.sendall(data)

    def send(self, channel: int, method):
        self.send_raw(method_frame(channel, method))

    def rpc(self, channel: int, method, expected):
        self.send(channel, method)
        return self.expect(expected, channel)

    def publish(self, channel, exchange, key, body, **kw):
        self.send_raw(content(channel, exchange, key, body, frame_max=self.frame_max, **kw))

    # -- receiving ----------------------------------------------------------------------------
    def read_raw_frame(self, timeout_s=None):
        """The next frame as (type, channel, payload); raises TimeoutError, or Closed at the socket's end."""
        deadline = time.monotonic() + (self.timeout_s if timeout_s is None else timeout_s)
        while True:
            if self.buf[:4] == b"AMQP" and len(self.buf) >= 8:
                raise Closed("protocol", 0, bytes(self.buf[:8]).decode("latin-1"))
            if len(self.buf) >= 7:
                kind, channel, size = struct.unpack_from(">BHI", self.buf)
                if len(self.buf) >= size + 8:
                    payload = bytes(self.buf[7:7 + size])
                    assert self.buf[7 + size] == 0xCE, "frame-end octet of the broker's own frame"
                    del self.buf[:size + 8]
                    return kind, channel, payload
            self._fill(deadline)

    def _fill(self, deadline):
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([self.sock], [], [], left)[0]:
            raise TimeoutError("no frame from the broker in time")
        try:
            data = self.sock.recv(1 << 18)
        except ConnectionResetError:
            data = b""
        if not data:
            raise Closed("socket")
        self.buf += data

    def read_frame(self, timeout_s=None, deadline=None):
        """The next frame decoded by pika; heartbeats are skipped, and do not make it wait longer."""
        deadline = deadline or time.monotonic() + (self.timeout_s if timeout_s is None else timeout_s)
        while True:
            kind, channel, payload = self.read_raw_frame(max(0.001, deadline - time.monotonic()))
            if kind != HEARTBEAT:
                return pika_frame.decode_frame(raw_frame(kind, channel, payload))[1]

    def expect(self, expected, channel: int = 0, timeout_s=None):
        """The next method, which must be `expected`; a close by the broker raises Closed."""
        while True:
            frame = self.read_frame(timeout_s)
            method = getattr(frame, "method", frame)
            if not isinstance(method, NOTICES) or expected in NOTICES:
                break
            self.notices.append(method)
        if isinstance(method, expected):
            return method
        self.raise_close(frame.channel_number, method)
        raise AssertionError(f"expected {expected}, got {method}")

    def wait_method(self, expected, timeout_s=None):
        """Skips frames until `expected` comes (or has come); a close by the broker raises Closed."""
        for notice in self.notices:
            if isinstance(notice, expected):
                self.notices.remove(notice)
                return notice
        deadline = time.monotonic() + (self.timeout_s if timeout_s is None else timeout_s)
        while True:
            frame = self.read_frame(deadline=deadline)
            method = getattr(frame, "method", None)
            if isinstance(method, expected):
                return method
            if method is not None:
                self.raise_close(frame.channel_number, method)

    def raise_close(self, channel, method):
        if isinstance(method, spec.Connection.Close):
            with contextlib.suppress(ConnectionError):
                self.send(0, spec.Connection.CloseOk())
            raise Closed("connection", method.reply_code, method.reply_text, method.class_id, method.method_id)
        if isinstance(method, spec.Channel.Close):
            self.send(channel, spec.Channel.CloseOk())
            raise Closed("channel", method.reply_code, method.reply_text, method.class_id, method.method_id)

    def read_content(self, timeout_s=None):
        """The next delivery, get-ok or return: (method, raw header payload, body)."""
        frame = self.read_frame(timeout_s)
        method = frame.method
        self.raise_close(frame.channel_number, method)
        kind, _, header = self.read_raw_frame(timeout_s)
        assert kind == HEADER, f"a header frame after {method}"
        size, = struct.unpack_from(">Q", header, 4)
        body = b""
        while len(body) < size:
            kind, _, piece = self.read_raw_frame(timeout_s)
            assert kind == BODY and len(piece) + 8 <= self.frame_max, "a body frame within frame_max"
            body += piece
        assert len(body) == size
        return method, header, body

    def closing(self, timeout_s=None) -> Closed:
        """What ends this connection or a channel of it: reads on until a close comes, and returns it."""
        try:
            while True:
                frame = self.read_frame(timeout_s)
                self.raise_close(frame.channel_number, getattr(frame, "method", None))
        except Closed as end:
            return end
