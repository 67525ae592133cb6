"""100,000 MQTT sessions whose clients are gone: what each costs, what a message costs that waits for all of them, and that those who
come back get everything, also after a crash. The figures are printed (pytest -s); what is asserted is memory, what the store writes,
and that every message came, in order, once."""
import socket
import struct
import time
import urllib.request

import pytest
from mqtest.broker import Gateway

SESSIONS = 100_000
MESSAGES, SIZE = 100, 4096
BATCH = 2000   # connections at a time
SAMPLE = 200   # sessions that come back, before the crash and after it
WINDOW = 20    # publishes that wait for their acknowledgement
FILTERS = ("offline/all", "offline/+", "offline/#", "+/all")
CONNACK, PUBLISH, PUBACK, SUBACK = 2, 3, 4, 9


def text(word):
    return struct.pack(">H", len(word)) + word.encode()


def packet(first, body):
    size, n = b"", len(body)
    while n > 127:
        size, n = size + bytes([n & 127 | 128]), n >> 7
    return bytes([first]) + size + bytes([n]) + body


def connect_packet(name, clean=False):
    return packet(0x10, text("MQTT") + bytes([4, 0xc2 if clean else 0xc0, 0, 0]) + text(name) + text("guest") + text("guest"))


class Client:
    """A connection of 3.1.1 that says nothing by itself."""

    def __init__(self, port, *first):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=120)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.sendall(b"".join(first))
        self.buffer = b""

    def next(self):
        """The next packet: its type, flags and body."""
        while True:
            end, n, shift = 1, 0, 0
            while end < len(self.buffer):
                n |= (self.buffer[end] & 127) << shift
                shift, end = shift + 7, end + 1
                if self.buffer[end - 1] < 128:
                    break
            else:
                n = -1
            if n >= 0 and len(self.buffer) >= end + n:
                first, body = self.buffer[0], self.buffer[end:end + n]
                self.buffer = self.buffer[end + n:]
                return first >> 4, first & 15, body
            more = self.sock.recv(1 << 16)
            assert more, "the server closed the connection"
            self.buffer += more

    def expect(self, kind):
        got, flags, body = self.next()
        assert got == kind, (got, flags, body[:40])
        return flags, body

    def leave(self):
        self.sock.sendall(b"\xe0\0")
        self.sock.close()


def make_sessions(port):
    for start in range(0, SESSIONS, BATCH):
        batch = [Client(port, connect_packet(f"offline{n:06}"),
                        packet(0x82, b"\0\1" + text(FILTERS[n % len(FILTERS)]) + b"\1"))
                 for n in range(start, min(start + BATCH, SESSIONS))]
        for one in batch:
            assert one.expect(CONNACK)[1] == b"\0\0"
            assert one.expect(SUBACK)[1] == b"\0\1\1"
            one.leave()


def body_of(n):
    return struct.pack(">I", n) * (SIZE // 4)


def publish_all(port):
    """MESSAGES with QoS 1, WINDOW of them on their way; each must be answered, in order."""
    client = Client(port, connect_packet("publisher", clean=True))
    client.expect(CONNACK)
    for n in range(MESSAGES + WINDOW):
        if n >= WINDOW:
            assert client.expect(PUBACK)[1] == struct.pack(">H", n - WINDOW + 1)
        if n < MESSAGES:
            client.sock.sendall(packet(0x32, text("offline/all") + struct.pack(">H", n + 1) + body_of(n)))
    client.leave()


def come_back(port, numbers):
    """Each of these sessions gets all messages, in order, and nothing behind them."""
    for number in numbers:
        client = Client(port, connect_packet(f"offline{number:06}"))
        assert client.expect(CONNACK)[1] == b"\1\0", f"session {number} is not there"
        for n in range(MESSAGES):
            flags, body = client.expect(PUBLISH)
            topic_end = 2 + struct.unpack_from(">H", body)[0]
            assert flags & 6 == 2 and body[2:topic_end] == b"offline/all"
            assert body[topic_end + 2:] == body_of(n), f"session {number}: not message {n}"
            client.sock.sendall(packet(0x40, body[topic_end:topic_end + 2]))
        client.sock.sendall(b"\xc0\0")
        assert client.next()[0] == 13, f"session {number}: more than was sent"
        client.leave()


def written_bytes(gateway):
    with urllib.request.urlopen(f"http://127.0.0.1:{gateway.http_port}/metrics", timeout=120) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith("mqgate_store_written_bytes_total"):
                return float(line.split()[-1])
    raise AssertionError("no such metric")


def timed(what, call, *args):
    began = time.monotonic()
    value = call(*args)
    print(f"{what}: {time.monotonic() - began:.1f} s", flush=True)
    return value


def sample(first):
    """Numbers of sessions with all filters, from everywhere."""
    return [n * (SESSIONS // SAMPLE + 1) + first for n in range(SAMPLE)]


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_sessions_that_are_gone():
    with Gateway({"listeners.mqtt": "127.0.0.1:0"}) as gateway:
        gateway.start_timeout_s = 300
        base = gateway.rss_bytes()
        timed(f"\n{SESSIONS} sessions made", make_sessions, gateway.ports["mqtt"])
        made, before = gateway.rss_bytes(), written_bytes(gateway)
        timed(f"{MESSAGES} messages answered", publish_all, gateway.ports["mqtt"])
        full, written = gateway.rss_bytes(), written_bytes(gateway) - before
        references = SESSIONS * MESSAGES
        per_session, per_reference = (made - base) / SESSIONS, (full - made) / references
        store_reference = (written - MESSAGES * SIZE) / references
        print(f"{per_session:.0f} bytes of memory per session, {per_reference:.1f} per waiting message; {written:.0f} bytes written, "
              f"{store_reference:.2f} per waiting message beside the bodies", flush=True)
        timed(f"{SAMPLE} sessions came back", come_back, gateway.ports["mqtt"], sample(0))
        gateway.kill9()
        timed("start after the kill", gateway.start)
        started = (gateway.rss_bytes() - base) / SESSIONS
        print(f"{started:.0f} bytes of memory per session with all that waits", flush=True)
        timed(f"{SAMPLE} others came back", come_back, gateway.ports["mqtt"], sample(1))
        gateway.check_log()
        assert written >= MESSAGES * SIZE
        assert store_reference < 64
        assert per_session < 4096 and per_reference < 96
        assert started < 4096 + 96 * MESSAGES
