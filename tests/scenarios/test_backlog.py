"""Long queues and short memory: what stands in a queue's middle is left to the store, transient messages go aside, and
when nothing helps, publishers wait while consumers are served."""
import os
import shutil
import threading
import struct

import pika
import pytest
from mqtest import wire
from mqtest.broker import Gateway, wait_until
from pika import spec

DELIVER = b"\x00\x3c\x00\x3c"
PATIENCE_S = 40
CONFIRMED_EACH = 5000


@pytest.fixture
def gateway():
    made = []

    def make(**settings):
        fixed = {key.replace("__", "."): value for key, value in settings.items()}
        made.append(Gateway(settings={"listeners.http": "off", **fixed}))
        return made[-1].start()

    yield make
    for one in made:
        one.close()


# ---- clients that are quick enough for a few hundred thousand messages ------------------------------------


def publish_bytes(queue, body, persistent):
    method = b"\x00\x3c\x00\x28\x00\x00\x00" + wire.short_string(queue) + b"\x00"
    header = struct.pack(">HHQ", 60, 0, len(body)) + (b"\x10\x00\x02" if persistent else b"\x10\x00\x01")
    return (wire.raw_frame(wire.METHOD, 1, method) + wire.raw_frame(wire.HEADER, 1, header) +
            wire.raw_frame(wire.BODY, 1, body))


def bodies_of(numbers, size):
    return (struct.pack(">Q", i).ljust(size, b".") for i in numbers)


