"""The load of one round: publishers, consumers and a definer, each a thread with a connection of its own.

All of them run until the broker dies under them. What they know is written to the ledger before (acks,
publishes) or after (confirms, deliveries) the moment that matters, never the other way round.
"""
import random
import struct
import threading

from client import ACK, NACK, Deliveries, Stream, ack_bytes, consumer, nack_bytes, publish_bytes, reject_bytes
from ledger import STREAM, body_of, route
from mqtest import wire
from pika import spec

GONE = (ConnectionError, TimeoutError, wire.Closed, OSError)
WINDOW, BATCH = 400, 40


class Worker(threading.Thread):
    def __init__(self, broker, ledger, lock, seed):
        super().__init__(daemon=True)
        self.broker, self.ledger, self.lock = broker, ledger, lock
        self.rng = random.Random(seed)
        self.error = None

    def run(self):
        try:
            self.work()
        except GONE:
            pass
        except Exception as error:  # a fault of this program must not look like a good round
            self.error = error


class Publisher(Worker):
    def __init__(self, *args, round_no, number):
        super().__init__(*args)
        self.key = (round_no, number)
        self.sent = self.acked = self.nacked = 0
        self.open = set()

    def work(self):
        conn = wire.Conn(self.broker).connect()
        conn.rpc(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
        stream = Stream(conn)
        while True:
            first, self.sent = self.sent + 1, self.sent + BATCH
            tags = range(first, self.sent + 1)
            self.open.update(tags)
            self.ledger.published[self.key] = self.sent
            data = b"".join(publish_bytes(*route(self.key[1], tag)[:2], body_of((*self.key, tag))) for tag in tags)
            try:
                conn.send_raw(data)
            except GONE:
                self.read_to_the_end(stream)
                raise
            while len(self.open) > WINDOW:
                self.settle(stream.frames(10))

    def read_to_the_end(self, stream):
        """Confirms that came before the end count too."""
        while True:
            self.settle(stream.frames(2))

    def settle(self, frames):
        for kind, payload in frames:
            if kind != wire.METHOD or payload[:4] not in (ACK, NACK):
                continue
            tag, multiple = struct.unpack_from(">QB", payload, 4)
            tags = [t for t in self.open if t <= tag] if multiple & 1 else [tag]
            self.open.difference_update(tags)
            if payload[:4] == NACK:
                self.nacked += len(tags)
                continue
            self.acked += len(tags)
            with self.lock:
                for t in tags:
                    self.ledger.confirm((*self.key, t))


class Consumer(Worker):
    """Acks a part, gives some back, keeps the rest unacked."""

    def __init__(self, *args, queue):
        super().__init__(*args)
        self.queue = queue
        self.seen = self.acked = 0

    def work(self):
        conn = consumer(self.broker, self.queue, prefetch=300)
        stream, deliveries = Stream(conn), Deliveries()
        while True:
            out = []
            for frame in stream.frames(10):
                got = deliveries.feed(*frame)
                if got:
                    out.append(self.take(*got))
            self.answer(conn, stream, b"".join(out))

    def answer(self, conn, stream, data):
        """A broker that is gone may still have left deliveries for us to read."""
        try:
            conn.send_raw(data)
        except GONE:
            deliveries = Deliveries()
            while True:
                for frame in stream.frames(2):
                    got = deliveries.feed(*frame)
                    if got:
                        self.take(*got)

    def take(self, tag, redelivered, body):
        self.seen += 1
        with self.lock:
            message = self.ledger.see(self.queue, body, redelivered)
            choice = self.rng.random()
            if message is None or choice < 0.01:
                return b""
            if choice < 0.05:
                return nack_bytes(tag)
            self.ledger.settle(self.queue, message)
        self.acked += 1
        return ack_bytes(tag)


class Rejecter(Consumer):
    """Sends most of what it gets to the dead ones."""

    def take(self, tag, redelivered, body):
        self.seen += 1
        with self.lock:
            message = self.ledger.see(self.queue, body, redelivered)
            choice = self.rng.random()
            if message is None or choice < 0.02:
                return b""
            if choice < 0.9:
                self.ledger.reject(message)
                return reject_bytes(tag)
            self.ledger.settle(self.queue, message)
        self.acked += 1
        return ack_bytes(tag)


class StreamReader(Worker):
    """Follows the stream; what it is shown is durable, or a crash could take back what somebody saw."""

    seen = 0

    def work(self):
        conn = consumer(self.broker, STREAM, prefetch=1000, arguments={"x-stream-offset": "next"})
        stream, deliveries, tag = Stream(conn), Deliveries(), 0
        while True:
            for frame in stream.frames(10):
                got = deliveries.feed(*frame)
                if got:
                    tag = got[0]
                    with self.lock:
                        self.ledger.show(got[2])
                    self.seen += 1
            if tag:
                conn.send_raw(ack_bytes(tag, multiple=True))
                tag = 0


class Definer(Worker):
    """Declares and deletes durable things; `there` and `gone` hold what the broker has answered for."""

    def __init__(self, *args, round_no):
        super().__init__(*args)
        self.round_no = round_no
        self.there, self.gone, self.unsure = [], [], []

    def work(self):
        conn = wire.Conn(self.broker).connect()
        for n in range(10_000):
            name = f"k9.def.{self.round_no}.{n}"
            self.unsure.append(name)
            conn.rpc(1, spec.Exchange.Declare(exchange=name, type="topic", durable=True), spec.Exchange.DeclareOk)
            conn.rpc(1, spec.Queue.Declare(queue=name, durable=True, arguments={"x-max-length": 10}),
                     spec.Queue.DeclareOk)
            conn.rpc(1, spec.Queue.Bind(queue=name, exchange=name, routing_key="a.#"), spec.Queue.BindOk)
            if n % 3 == 2:
                conn.rpc(1, spec.Queue.Delete(queue=name), spec.Queue.DeleteOk)
                conn.rpc(1, spec.Exchange.Delete(exchange=name), spec.Exchange.DeleteOk)
                self.gone.append(name)
            else:
                self.there.append(name)
            self.unsure.remove(name)
            if n > 40:
                threading.Event().wait(0.02)
