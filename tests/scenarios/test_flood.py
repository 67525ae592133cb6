"""A client that publishes far more than the node's memory and settles its own deliveries on the same connection.

Its acks stand behind its publishes in one stream: a node that stopped reading it would wait for ever.
"""
import threading

import pytest
from pika import spec

from mqtest.broker import Gateway
from mqtest.wire import METHOD, Conn, method_frame

PERSISTENT, TRANSIENT = b"\x10\x00\x02", b"\x00\x00"
BODY = b"x" * 65536
DELIVER = b"\x00\x3c\x00\x3c"


class Flood:
    """One connection: a thread publishes without a pause, acks what the reader has got in between."""

    def __init__(self, gateway, queue, durable, prefetch, count):
        self.conn = Conn(gateway).connect()
        self.conn.rpc(1, spec.Queue.Declare(queue=queue, durable=durable), spec.Queue.DeclareOk)
        self.conn.rpc(1, spec.Basic.Qos(0, prefetch, False), spec.Basic.QosOk)
        self.conn.rpc(1, spec.Basic.Consume(queue=queue, consumer_tag="t"), spec.Basic.ConsumeOk)
        self.conn.sock.settimeout(None)
        self.queue, self.count, self.props = queue, count, PERSISTENT if durable else TRANSIENT
        self.lock, self.tags = threading.Lock(), []
        self.thread = threading.Thread(target=self._publish, daemon=True)

    def _ack(self):
        tags, self.tags = self.tags, []
        for tag in tags:
            self.conn.sock.sendall(method_frame(1, spec.Basic.Ack(tag)))

    def _publish(self):
        for _ in range(self.count):
            with self.lock:
                self._ack()
                self.conn.publish(1, "", self.queue, BODY, props=self.props)

    def run(self):
        self.thread.start()
        for expected in range(1, self.count + 1):
            assert self._next_tag() == expected
            self.tags.append(expected)
            if not self.thread.is_alive():
                with self.lock:
                    self._ack()
        self.thread.join(10)

    def _next_tag(self):
        while True:
            kind, _, payload = self.conn.read_raw_frame(timeout_s=20)
            if kind == METHOD and payload[:4] == DELIVER:
                at = 5 + payload[4]
                return int.from_bytes(payload[at:at + 8], "big")


@pytest.mark.timeout(100)
@pytest.mark.parametrize("durable", [False, True], ids=["transient", "durable"])
@pytest.mark.parametrize("limit_mib, prefetch, count", [(16, 10, 1500), (4, 100, 1500)])
def test_client_works_itself_out_of_the_pressure_it_made(durable, limit_mib, prefetch, count):
    with Gateway({"limits.memory": f"{limit_mib}MiB", "listeners.http": "off"}) as gateway:
        Flood(gateway, "own", durable, prefetch, count).run()
        assert "event=pressure" in gateway.log_text(1 << 20)
        gateway.check_log()
