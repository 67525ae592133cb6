"""STOMP over WebSocket: the handshake, text and binary, fragments, control frames, the end."""
import base64
import os
import socket
import struct
import time

import pytest

from mqtest.stomp import Stomp

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


class WebSocket:
    """The client's side, as a socket that Stomp can use: sendall() makes messages, recv() gives their payload."""

    def __init__(self, port, path="/ws", protocols="v12.stomp", opcode=1, headers=()):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.opcode, self.data, self.kinds, self.closed = opcode, b"", [], None
        lines = [f"GET {path} HTTP/1.1", "Host: localhost", "Upgrade: websocket", "Connection: Upgrade",
                 f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Version: 13", *headers]
        if protocols:
            lines.append(f"Sec-WebSocket-Protocol: {protocols}")
        self.sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        head = b""
        while b"\r\n\r\n" not in head:
            piece = self.sock.recv(4096)
            if not piece:
                break
            head += piece
        self.answer, _, self.data = head.partition(b"\r\n\r\n")
        self.status = int(self.answer.split()[1])

    def frame(self, payload, opcode=None, fin=True, mask=True):
        opcode = self.opcode if opcode is None else opcode
        n, bit = len(payload), 0x80 if mask else 0
        head = bytes([(0x80 if fin else 0) | opcode])
        head += (bytes([bit | n]) if n < 126 else bytes([bit | 126]) + struct.pack(">H", n) if n < 65536
                 else bytes([bit | 127]) + struct.pack(">Q", n))
        if not mask:
            return head + payload
        key = os.urandom(4)
        return head + key + bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))

    def sendall(self, payload):
        self.sock.sendall(self.frame(payload))

    def settimeout(self, seconds):
        self.sock.settimeout(seconds)

    def _need(self, n):
        while len(self.data) < n:
            piece = self.sock.recv(65536)
            if not piece:
                raise ConnectionError("ended")
            self.data += piece

    def next(self):
        self._need(2)
        first, n, at = self.data[0], self.data[1], 2
        assert n < 128, "the server must not mask"
        if n == 126:
            self._need(4)
            n, at = struct.unpack(">H", self.data[2:4])[0], 4
        elif n == 127:
            self._need(10)
            n, at = struct.unpack(">Q", self.data[2:10])[0], 10
        self._need(at + n)
        payload, self.data = self.data[at:at + n], self.data[at + n:]
        return first & 15, payload

    def recv(self, _size):
        while True:
            try:
                opcode, payload = self.next()
            except ConnectionError:
                return b""
            if opcode == 8:
                self.closed = struct.unpack(">H", payload[:2])[0] if payload else 0
                return b""
            self.kinds.append(opcode)
            if opcode == 1:
                payload.decode()  # a browser checks each message
            if opcode < 8:
                return payload

    def close(self):
        self.sock.close()


@pytest.fixture
def ws(broker):
    made = []

    def make(**kw):
        made.append(WebSocket(broker.ports["stomp_ws"], **kw))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("offer, taken", [("v12.stomp", "v12.stomp"), ("v10.stomp, v11.stomp", "v11.stomp"), (None, None)])
def test_a_sub_protocol_is_negotiated(ws, offer, taken):
    one = ws(protocols=offer)
    assert one.status == 101
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in one.answer
    if offer:
        assert b"sec-websocket-protocol: " + taken.encode() in one.answer.lower()
    else:
        assert b"sec-websocket-protocol" not in one.answer.lower()


@pytest.mark.parametrize("options, status", [({"path": "/nothing"}, 404), ({"protocols": "mqtt"}, 400)])
def test_what_is_refused(ws, options, status, on_rabbitmq):
    if on_rabbitmq:
        pytest.skip("ours alone")
    assert ws(**options).status == status


@pytest.mark.parametrize("opcode", [1, 2])
def test_answers_are_of_the_kind_that_was_used(ws, unique, opcode, on_rabbitmq):
    sock = ws(opcode=opcode)
    c = Stomp(0, sock=sock).connect()
    queue = f"/queue/{unique('q')}"
    c.subscribe(queue).put(queue, "gr\u00fc\u00dfe \U0001f600".encode())
    assert c.expect("MESSAGE").body == "gr\u00fc\u00dfe \U0001f600".encode()
    if not on_rabbitmq:
        assert set(sock.kinds) == {opcode}


