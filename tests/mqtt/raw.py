"""A raw MQTT client for tests: packets as they are said, no state machine that would hide a server's fault."""
import socket
import struct
import time
from collections import namedtuple

(CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ,
 PINGRESP, DISCONNECT, AUTH) = range(1, 16)

Packet = namedtuple("Packet", "type flags body")
Message = namedtuple("Message", "topic payload qos retain dup pid props")
Ack = namedtuple("Ack", "type pid reason props")

BYTE, U16, U32, VAR, TEXT, BIN, PAIR = range(7)
PROPS = {1: ("payload_format", BYTE), 2: ("message_expiry", U32), 3: ("content_type", TEXT), 8: ("response_topic", TEXT),
         9: ("correlation", BIN), 11: ("subid", VAR), 17: ("session_expiry", U32), 18: ("assigned_id", TEXT),
         19: ("server_keep_alive", U16), 21: ("auth_method", TEXT), 22: ("auth_data", BIN), 23: ("problem_info", BYTE),
         24: ("will_delay", U32), 25: ("request_response", BYTE), 26: ("response_info", TEXT),
         28: ("server_reference", TEXT), 31: ("reason_string", TEXT), 33: ("receive_maximum", U16),
         34: ("alias_maximum", U16), 35: ("alias", U16), 36: ("maximum_qos", BYTE), 37: ("retain_available", BYTE),
         38: ("user", PAIR), 39: ("packet_maximum", U32), 40: ("wildcards", BYTE), 41: ("subids", BYTE),
         42: ("shared", BYTE)}
IDS = {name: (number, kind) for number, (name, kind) in PROPS.items()}


class Closed(Exception):
    """The server closed the connection."""


def receive(sock, deadline):
    """What comes next, at least a byte; Closed at the end of the connection, TimeoutError at the deadline (monotonic seconds)."""
    sock.settimeout(max(deadline - time.monotonic(), 0.001))
    try:
        data = sock.recv(65536)
    except ConnectionError as error:
        raise Closed from error
    if not data:
        raise Closed
    return data


def varint(n):
    out = b""
    while True:
        n, low = n >> 7, n & 127
        out += bytes([low | (128 if n else 0)])
        if not n:
            return out


def text(s):
    data = s.encode() if isinstance(s, str) else s
    return struct.pack(">H", len(data)) + data


def props(values):
    """{"user": [("k", "v")], "alias": 1} or a list of pairs, as a block with its length."""
    out = b""
    for name, value in values.items() if isinstance(values, dict) else values:
        number, kind = IDS[name]
        for v in value if isinstance(value, list) else [value]:
            out += bytes([number])
            out += (bytes([v]) if kind == BYTE else struct.pack(">H", v) if kind == U16 else
                    struct.pack(">I", v) if kind == U32 else varint(v) if kind == VAR else
                    text(v[0]) + text(v[1]) if kind == PAIR else text(v))
    return varint(len(out)) + out


def packet(kind, flags, body):
    return bytes([kind << 4 | flags]) + varint(len(body)) + body


def read_varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            return value, at


def read_text(data, at):
    n = struct.unpack_from(">H", data, at)[0]
    assert at + 2 + n <= len(data)
    return data[at + 2:at + 2 + n], at + 2 + n


def read_props(data, at):
    n, at = read_varint(data, at)
    end, out = at + n, {}
    assert end <= len(data)
    while at < end:
        name, kind = PROPS[data[at]]
        at += 1
        if kind == BYTE:
            value, at = data[at], at + 1
        elif kind == U16:
            value, at = struct.unpack_from(">H", data, at)[0], at + 2
        elif kind == U32:
            value, at = struct.unpack_from(">I", data, at)[0], at + 4
        elif kind == VAR:
            value, at = read_varint(data, at)
        else:
            value, at = read_text(data, at)
            value = value.decode() if kind != BIN else value
            if kind == PAIR:
                second, at = read_text(data, at)
                value = (value, second.decode())
        if name in ("user", "subid"):
            out.setdefault(name, []).append(value)
        else:
            assert name not in out, f"{name} twice"
            out[name] = value
    assert at == end
    return out, at


