"""Bad STOMP input: it ends its own connection with an ERROR that says why, in time and in bounded memory, and nobody else's."""
import contextlib
import random
import select
import socket
import time

import pytest

from mqtest.broker import wait_until
from mqtest.stomp import Closed, Stomp

MIB = 1 << 20


@pytest.fixture(autouse=True)
def bystander(broker, stomp, unique):
    """Served before and after the harm, and the broker does not grow by it."""
    if broker.is_rabbitmq:
        pytest.skip("RabbitMQ's own limits are others")
    queue = f"/queue/{unique('bystander')}"
    c = stomp().subscribe(queue)
    c.put(queue, b"before")
    before = broker.rss_bytes()
    yield c
    c.put(queue, b"after")
    assert [c.expect("MESSAGE").body for _ in range(2)] == [b"before", b"after"]
    wait_until(lambda: broker.rss_bytes() - before < 96 * MIB, 5, "memory comes back")


HEAD = b"SEND\ndestination:/queue/hostile\n"


@pytest.mark.parametrize("wire, message", [
    (HEAD + b"no colon here\n\n\0", "Invalid frame"),
    (HEAD + b":no name\n\n\0", "Invalid frame"),
    (HEAD + b"a:b\\tc\n\n\0", "Invalid header"),
    (HEAD + b"a:b\\\n\n\0", "Invalid header"),
    (HEAD + b"content-length:-1\n\n\0", "Invalid header"),
    (HEAD + b"content-length:99999999999999999999\n\n\0", "Invalid header"),
    (HEAD + b"content-length:18446744073709551615\n\n\0", "Frame too large"),
    (HEAD + b"content-length:999999999999\n\n\0", "Frame too large"),
    (HEAD + b"content-length:3\n\nabcdef\0", "Invalid frame"),
    (HEAD + b"priority:256\n\n\0", "Invalid header"),
    (HEAD + b"expiration:soon\n\n\0", "Invalid header"),
    (HEAD + b"user-id:root\n\n\0", "precondition_failed"),
    (HEAD + b"".join(b"h%d:x\n" % n for n in range(300)) + b"\n\0", "Frame too large"),
    (HEAD + b"big:" + b"x" * 70000 + b"\n\n\0", "Frame too large"),
    (b"DISCONNECT\0", "Invalid frame"),
    (b"\xff\xfe\xfd\n\n\0", "Bad command"),
    (b"send\n\n\0", "Bad command"),
    (b"SUBSCRIBE\nid:1\ndestination:/queue/%zz\n\n\0", "Invalid destination"),
    (b"SUBSCRIBE\nid:1\ndestination:/queue/x\nack:never\n\n\0", "Invalid header"),
    (b"SUBSCRIBE\nid:1\ndestination:/queue/x\nprefetch-count:many\n\n\0", "Invalid header"),
    (b"SUBSCRIBE\ndestination:/queue/x\n\n\0", "Missing header"),
    (b"SUBSCRIBE\nid:1\ndestination:/queue/amq.mine\n\n\0", "access_refused"),
    (b"ACK\nid:1\ncontent-length:500000\n\n", "Frame too large"),
])
def test_a_bad_frame_ends_its_connection(stomp, wire, message):
    c = stomp()
    c.raw(wire)
    assert c.error()["message"] == message


@pytest.mark.parametrize("wire", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"AMQP\0\0\x09\x01", b"\x16\x03\x01\x02\0", b"\0" * 100,
                                  b"\n" * 100 + b"\0", bytes(range(256)) * 40])
def test_bytes_of_another_protocol(stomp, wire):
    c = stomp(connect=False)
    c.raw(wire)
    try:
        c.next(3)
    except (Closed, ConnectionError, TimeoutError, UnicodeDecodeError):
        pass


def test_a_header_without_end_before_login(stomp):
    c = stomp(connect=False)
    c.raw(b"CONNECT\nx:" + b"y" * 20000)
    assert c.error()["message"] == "Frame too large"


def test_a_body_without_end_is_bounded(stomp):
    """No content-length, no NUL: gathered up to the limit, then refused."""
    c = stomp()
    c.raw(HEAD + b"\n")
    with pytest.raises((ConnectionError, AssertionError)):
        for _ in range(40):
            c.raw(b"x" * MIB)
        raise AssertionError("taken whole")


def answered(clients):
    """Those who have heard something."""
    ready = select.select([c.sock for c in clients], [], [], 0)[0]
    return [c for c in clients if c.sock in ready]


