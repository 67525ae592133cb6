"""Quick AMQP for the load: frames parsed in place, only the four methods that matter decoded."""
import struct

from mqtest import wire
from pika import spec

ACK, NACK, DELIVER = b"\x00\x3c\x00\x50", b"\x00\x3c\x00\x78", b"\x00\x3c\x00\x3c"
PATIENCE_S = 40
PERSISTENT = b"\x10\x00\x02"


def publish_bytes(exchange, key, body):
    """basic.publish of a persistent message; bodies here are always smaller than a frame."""
    method = b"\x00\x3c\x00\x28\x00\x00" + wire.short_string(exchange) + wire.short_string(key) + b"\x00"
    header = struct.pack(">HHQ", 60, 0, len(body)) + PERSISTENT
    out = wire.raw_frame(wire.METHOD, 1, method) + wire.raw_frame(wire.HEADER, 1, header)
    return out + wire.raw_frame(wire.BODY, 1, body) if body else out


def ack_bytes(tag, multiple=False):
    return wire.raw_frame(wire.METHOD, 1, ACK + struct.pack(">QB", tag, multiple))


def nack_bytes(tag):
    return wire.raw_frame(wire.METHOD, 1, NACK + struct.pack(">QB", tag, 2))


def reject_bytes(tag):
    return wire.raw_frame(wire.METHOD, 1, NACK + struct.pack(">QB", tag, 0))


class Stream:
    """Frames of one connection as they come, many at a time. What is no whole frame yet stays in conn.buf."""

    def __init__(self, conn):
        self.conn = conn
        self.fresh = bool(conn.buf)   # something came with an earlier answer

    def frames(self, timeout_s):
        """Waits for bytes and returns the whole frames (type, payload) in them; raises at the end of the stream."""
        if not self.fresh:
            self.conn.sock.settimeout(timeout_s)
            data = self.conn.sock.recv(1 << 18)
            if not data:
                raise ConnectionError("end of stream")
            self.conn.buf += data
        self.fresh = False
        data = bytes(self.conn.buf)
        out, at = [], 0
        while len(data) - at >= 8:
            size = int.from_bytes(data[at + 3:at + 7], "big")
            if len(data) - at < size + 8:
                break
            out.append((data[at], data[at + 7:at + 7 + size]))
            at += size + 8
        del self.conn.buf[:at]
        return out


class Deliveries:
    """Puts deliveries together: feed() frames, get (tag, redelivered, body)."""

    def __init__(self):
        self.method = None
        self.left = 0
        self.body = b""

    def feed(self, kind, payload):
        if kind == wire.METHOD and payload[:4] == DELIVER:
            at = 5 + payload[4]
            self.method = struct.unpack_from(">QB", payload, at)
        elif kind == wire.HEADER:
            self.left, self.body = int.from_bytes(payload[4:12], "big"), b""
        elif kind == wire.BODY:
            self.body += payload
            self.left -= len(payload)
        else:
            return None
        if kind != wire.METHOD and self.left == 0:
            return self.method[0], bool(self.method[1] & 1), self.body
        return None


def consumer(broker, queue, prefetch, arguments=None):
    conn = wire.Conn(broker, PATIENCE_S).connect()
    conn.rpc(1, spec.Basic.Qos(0, prefetch, False), spec.Basic.QosOk)
    conn.send(1, spec.Basic.Consume(queue=queue, consumer_tag="k9", nowait=False, arguments=arguments or {}))
    conn.expect(spec.Basic.ConsumeOk)
    return conn
