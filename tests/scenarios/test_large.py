"""Messages of 16 and 128 MiB beside small ones: confirmed, killed, there; and they keep no more on the disk than themselves.

A message that does not fit a segment stands alone in a file of its own, which goes with it: no segment is pinned by it, and none
is copied because of it."""
import hashlib

import pika
import pytest
from mqtest.broker import Gateway, wait_until

MIB = 1 << 20
LARGE = (128 * MIB - 1024, 16 * MIB, 16 * MIB, 16 * MIB, 128 * MIB)
PERSISTENT = pika.BasicProperties(delivery_mode=2)
pytestmark = pytest.mark.long


def body(number, size):
    """Not one byte like another message's."""
    head = b"%08d" % number
    return head + hashlib.sha256(head).digest() * ((size - 8) // 32) + bytes((size - 8) % 32)


def confirmed(gateway):
    connection = pika.BlockingConnection(pika.URLParameters(gateway.url + "?heartbeat=0"))
    channel = connection.channel()
    channel.confirm_delivery()
    return channel


def files(gateway):
    """Bytes by name."""
    sizes = {}
    for path in (gateway.folder / "journal").iterdir():
        try:
            sizes[path.name] = path.stat().st_size
        except FileNotFoundError:  # removed just now
            continue
    return sizes


def seg_bytes(gateway):
    return [size for name, size in files(gateway).items() if name.endswith(".seg")]


def gateway_with(segment):
    return Gateway(settings={"limits.message_size": "128MiB", "store.journal.segment_size": segment,
                             "store.journal.min_free": "0"})


@pytest.mark.parametrize("segment", ["64MiB", "1MiB"])
def test_large_beside_small_over_a_kill(segment):
    with gateway_with(segment) as gateway:
        channel = confirmed(gateway)
        channel.queue_declare("q", durable=True)
        sizes = []
        for large in LARGE:
            sizes += [100] * 20 + [large]
        for number, size in enumerate(sizes):
            channel.basic_publish("", "q", body(number, size), PERSISTENT)
        assert sum(seg_bytes(gateway)) < sum(sizes) + 16 * 64 * MIB
        gateway.kill9()
        gateway.start()
        channel = confirmed(gateway)
        assert channel.queue_declare("q", passive=True).method.message_count == len(sizes)
        for number, size in enumerate(sizes):
            got = channel.basic_get("q", auto_ack=True)[2]
            assert len(got) == size and got == body(number, size), number
        assert channel.basic_get("q")[0] is None
        most = (64 if segment == "64MiB" else 1) * MIB
        wait_until(lambda: max(seg_bytes(gateway)) <= most, 30, "the large messages' files are gone")


def test_large_ones_do_not_poison_evacuation():
    """Large messages stay, small ones pass: what passed goes, and nothing large is copied."""
    with gateway_with("1MiB") as gateway:
        channel = confirmed(gateway)
        for queue in ("large", "slow", "busy"):
            channel.queue_declare(queue, durable=True)
        live = 0
        for number in range(1600):
            if number in (0, 400, 800):
                channel.basic_publish("", "large", body(number, 24 * MIB), PERSISTENT)
                live += 24 * MIB
            queue = "slow" if number % 20 == 0 else "busy"
            live += 20_000 * (queue == "slow")
            channel.basic_publish("", queue, body(number, 20_000), PERSISTENT)
            if queue == "busy":
                channel.basic_get("busy", auto_ack=True)
            assert sum(files(gateway).values()) <= 2 * live + 16 * MIB + 2 * MIB, number
        wait_until(lambda: sum(seg_bytes(gateway)) <= live + 10 * MIB, 30, "what passed is gone")
        gateway.kill9()
        gateway.start()
        channel = confirmed(gateway)
        for number in (0, 400, 800):
            assert channel.basic_get("large", auto_ack=True)[2] == body(number, 24 * MIB)
        for number in range(0, 1600, 20):
            assert channel.basic_get("slow", auto_ack=True)[2] == body(number, 20_000)