def test_bodies_without_length_are_bounded_together(own_gateway):
    """Each is smaller than the largest message; 16 of the largest may be under way. When they are gone there is room again."""
    gateway = own_gateway(limits__message_size="1MiB")
    clients = [Stomp(gateway.ports["stomp"]).connect() for _ in range(20)]
    for c in clients:
        with contextlib.suppress(ConnectionError):
            c.raw(HEAD + b"\n" + b"x" * (MIB - 100))
    wait_until(lambda: len(answered(clients)) >= 4, 10, "four refusals")
    said = set()
    for c in answered(clients):
        with contextlib.suppress(ConnectionError):
            said.add(c.next()["message"])
    assert said == {"resource_error"}
    for c in clients:
        c.close()
    with Stomp(gateway.ports["stomp"]).connect() as c:
        c.subscribe("/queue/x")
        c.raw(b"SEND\ndestination:/queue/x\n\n" + b"y" * (MIB - 100) + b"\0")
        assert c.expect("MESSAGE").body == b"y" * (MIB - 100)


def test_announced_bodies_cost_nothing(broker, stomp, unique):
    """A hundred clients announce 15 MiB each and send a byte."""
    before = broker.rss_bytes()
    clients = [stomp() for _ in range(100)]
    for c in clients:
        c.raw(HEAD + b"content-length:15000000\n\nx")
    for _ in range(50):  # the node goes on, and has read what they sent
        clients[0] = stomp().put(f"/queue/{unique('q')}", b"x")
    assert broker.rss_bytes() - before < 64 * MIB


def test_a_client_that_dribbles_is_served(stomp, unique):
    c = stomp(connect=False)
    queue = f"/queue/{unique('q')}"
    frames = c.frame("CONNECT", {"accept-version": "1.2", "host": "/", "login": "guest", "passcode": "guest"})
    frames += b"\n\r\n" + c.frame("SUBSCRIBE", {"destination": queue, "id": "1"})
    frames += c.frame("SEND", {"destination": queue, "a": "b:c\n"}, b"body\0with nul")
    frames += f"SEND\ndestination:{queue}\n\nno length\0".encode()
    for i in range(len(frames)):
        c.raw(frames[i:i + 1])
    c.expect("CONNECTED")
    assert [c.expect("MESSAGE").body for _ in range(2)] == [b"body\0with nul", b"no length"]


def test_a_client_that_does_not_log_in_is_ended(own_gateway):
    gateway = own_gateway(limits__login_timeout="300ms")
    c = Stomp(gateway.ports["stomp"])
    started = time.monotonic()
    with pytest.raises((ConnectionError, Closed)):
        while time.monotonic() < started + 9.5:
            c.raw(b"\n")
            try:
                c.next(0.05)
            except TimeoutError:
                pass
    assert time.monotonic() - started < 9.5  # the default is 10 s


def test_a_client_that_never_reads(broker, stomp, unique):
    """Deliveries stop; what it has not got stays in the queue."""
    queue = f"/queue/{unique('q')}"
    before = broker.rss_bytes()
    lazy = stomp()
    lazy.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    lazy.send("SUBSCRIBE", {"destination": queue, "id": "1"})
    busy = stomp()
    for _ in range(200):
        busy.send("SEND", {"destination": queue}, b"x" * 100_000)
    busy.put(queue, b"last")
    assert broker.rss_bytes() - before < 96 * MIB
    lazy.close()
    again = stomp().subscribe(queue)
    again.expect("MESSAGE")


def test_receipts_that_nobody_reads_are_bounded(stomp, unique):
    c = stomp()
    c.sock.settimeout(3)
    frame = c.frame("SEND", {"destination": f"/queue/{unique('q')}", "receipt": "r" * 1000, "expiration": "0"}, b"x")
    try:
        for _ in range(20_000):
            c.raw(frame)
    except (TimeoutError, ConnectionError):
        pass


def test_random_bytes_after_login(stomp):
    rng = random.Random(61613)
    words = [b"SEND", b"SUBSCRIBE", b"ACK", b"\n", b"\n\n", b"\0", b":", b"destination:/queue/r\n", b"id:1\n", b"\\c", b"receipt:1\n",
             b"content-length:3\n", b"transaction:t\n", b"BEGIN\n", b"COMMIT\n", b"\r\n", b"x" * 50]
    for _ in range(60):
        c = stomp()
        data = b"".join(rng.choice(words) if rng.random() < 0.9 else bytes([rng.randrange(256)]) for _ in range(200))
        try:
            c.raw(data)
        except ConnectionError:
            pass
        c.close()


def test_clients_that_vanish_in_the_middle(broker, stomp, unique):
    c = stomp()
    queue = f"/queue/{unique('q')}"
    whole = c.frame("SEND", {"destination": queue, "receipt": "1", "transaction": "t"}, b"x" * 50_000)
    for cut in (5, 30, 60, 100, 1000, len(whole) - 1):
        one = stomp()
        one.send("BEGIN", {"transaction": "t"})
        one.raw(whole[:cut])
        one.close()


def test_too_many_subscriptions_and_transactions(stomp):
    c = stomp()
    for n in range(257):
        c.send("BEGIN", {"transaction": str(n)})
    assert c.error()["message"] == "Bad transaction"