class Raw:
    def __init__(self, port, version=5, host="127.0.0.1"):
        self.version = version
        self.sock = socket.create_connection((host, port), timeout=60)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.stash = []  # packets that came while another was waited for
        self.pid = 0
        self.session_present = None
        self.connack = None

    # -- bytes ----------------------------------------------------------------------------------
    def send(self, data):
        self.sock.sendall(data)

    def close(self):
        self.sock.close()

    def _fill(self, deadline):
        self.buffer += receive(self.sock, deadline)

    def read(self, timeout_s=30.0):
        """The next packet; Closed at the end of the connection, TimeoutError when none comes."""
        deadline = time.monotonic() + timeout_s
        if self.stash:
            return self.stash.pop(0)
        while True:
            if len(self.buffer) >= 2:
                n = shift = 0
                for at in range(1, min(5, len(self.buffer))):
                    n |= (self.buffer[at] & 127) << shift
                    shift += 7
                    if self.buffer[at] < 128:
                        if len(self.buffer) >= at + 1 + n:
                            first, body = self.buffer[0], self.buffer[at + 1:at + 1 + n]
                            self.buffer = self.buffer[at + 1 + n:]
                            return Packet(first >> 4, first & 15, body)
                        break
            self._fill(deadline)

    def expect(self, kind, timeout_s=30.0):
        got = self.read(timeout_s)
        assert got.type == kind, f"wanted {kind}, got {got}"
        return got

    def expect_closed(self, timeout_s=30.0):
        """Nothing but the end; returns the packets before it."""
        got = []
        try:
            while True:
                got.append(self.read(timeout_s))
        except Closed:
            return got

    def expect_nothing(self, timeout_s=0.3):
        try:
            got = self.read(timeout_s)
        except TimeoutError:
            return
        raise AssertionError(f"unexpected {got}")

    def alive(self):
        """True when the server still answers, after all it had to say before."""
        self.send(packet(PINGREQ, 0, b""))
        return self.expect(PINGRESP) is not None

    # -- packets --------------------------------------------------------------------------------
    def connect_bytes(self, client="", clean=True, keep_alive=60, will=None, user=None, password=None, p=None,
                      will_props=None, flags=None, name=None, level=None):
        v = self.version
        bits = (2 if clean else 0) | (128 if user is not None else 0) | (64 if password is not None else 0)
        body = b""
        if will:
            topic, payload, qos, retain = will
            bits |= 4 | qos << 3 | (32 if retain else 0)
            body = (props(will_props or {}) if v == 5 else b"") + text(topic) + text(payload)
        body = text(client) + body + (text(user) if user is not None else b"")
        body += text(password) if password is not None else b""
        head = text(name or ("MQIsdp" if v == 3 else "MQTT"))
        head += bytes([level or v, bits if flags is None else flags])
        return packet(CONNECT, 0, head + struct.pack(">H", keep_alive) + (props(p or {}) if v == 5 else b"") + body)

    def connect(self, reason=0, **kw):
        self.send(self.connect_bytes(**kw))
        return self.connect_answer(reason)

    def connect_answer(self, reason=0):
        got = self.expect(CONNACK)
        self.session_present = bool(got.body[0] & 1)
        self.connack = read_props(got.body, 2)[0] if self.version == 5 else {}
        assert got.body[1] == reason, f"CONNACK {got.body[1]:#x} {self.connack}"
        return self

    def next_pid(self):
        self.pid = self.pid % 65535 + 1
        return self.pid

    def publish_bytes(self, topic, payload=b"", qos=0, retain=False, dup=False, pid=None, p=None):
        head = text(topic) + (struct.pack(">H", pid) if qos else b"") + (props(p or {}) if self.version == 5 else b"")
        data = payload.encode() if isinstance(payload, str) else payload
        return packet(PUBLISH, (8 if dup else 0) | qos << 1 | (1 if retain else 0), head + data)

    def publish(self, topic, payload=b"", qos=0, retain=False, dup=False, p=None, finish=True):
        """Publishes, and with `finish` waits for the last word; the reason, or the packet identifier."""
        pid = self.next_pid() if qos else None
        self.send(self.publish_bytes(topic, payload, qos, retain, dup, pid, p))
        if not finish or qos == 0:
            return pid
        ack = self.ack(PUBACK if qos == 1 else PUBREC, pid)
        if qos == 2 and ack.reason < 0x80:
            self.send_ack(PUBREL, pid)
            self.ack(PUBCOMP, pid)
        return ack.reason

    def ack(self, kind, pid=None, timeout_s=30.0):
        got = self.expect(kind, timeout_s)
        assert got.flags == (2 if kind == PUBREL else 0)
        number = struct.unpack_from(">H", got.body)[0]
        assert pid is None or number == pid
        reason = got.body[2] if len(got.body) > 2 else 0
        return Ack(kind, number, reason, read_props(got.body, 3)[0] if len(got.body) > 3 else {})

    def send_ack(self, kind, pid, reason=None):
        body = struct.pack(">H", pid) + (bytes([reason]) if reason is not None else b"")
        self.send(packet(kind, 2 if kind == PUBREL else 0, body))

    def subscribe(self, *filters, qos=0, p=None, options=None, pid=None):
        """The codes of SUBACK."""
        pid = pid or self.next_pid()
        body = struct.pack(">H", pid) + (props(p or {}) if self.version == 5 else b"")
        for f in filters:
            body += text(f) + bytes([qos if options is None else options])
        self.send(packet(SUBSCRIBE, 2, body))
        got = self.expect(SUBACK)
        assert struct.unpack_from(">H", got.body)[0] == pid
        return list(got.body[read_props(got.body, 2)[1] if self.version == 5 else 2:])

    def unsubscribe(self, *filters):
        pid = self.next_pid()
        body = struct.pack(">H", pid) + (props({}) if self.version == 5 else b"") + b"".join(text(f) for f in filters)
        self.send(packet(UNSUBSCRIBE, 2, body))
        got = self.expect(UNSUBACK)
        assert struct.unpack_from(">H", got.body)[0] == pid
        return list(got.body[read_props(got.body, 2)[1]:]) if self.version == 5 else []

    def message(self, timeout_s=30.0, finish=True):
        """The next PUBLISH; acknowledged, with `finish`."""
        got = self.expect(PUBLISH, timeout_s)
        qos = got.flags >> 1 & 3
        topic, at = read_text(got.body, 0)
        pid = struct.unpack_from(">H", got.body, at)[0] if qos else None
        at += 2 if qos else 0
        found, at = read_props(got.body, at) if self.version == 5 else ({}, at)
        m = Message(topic.decode(), got.body[at:], qos, bool(got.flags & 1), bool(got.flags & 8), pid, found)
        if finish and qos == 1:
            self.send_ack(PUBACK, pid)
        if finish and qos == 2:
            self.send_ack(PUBREC, pid)
            self._released(pid, timeout_s)
        return m

    def _released(self, pid, timeout_s):
        """PUBREL for pid, and the answer; what comes before it waits."""
        before = []
        while True:
            got = self.read(timeout_s)
            if got.type == PUBREL and struct.unpack_from(">H", got.body)[0] == pid:
                break
            before.append(got)
        self.stash = before + self.stash
        self.send_ack(PUBCOMP, pid)

    def disconnect(self, reason=None, p=None):
        body = b"" if reason is None else bytes([reason]) + (props(p) if p is not None else b"")
        self.send(packet(DISCONNECT, 0, body))
        self.expect_closed()
        self.close()

    def goodbye(self):
        """The reason of the server's DISCONNECT, which must be its last word; 3.x: just the end."""
        got = self.expect_closed()
        if self.version != 5:
            assert got == [], got
            return None
        assert [g.type for g in got] == [DISCONNECT], got
        return got[0].body[0]