def test_bytes_that_are_no_text_leave_as_binary(ws, unique, on_rabbitmq):
    if on_rabbitmq:
        pytest.skip("RabbitMQ sends them as text, which browsers refuse")
    sock = ws(opcode=1)
    c = Stomp(0, sock=sock).connect()
    queue = f"/queue/{unique('q')}"
    sock.opcode = 2
    c.subscribe(queue).put(queue, b"\xff\0\xfe")
    assert c.expect("MESSAGE").body == b"\xff\0\xfe"


@pytest.mark.parametrize("size", [125, 126, 65535, 65536, 1_000_000])
def test_messages_of_any_size(ws, unique, size):
    c = Stomp(0, sock=ws(opcode=2)).connect()
    queue = f"/queue/{unique('q')}"
    c.subscribe(queue).put(queue, b"x" * size)
    assert c.expect("MESSAGE").body == b"x" * size


def test_frames_may_be_cut_anywhere(ws):
    sock = ws()
    c = Stomp(0, sock=sock)
    data = c.frame("CONNECT", {"accept-version": "1.2", "host": "/", "login": "guest", "passcode": "guest"})
    wire = sock.frame(data[:5], fin=False) + sock.frame(b"p", opcode=9) + sock.frame(data[5:9], opcode=0, fin=False)
    wire += sock.frame(data[9:], opcode=0)
    for i in range(len(wire)):
        sock.sock.sendall(wire[i:i + 1])
    c.expect("CONNECTED")


def test_an_error_ends_with_a_close_frame(ws, on_rabbitmq):
    sock = ws()
    c = Stomp(0, sock=sock).connect()
    c.send("NONSENSE")
    assert c.error()["message"]
    assert sock.closed == 1000 or on_rabbitmq


@pytest.mark.parametrize("wire, code", [(b"\x81\x02hi", 1002), (b"\xff\x80\0\0\0\0", 1002), (b"\x81\x81\0\0\0\0\xff", 1007)])
def test_bad_frames_end_the_connection(ws, broker, wire, code, on_rabbitmq):
    sock = ws()
    sock.sock.sendall(wire)
    assert sock.recv(1) == b""
    assert sock.closed == code or on_rabbitmq


def test_a_client_that_dribbles_its_request_is_ended(own_gateway):
    gateway = own_gateway(limits__login_timeout="500ms")
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", gateway.ports["stomp_ws"]), timeout=60) as sock:
        sock.sendall(b"GET /ws HTTP/1.1\r\nX: ")
        with pytest.raises(ConnectionError):
            while time.monotonic() < started + 9.5:
                sock.sendall(b"a")
                sock.settimeout(0.05)
                try:
                    if sock.recv(100) == b"":
                        raise ConnectionError("ended")
                except TimeoutError:
                    pass
        assert 0.45 < time.monotonic() - started < 9.5  # the default is 10 s


def test_over_tls(own_gateway, tmp_path):
    import ssl

    from mqtest.certs import Authority
    authority = Authority()
    cert, key = authority.issue("localhost", "server")
    gateway = own_gateway(listeners__stomp_wss="127.0.0.1:0", listeners__stomps="127.0.0.1:0", tls__cert=str(cert),
                          tls__key=str(key))
    context = ssl.create_default_context(cafile=str(authority.cert))
    context.check_hostname = False
    raw = socket.create_connection(("127.0.0.1", gateway.ports["stomps"]), timeout=60)
    with Stomp(0, sock=context.wrap_socket(raw)).connect() as c:
        c.subscribe("/queue/tls").put("/queue/tls", b"x" * 100_000)
        assert c.expect("MESSAGE").body == b"x" * 100_000
    raw = socket.create_connection(("127.0.0.1", gateway.ports["stomp_wss"]), timeout=60)
    tls = context.wrap_socket(raw)
    request = ("GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
               f"Sec-WebSocket-Key: {base64.b64encode(b'0123456789abcdef').decode()}\r\n"
               "Sec-WebSocket-Version: 13\r\n\r\n")
    tls.sendall(request.encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += tls.recv(1)
    assert answer.startswith(b"HTTP/1.1 101")
    sock = WebSocket.__new__(WebSocket)
    sock.sock, sock.opcode, sock.data, sock.kinds, sock.closed = tls, 1, b"", [], None
    with Stomp(0, sock=sock).connect() as c:
        c.subscribe("/queue/tls").put("/queue/tls", b"y" * 200_000)
        assert c.expect("MESSAGE").body == b"y" * 200_000