def fill(broker, queue, numbers, size=32, persistent=True):
    """Publishes with confirms; all are confirmed when it returns."""
    numbers = list(numbers)
    with wire.Conn(broker, PATIENCE_S).connect() as conn:
        conn.rpc(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
        for at in range(0, len(numbers), CONFIRMED_EACH):
            piece = numbers[at:at + CONFIRMED_EACH]
            conn.send_raw(b"".join(publish_bytes(queue, body, persistent) for body in bodies_of(piece, size)))
            while conn.wait_method(spec.Basic.Ack).delivery_tag < at + len(piece):
                pass


class Reader:
    """A consumer that reads frames in place: take() gives (tag, redelivered, number)."""

    def __init__(self, broker, queue, prefetch):
        self.conn = wire.Conn(broker, PATIENCE_S).connect()
        self.conn.rpc(1, spec.Basic.Qos(0, prefetch, False), spec.Basic.QosOk)
        self.conn.rpc(1, spec.Basic.Consume(queue=queue, consumer_tag="r"), spec.Basic.ConsumeOk)
        self.method = None

    def take(self, timeout_s=PATIENCE_S):
        while True:
            kind, _, payload = self.conn.read_raw_frame(timeout_s)
            if kind == wire.METHOD and payload[:4] == DELIVER:
                self.method = struct.unpack_from(">Q?", payload, 5 + payload[4])
            elif kind == wire.BODY:
                return *self.method, struct.unpack_from(">Q", payload)[0]

    def ack(self, tag, multiple=False):
        self.conn.send(1, spec.Basic.Ack(tag, multiple))

    def requeue(self, tag):
        self.conn.send(1, spec.Basic.Nack(tag, False, True))

    def settled(self):
        """What was acknowledged so far is on the disk: a confirm on the same connection comes behind it."""
        for method, answer in ((spec.Confirm.Select(), spec.Confirm.SelectOk),
                               (spec.Queue.Declare(queue="marks", durable=True), spec.Queue.DeclareOk)):
            self.conn.send(1, method)
            self.conn.wait_method(answer)
        self.conn.send_raw(publish_bytes("marks", b"mark", True))
        self.conn.wait_method(spec.Basic.Ack)


def declare(broker, queue, durable=True, **arguments):
    with wire.Conn(broker, PATIENCE_S).connect() as conn:
        named = {key.replace("_", "-"): value for key, value in arguments.items()}
        conn.rpc(1, spec.Queue.Declare(queue=queue, durable=durable, arguments=named), spec.Queue.DeclareOk)


def depth(broker, queue):
    with wire.Conn(broker, PATIENCE_S).connect() as conn:
        return conn.rpc(1, spec.Queue.Declare(queue=queue, passive=True), spec.Queue.DeclareOk).message_count


def drain(broker, queue, count):
    """Everything that is there, in the order it came."""
    reader, out = Reader(broker, queue, 2000), []
    while len(out) < count:
        out.append(reader.take())
        if len(out) % 1000 == 0 or len(out) == count:
            reader.ack(out[-1][0], True)
    reader.settled()
    reader.conn.abort()
    return out


# ---- spans ---------------------------------------------------------------------------------------------------

SMALL = {"limits__queue_index": "1024", "store__journal__segment_size": "1MiB", "node__workers": "2"}


def test_order_over_kill9_with_requeues(gateway):
    """Two consumers, requeues, kill -9 in between: nothing lost, nothing that was settled comes again, in order."""
    count, part = 200_000, 30_000
    one = gateway(**SMALL)
    declare(one, "long")
    fill(one, "long", range(count))
    assert depth(one, "long") == count

    readers = [Reader(one, "long", 300) for _ in range(2)]
    acked, returned = set(), set()
    for turn in range(part):
        reader = readers[turn % 2]
        tag, again, number = reader.take()
        assert again == (number in returned)
        if number % 97 == 0 and not again:
            reader.requeue(tag)
            returned.add(number)
        else:
            reader.ack(tag)
            acked.add(number)
    for reader in readers:
        reader.settled()
    one.kill9()
    for reader in readers:
        reader.conn.abort()

    one.start()
    left = [number for number in range(count) if number not in acked]
    assert depth(one, "long") == len(left)
    fill(one, "long", range(count, count + 5000))
    got = drain(one, "long", len(left) + 5000)
    assert [number for _, _, number in got] == left + list(range(count, count + 5000))
    assert all(again == (number < count) for _, again, number in got)
    assert depth(one, "long") == 0


def test_purge_and_delete_of_a_long_queue_outlive_a_restart(gateway):
    one = gateway(**SMALL)
    for queue in ("purged", "deleted"):
        declare(one, queue)
        fill(one, queue, range(60_000))
    with wire.Conn(one, PATIENCE_S).connect() as conn:
        assert conn.rpc(1, spec.Queue.Purge(queue="purged"), spec.Queue.PurgeOk).message_count == 60_000
        assert conn.rpc(1, spec.Queue.Delete(queue="deleted"), spec.Queue.DeleteOk).message_count == 60_000
    assert depth(one, "purged") == 0
    fill(one, "purged", range(100))
    one.restart()
    assert depth(one, "purged") == 100
    assert [number for _, _, number in drain(one, "purged", 100)] == list(range(100))
    with wire.Conn(one, PATIENCE_S).connect() as conn, pytest.raises(wire.Closed) as closed:
        conn.rpc(1, spec.Queue.Declare(queue="deleted", passive=True), spec.Queue.DeclareOk)
    assert closed.value.code == 404


def test_limits_of_a_long_queue(gateway):
    """x-max-length drops at the head, wherever the head is kept."""
    one = gateway(**SMALL)
    declare(one, "bounded", x_max_length=20_000)
    fill(one, "bounded", range(70_000))
    wait_until(lambda: depth(one, "bounded") == 20_000, what="the bound")
    assert [number for _, _, number in drain(one, "bounded", 20_000)] == list(range(50_000, 70_000))


# ---- memory --------------------------------------------------------------------------------------------------


def test_transient_backlog_goes_aside(gateway):
    """Ten times the memory limit in transient messages: published to the end, within bounds, in order, complete."""
    size, count, limit = 10_000, 16_000, 16
    one = gateway(limits__memory=f"{limit}MiB", node__workers="2")
    before = one.rss_bytes()
    declare(one, "light", durable=False)
    fill(one, "light", range(count), size, persistent=False)
    grown = (one.rss_bytes() - before) >> 20
    assert grown < 2 * limit + 64, f"{grown} MiB more for a limit of {limit} MiB"
    assert depth(one, "light") == count
    got = drain(one, "light", count)
    assert [(again, number) for _, again, number in got] == [(False, number) for number in range(count)]
    with wire.Conn(one, PATIENCE_S).connect() as conn:
        fill(one, "light", range(2000), size, persistent=False)
        assert conn.rpc(1, spec.Queue.Purge(queue="light"), spec.Queue.PurgeOk).message_count == 2000


def test_dead_letters_of_what_went_aside(gateway):
    """A message that was put aside and leaves by overflow is read back for its dead letter queue."""
    size, count = 10_000, 6000
    one = gateway(limits__memory="16MiB", node__workers="2")
    declare(one, "dead", durable=False)
    declare(one, "short", durable=False, x_max_length=count // 2, x_dead_letter_exchange="",
            x_dead_letter_routing_key="dead")
    fill(one, "short", range(count), size, persistent=False)
    wait_until(lambda: depth(one, "dead") == count // 2, PATIENCE_S, "the dead letters")
    assert sorted(number for _, _, number in drain(one, "dead", count // 2)) == list(range(count // 2))
    assert [number for _, _, number in drain(one, "short", count // 2)] == list(range(count // 2, count))


class Blocked:
    """A pika publisher that notes when the gateway blocks and unblocks it."""

    def __init__(self, broker, queue, **declared):
        self.conn = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.amqp_port, heartbeat=0))
        self.now, self.times, self.queue = False, 0, queue
        self.conn.add_on_connection_blocked_callback(self._on_blocked)
        self.conn.add_on_connection_unblocked_callback(self._on_unblocked)
        self.ch = self.conn.channel()
        self.ch.queue_declare(queue, **declared)

    def _on_blocked(self, *_):
        self.now, self.times = True, self.times + 1

    def _on_unblocked(self, *_):
        self.now = False

    def publish(self, body, persistent=False):
        mode = pika.BasicProperties(delivery_mode=2 if persistent else 1)
        self.ch.basic_publish("", self.queue, body, mode)
        self.conn.process_data_events(0)

    def wait(self, blocked):
        def same():
            self.conn.process_data_events(0.05)
            return self.now == blocked
        wait_until(same, PATIENCE_S, f"blocked={blocked}")


def consume_all(broker, queue, count):
    """Another connection takes what is there, whatever publishers do."""
    conn = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.amqp_port, heartbeat=0))
    ch = conn.channel()
    taken = 0
    for method, _, _ in ch.consume(queue, inactivity_timeout=PATIENCE_S):
        assert method is not None, f"{taken} of {count} came"
        ch.basic_ack(method.delivery_tag)
        taken += 1
        if taken == count:
            break
    ch.cancel()
    conn.close()


def test_memory_watermark(gateway):
    """What cannot go aside (a queue with priorities) fills memory: blocked, served, unblocked, and on."""
    one = gateway(limits__memory="16MiB")
    publisher = Blocked(one, "sorted", arguments={"x-max-priority": 3})
    body = b"m" * 100_000

    def fill_until_told(told):
        for _ in range(1000):
            if publisher.times > told:
                return
            publisher.publish(body)  # may stand still in here: the socket was full when the gateway stopped to read

    def pressed():
        return one.log_text(1 << 20).count("event=pressure blocked=yes")

    for _ in range(3):
        told, before = publisher.times, pressed()
        filler = threading.Thread(target=fill_until_told, args=(told,))
        filler.start()
        wait_until(lambda: pressed() > before, PATIENCE_S, "pressure")
        filler.join(0.5)
        consume_all(one, "sorted", depth(one, "sorted"))
        filler.join(PATIENCE_S)
        assert not filler.is_alive() and publisher.times > told
        if publisher.now:  # it went on as soon as it could, and filled it again
            consume_all(one, "sorted", depth(one, "sorted"))
        publisher.wait(blocked=False)
    publisher.publish(b"last")
    wait_until(lambda: depth(one, "sorted") > 0, what="a message behind the watermark")
    publisher.conn.close()


def test_disk_watermark(gateway, tmp_path):
    """Less disk free than store.journal.min_free: publishers are blocked, consumers are not; room unblocks them."""
    folder = tmp_path / "filler"
    free = shutil.disk_usage(tmp_path).free
    one = gateway(store__journal__path=str(tmp_path / "journal"),
                  store__journal__min_free=str(free // 4 * 3))  # left when an eighth more is free
    publisher = Blocked(one, "disk", durable=True)
    for number in range(50):
        publisher.publish(b"%d" % number, persistent=True)
    wait_until(lambda: depth(one, "disk") == 50, what="50 messages")
    with open(folder, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, free // 10 * 3)
        publisher.publish(b"pressed", persistent=True)
        publisher.wait(blocked=True)
        consume_all(one, "disk", 50)
    folder.unlink()
    publisher.wait(blocked=False)
    publisher.publish(b"after", persistent=True)
    wait_until(lambda: depth(one, "disk") >= 1, what="a message behind the watermark")
    publisher.conn.close()
