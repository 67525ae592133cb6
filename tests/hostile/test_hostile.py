"""Bad input: it ends its own connection (or channel) with the right error, in time and in bounded memory.

Each test does its harm on connections of its own, while `bystander` (another connection) must go on publishing
and consuming, and the broker's memory must stay within `bounded_memory`. Seeds are fixed, so that a failure
comes again.
"""
import contextlib
import os
import random
import socket
import struct
import time

import pytest
from pika import spec

from mqtest import wire
from mqtest.broker import build_dir, wait_until
from mqtest.wire import Closed, Conn

DEADLINE_S = 30
QOS = spec.Basic.Qos(0, 1, False)
MIB = 1 << 20


class Bystander:
    """A well-behaved client; works() proves that it is served."""

    def __init__(self, broker, queue):
        self.conn = Conn(broker).connect()
        self.queue = queue
        self.conn.rpc(1, spec.Queue.Declare(queue=queue), spec.Queue.DeclareOk)
        self.conn.rpc(1, spec.Basic.Consume(queue=queue, consumer_tag="t", no_ack=True), spec.Basic.ConsumeOk)
        self.count = 0

    def works(self, within_s=20.0):
        self.count += 1
        body = b"%d" % self.count
        self.conn.publish(1, "", self.queue, body)
        assert self.conn.read_content(timeout_s=within_s)[2] == body

    def close(self):
        self.conn.rpc(1, spec.Queue.Delete(queue=self.queue), spec.Queue.DeleteOk)
        self.conn.close()


@pytest.fixture(autouse=True)
def bystander(broker, unique):
    """Served before, during (where a test asks) and after the harm."""
    made = Bystander(broker, unique("bystander"))
    made.works()
    yield made
    made.works()
    made.close()


@pytest.fixture(autouse=True)
def bounded_memory(broker):
    """No test may make the gateway grow by more than 96 MiB. RabbitMQ is not judged: a client that asks and
    never reads makes it grow by more than a gigabyte."""
    before = broker.rss_bytes()
    yield
    grown = broker.rss_bytes() - before
    limit = 96 if build_dir().name == "build" else 512  # sanitizers keep what was freed
    assert broker.is_rabbitmq or grown < limit * MIB, f"grown by {grown // MIB} MiB"


def end_of(conn, timeout_s=DEADLINE_S) -> Closed:
    """How the broker ends this connection; fails when it does not within the deadline."""
    end = conn.closing(timeout_s)
    if end.scope != "socket":
        with contextlib.suppress(Closed, ConnectionError):
            while True:
                conn.read_raw_frame(timeout_s)
    return end


def send_quietly(conn, data):
    """Sends; the broker may close while we do."""
    with contextlib.suppress(ConnectionError, TimeoutError):
        conn.send_raw(data)


def drop(conn):
    with contextlib.suppress(OSError):
        conn.sock.shutdown(socket.SHUT_WR)
    conn.abort()


# -- what a session looks like, as bytes ----------------------------------------------------------
def session_bytes(queue):
    """A whole session, sent without waiting for answers: handshake, declare, publish, consume, close."""
    start_ok = spec.Connection.StartOk(client_properties={"product": "test", "n": 1, "t": {"a": [1, True, None]}},
                                       mechanism="PLAIN", response="\0guest\0guest", locale="en_US")
    methods = [
        (0, start_ok), (0, spec.Connection.TuneOk(2047, 131072, 0)), (0, spec.Connection.Open("/")),
        (1, spec.Channel.Open()), (1, spec.Queue.Declare(queue=queue, exclusive=True, arguments={"x-max-length": 5})),
        (1, spec.Confirm.Select()),
    ]
    out = wire.PROTOCOL_HEADER + b"".join(wire.method_frame(n, method) for n, method in methods)
    props = wire.headers_only_props(wire.table(("a", b"I", b"\0\0\0\1"), ("s", b"S", wire.long_string("text"))))
    out += wire.content(1, "", queue, b"body" * 4, props=props)
    out += wire.method_frame(1, spec.Basic.Get(queue=queue, no_ack=True))
    return out + wire.method_frame(0, spec.Connection.Close(200, "bye", 0, 0))


def play(broker, data):
    """Sends bytes on a fresh connection, closes our side, and waits until the broker has closed its own."""
    conn = Conn(broker)
    send_quietly(conn, data)
    with contextlib.suppress(OSError):
        conn.sock.shutdown(socket.SHUT_WR)
    conn.sock.settimeout(DEADLINE_S)
    with contextlib.suppress(ConnectionError):
        while conn.sock.recv(65536):
            pass
    conn.abort()


def test_session_whole(broker, unique):
    play(broker, session_bytes(unique("s")))


@pytest.mark.timeout(120)
def test_session_cut_at_each_byte(broker, bystander, unique):
    data = session_bytes(unique("s"))
    step = 1 if not broker.is_rabbitmq else 9
    for end in range(0, len(data), step):
        conn = Conn(broker)
        send_quietly(conn, data[:end])
        drop(conn)
        if end % 90 == 0:
            bystander.works()


@pytest.mark.timeout(120)
def test_session_with_flipped_bytes(broker, bystander, unique):
    """Each byte of the session changed once; whatever comes of it, only this connection ends."""
    data = session_bytes(unique("s"))
    rng = random.Random(20)
    step = 1 if not broker.is_rabbitmq else 11
    for at in range(0, len(data), step):
        broken = bytearray(data)
        broken[at] ^= rng.randrange(1, 256)
        conn = Conn(broker)
        send_quietly(conn, bytes(broken))
        drop(conn)
        if at % 99 == 0:
            bystander.works()
    assert broker.alive()


@pytest.mark.parametrize("seed", range(30))
def test_random_bytes_after_login(broker, seed):
    """Random bytes are a wrong frame sooner or later; an incomplete one ends with our end of the stream."""
    rng = random.Random(seed)
    with Conn(broker).connect() as conn:
        send_quietly(conn, rng.randbytes(rng.choice([1, 7, 8, 100, 5000])))
        with contextlib.suppress(OSError):
            conn.sock.shutdown(socket.SHUT_WR)
        end = end_of(conn)
        assert end.scope == "socket" or (end.scope, end.code) in [
            ("connection", code) for code in (501, 502, 503, 504, 505, 540)]


@pytest.mark.parametrize("seed", range(30))
def test_random_frames_after_login(broker, seed):
    """Well-framed frames with random type, channel and payload: a connection error, and no reply is lost on others."""
    rng = random.Random(1000 + seed)
    with Conn(broker).connect() as conn:
        frames = [wire.raw_frame(rng.choice([1, 1, 1, 2, 3, 8, 4, 255]), rng.choice([0, 1, 1, 2, 65535]),
                                 rng.randbytes(rng.choice([0, 1, 4, 12, 14, 200]))) for _ in range(50)]
        send_quietly(conn, b"".join(frames))
        end = end_of(conn)
        assert end.scope == "socket" or (end.scope == "connection" and end.code in (501, 502, 503, 504, 505, 540))


@pytest.mark.parametrize("seed", range(20))
def test_known_methods_with_random_arguments(broker, seed):
    rng = random.Random(2000 + seed)
    known = [(10, 11), (10, 31), (10, 50), (20, 10), (20, 20), (20, 40), (40, 10), (40, 20), (40, 30), (50, 10),
             (50, 20), (50, 30), (50, 40), (60, 10), (60, 20), (60, 30), (60, 40), (60, 70), (60, 80), (60, 90),
             (60, 120), (85, 10), (90, 10)]
    for class_id, method_id in known:
        with Conn(broker).connect() as conn:
            payload = struct.pack(">HH", class_id, method_id) + rng.randbytes(rng.choice([0, 1, 3, 9, 40]))
            send_quietly(conn, wire.raw_frame(wire.METHOD, 0 if class_id == 10 else 1, payload))
            drop(conn)


# -- framing --------------------------------------------------------------------------------------
def login_only(broker):
    conn = Conn(broker)
    conn.send_raw(wire.PROTOCOL_HEADER)
    conn.expect(spec.Connection.Start)
    return conn


@pytest.mark.parametrize("size", [131073, 1 << 20, (1 << 31) - 1, (1 << 32) - 1])
def test_oversized_frame(broker, size):
    with Conn(broker).connect() as conn:
        conn.send_raw(struct.pack(">BHI", 1, 1, size))
        send_quietly(conn, b"\0" * 64)
        end = end_of(conn)
        assert (end.scope, end.code) == ("connection", 501)


@pytest.mark.parametrize("size", [200_000, (1 << 32) - 1])
def test_oversized_frame_before_login(broker, size):
    """Nobody who has not logged in may make us hold more than a little."""
    with login_only(broker) as conn:
        conn.send_raw(struct.pack(">BHI", 1, 0, size))
        send_quietly(conn, b"\0" * MIB)
        end = end_of(conn)
        assert end.scope == "socket" or (end.scope, end.code) == ("connection", 501)


def test_frames_before_login(broker):
    with login_only(broker) as conn:
        send_quietly(conn, wire.method_frame(1, spec.Queue.Declare(queue="x")))
        end = end_of(conn)
        assert end.scope in ("socket", "connection") and end.code in (0, 501, 503, 504, 505)


@pytest.mark.parametrize("response", ["", "guest", "\0\0\0\0", "\0" + "u" * 4000 + "\0p", "\0guest\0\0guest"],
                         ids=["empty", "no-nul", "nuls", "long", "extra-nul"])
def test_malformed_plain_response(broker, response):
    with Conn(broker) as conn, pytest.raises(Closed) as caught:
        conn.connect(response=response)
    assert caught.value.code in (0, 403, 501, 502)


# -- wrong order ----------------------------------------------------------------------------------
def test_frame_for_a_closed_channel(broker):
    with Conn(broker).connect() as conn:
        conn.rpc(1, spec.Channel.Close(200, "", 0, 0), spec.Channel.CloseOk)
        conn.send(1, QOS)
        end = end_of(conn)
        assert (end.scope, end.code, end.text) == ("connection", 504, "CHANNEL_ERROR - expected 'channel.open'")


@pytest.mark.parametrize("kind", [wire.HEADER, wire.BODY])
def test_content_frame_for_a_channel_that_was_never_open(broker, kind):
    with Conn(broker).connect() as conn:
        send_quietly(conn, wire.raw_frame(kind, 7, struct.pack(">HHQH", 60, 0, 0, 0)))
        end = end_of(conn)
        assert (end.scope, end.code) in [("connection", 504), ("connection", 505)]


def test_method_in_the_middle_of_content(broker):
    with Conn(broker).connect() as conn:
        conn.send(1, spec.Basic.Publish(exchange="", routing_key="none"))
        conn.send_raw(wire.header_frame(1, 100) + wire.raw_frame(wire.BODY, 1, b"x" * 50))
        conn.send(1, QOS)
        end = end_of(conn)
        assert (end.scope, end.code) == ("connection", 505)


def test_body_larger_than_announced(broker):
    """RabbitMQ 3.10 waits for ever for a body that it has passed; a frame too many is 505 here."""
    for announced, pieces in [(5, [b"123456"]), (5, [b"123", b"456"]), (0, [b"1"])]:
        with Conn(broker).connect() as conn:
            conn.send(1, spec.Basic.Publish(exchange="", routing_key="none"))
            conn.send_raw(wire.header_frame(1, announced) + b"".join(wire.raw_frame(wire.BODY, 1, p) for p in pieces))
            if broker.is_rabbitmq and announced:
                with pytest.raises(TimeoutError):
                    conn.closing(0.3)
            else:
                end = end_of(conn)
                assert (end.scope, end.code) in [("connection", 505), ("connection", 501)]


@pytest.mark.parametrize("announced", [1 << 40, (1 << 63) - 1, (1 << 64) - 1])
def test_body_announced_beyond_all_limits(broker, bystander, announced):
    """An enormous body costs nothing: it is refused, at the latest when the limit is passed."""
    piece = wire.raw_frame(wire.BODY, 1, b"x" * 131064)
    with Conn(broker).connect() as conn:
        conn.send(1, spec.Basic.Publish(exchange="", routing_key="none"))
        send_quietly(conn, wire.header_frame(1, announced))
        if broker.is_rabbitmq:  # refuses only a whole message above 128 MiB, or cannot hold the number
            return
        conn.sock.settimeout(DEADLINE_S)
        for _ in range(300):
            send_quietly(conn, piece)
        end = conn.closing(DEADLINE_S)
        assert end.scope == "socket" or (end.scope, end.code) in [("channel", 311), ("channel", 406),
                                                                 ("connection", 501), ("connection", 502)]
    bystander.works()


# -- tables ---------------------------------------------------------------------------------------
def nested_table(depth):
    return b"".join(struct.pack(">I", 7 * left) + (b"\x01nF" if left else b"") for left in range(depth, -1, -1))


def nested_array(depth):
    inside = b"".join(b"A" + struct.pack(">I", 5 * left) for left in range(depth, -1, -1))
    return struct.pack(">I", len(inside) + 2) + b"\x01n" + inside


def declare_frame(queue, table):
    payload = struct.pack(">I", spec.Queue.Declare.INDEX) + b"\0\0" + wire.short_string(queue) + b"\x04" + table
    return wire.raw_frame(wire.METHOD, 1, payload)


def still_answers(conn):
    conn.send(1, QOS)
    conn.wait_method(spec.Basic.QosOk, DEADLINE_S)


@pytest.mark.parametrize("make", [nested_table, nested_array])
@pytest.mark.parametrize("depth", [1000, 15000])
def test_deep_table_in_arguments(broker, unique, make, depth):
    """The gateway refuses it as a syntax error; RabbitMQ takes it. Neither may fall over."""
    with Conn(broker).connect() as conn:
        send_quietly(conn, declare_frame(unique("q"), make(depth)))
        if broker.is_rabbitmq:
            still_answers(conn)
        else:
            end = end_of(conn)
            assert (end.scope, end.code) in [("connection", 501), ("connection", 502)]


@pytest.mark.parametrize("make", [nested_table, nested_array])
@pytest.mark.parametrize("depth", [1000, 15000])
def test_deep_table_in_headers(broker, bystander, unique, make, depth):
    """As headers of a message that a headers exchange must look at, and that is dead-lettered."""
    with Conn(broker).connect() as conn:
        q, dlq, x = unique("q"), unique("dlq"), unique("x")
        conn.rpc(1, spec.Queue.Declare(queue=dlq, exclusive=True), spec.Queue.DeclareOk)
        conn.rpc(1, spec.Queue.Declare(queue=q, exclusive=True, arguments={
            "x-max-length": 0, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dlq}), spec.Queue.DeclareOk)
        conn.rpc(1, spec.Exchange.Declare(exchange=x, type="headers", auto_delete=True), spec.Exchange.DeclareOk)
        conn.rpc(1, spec.Queue.Bind(queue=q, exchange=x, arguments={"x-match": "any", "n": None}), spec.Queue.BindOk)
        send_quietly(conn, wire.content(1, x, "", b"m", props=wire.headers_only_props(make(depth)), frame_max=131072))
        try:
            still_answers(conn)
        except Closed as end:
            assert end.code in (406, 501, 502)
    bystander.works()


def test_deep_table_in_client_properties(broker):
    with login_only(broker) as conn:
        payload = struct.pack(">I", spec.Connection.StartOk.INDEX) + nested_table(500) + wire.short_string("PLAIN")
        payload += wire.long_string("\0guest\0guest") + wire.short_string("en_US")
        send_quietly(conn, wire.raw_frame(wire.METHOD, 0, payload))
        if broker.is_rabbitmq:
            conn.expect(spec.Connection.Tune)
        else:
            end = end_of(conn)
            assert end.scope == "socket" or end.code in (501, 502)


LYING_TABLES = {
    "longer-than-frame": struct.pack(">I", 1000) + b"\x01aI\0\0\0\1",
    "huge": b"\xff\xff\xff\xff" + b"\x01aI\0\0\0\1",
    "string-longer-than-table": wire.long_string(b"\x01aS\x00\x00\xff\xff" + b"x"),
    "string-huge": wire.long_string(b"\x01aS\xff\xff\xff\xff" + b"x"),
    "name-longer-than-table": wire.long_string(b"\xffa"),
    "inner-table-longer": wire.long_string(b"\x01aF\x00\x00\x00\x63" + b"\x01bt\x01"),
    "inner-array-longer": wire.long_string(b"\x01aA\x00\x00\x00\x63" + b"t\x01"),
    "cut-number": wire.long_string(b"\x01al\0\0\0\1"),
    "no-value": wire.long_string(b"\x01a"),
    "unknown-type": wire.long_string(b"\x01a?\0\0\0\1"),
    "type-zero": wire.long_string(b"\x01a\0\0"),
}


@pytest.mark.parametrize("name", LYING_TABLES)
def test_lying_table_in_arguments(broker, unique, name):
    with Conn(broker).connect() as conn:
        send_quietly(conn, declare_frame(unique("q"), LYING_TABLES[name]))
        end = end_of(conn)
        assert end.scope == "socket" if broker.is_rabbitmq and end.code == 0 else (
            end.scope == "connection" and end.code in (501, 502, 541 if broker.is_rabbitmq else 502))


@pytest.mark.parametrize("name", LYING_TABLES)
def test_lying_table_in_headers(broker, bystander, unique, name):
    """The gateway may pass headers on unread, yet one who must read them may not trip; nor may our own reader."""
    with Conn(broker).connect() as conn:
        q, x = unique("q"), unique("x")
        conn.rpc(1, spec.Queue.Declare(queue=q, exclusive=True), spec.Queue.DeclareOk)
        conn.rpc(1, spec.Exchange.Declare(exchange=x, type="headers", auto_delete=True), spec.Exchange.DeclareOk)
        conn.rpc(1, spec.Queue.Bind(queue=q, exchange=x, arguments={"x-match": "any", "a": 1}), spec.Queue.BindOk)
        send_quietly(conn, wire.content(1, x, "", b"m", props=wire.headers_only_props(LYING_TABLES[name])))
        try:
            still_answers(conn)
        except Closed as end:
            assert end.scope == "socket" or end.code in (406, 501, 502, 541)
    bystander.works()


@pytest.mark.parametrize("flags", [b"\xff\xff", b"\x80\x00", b"\x20\x00", b"\x00\x01\x00\x01", b"\x00\x02", b""],
                         ids=lambda flags: flags.hex() or "none")
def test_property_flags_without_their_values(broker, bystander, flags):
    with Conn(broker).connect() as conn:
        conn.send(1, spec.Basic.Publish(exchange="amq.headers", routing_key="k"))
        send_quietly(conn, wire.header_frame(1, 0, props=flags))
        try:
            still_answers(conn)
        except Closed as end:
            assert end.scope == "socket" or end.code in (406, 501, 502, 541)
    bystander.works()


# -- slow and greedy clients ----------------------------------------------------------------------
@pytest.mark.timeout(120)
def test_slow_loris(broker, bystander):
    """Clients that never finish their handshake are shown out within the handshake's time (10 s)."""
    starts = [b"", b"A", b"AMQP", wire.PROTOCOL_HEADER, wire.PROTOCOL_HEADER + b"\x01\x00\x00\x00\x00\x01\x00\x00"]
    conns = [(Conn(broker), start) for start in starts for _ in range(10)]
    for conn, start in conns:
        conn.send_raw(start)
    deadline = time.monotonic() + 60
    turn = 0
    waiting = list(conns)
    while waiting:
        assert time.monotonic() < deadline, f"{len(waiting)} of {len(conns)} still connected"
        turn += 1
        waiting = [(conn, start) for conn, start in waiting if not loris_ended(conn, start, turn)]
        bystander.works()
        time.sleep(0.25)


def loris_ended(conn, start, turn):
    """One byte more where it belongs to a frame that is never whole; true when the broker has hung up."""
    try:
        if len(start) > 8 and turn < 200:
            conn.sock.send(b"\0")
        conn.sock.setblocking(False)
        while True:
            if not conn.sock.recv(65536):
                conn.abort()
                return True
    except BlockingIOError:
        conn.sock.setblocking(True)
        return False
    except ConnectionError:
        conn.abort()
        return True


def push(conn, data, seconds, most_bytes):
    """Sends `data` again and again without ever reading, until time or bytes are up; the bytes that went out."""
    conn.sock.setblocking(False)
    block = data * max(1, 65536 // len(data))
    sent, at, until = 0, 0, time.monotonic() + seconds
    while time.monotonic() < until and sent < most_bytes:
        try:
            count = conn.sock.send(block[at:])
        except BlockingIOError:
            time.sleep(0.005)
            continue
        except ConnectionError:
            break
        sent += count
        at = (at + count) % len(block)
    conn.sock.setblocking(True)
    return sent


@pytest.mark.timeout(60)
def test_client_that_asks_and_never_reads(broker, bystander):
    """Answers that nobody takes must stop the questions, not fill our memory."""
    with Conn(broker).connect() as conn:
        push(conn, wire.method_frame(1, QOS), 4, 64 * MIB)
        bystander.works()


@pytest.mark.timeout(60)
def test_publisher_that_never_reads_its_returns(broker, bystander, unique):
    with Conn(broker).connect() as conn:
        message = wire.content(1, "", unique("none"), b"x" * 4000, mandatory=True)
        push(conn, message, 4, 256 * MIB)
        bystander.works()


@pytest.mark.timeout(60)
def test_consumer_that_never_reads(broker, bystander, unique):
    """Its messages wait in the queue; another consumer of the same queue gets what is left."""
    q = unique("q")
    with Conn(broker).connect() as stuck, Conn(broker).connect() as other:
        stuck.rpc(1, spec.Queue.Declare(queue=q, auto_delete=True), spec.Queue.DeclareOk)
        stuck.rpc(1, spec.Basic.Qos(0, 50, False), spec.Basic.QosOk)
        stuck.send(1, spec.Basic.Consume(queue=q, consumer_tag="stuck"))
        for _ in range(400):
            other.publish(1, "", q, b"x" * 65536)
        other.rpc(1, spec.Basic.Consume(queue=q, consumer_tag="t", no_ack=True), spec.Basic.ConsumeOk)
        for _ in range(100):
            other.read_content()
            bystander.works()


def test_shut_down_in_the_middle_of_a_frame(broker):
    with Conn(broker).connect() as conn:
        conn.send_raw(wire.method_frame(1, QOS)[:-3])
        conn.sock.shutdown(socket.SHUT_WR)
        assert conn.closing(DEADLINE_S).scope == "socket"


# -- many ----------------------------------------------------------------------------------------
@pytest.mark.timeout(60)
def test_storm_of_connections_leaves_nothing_behind(broker, bystander):
    def open_files():
        return len(os.listdir(f"/proc/{broker.pid}/fd"))

    before = open_files()
    for turn in range(10):
        conns = [Conn(broker) for _ in range(50)]
        for n, conn in enumerate(conns):
            if n % 3:
                conn.send_raw(wire.PROTOCOL_HEADER)
            if n % 3 == 2:
                send_quietly(conn, b"\x01\x00\x00")
        for conn in conns:
            conn.abort()
        bystander.works()
    wait_until(lambda: open_files() <= before + 5, 15, "sockets are closed")


@pytest.mark.timeout(60)
def test_aborted_consumers_give_their_messages_back(broker, unique):
    q = unique("q")
    with Conn(broker).connect() as keeper:
        keeper.rpc(1, spec.Queue.Declare(queue=q), spec.Queue.DeclareOk)
        for n in range(200):
            keeper.publish(1, "", q, b"%d" % n)
        for _ in range(20):
            conn = Conn(broker).connect()
            conn.rpc(1, spec.Basic.Qos(0, 10, False), spec.Basic.QosOk)
            conn.rpc(1, spec.Basic.Consume(queue=q, consumer_tag="t"), spec.Basic.ConsumeOk)
            conn.read_content()
            conn.abort()
        ready = lambda: keeper.rpc(1, spec.Queue.Declare(queue=q, passive=True), spec.Queue.DeclareOk).message_count
        wait_until(lambda: ready() == 200, 10, "200 messages are back")
        keeper.rpc(1, spec.Basic.Consume(queue=q, consumer_tag="t", no_ack=True), spec.Basic.ConsumeOk)
        assert [keeper.read_content()[2] for _ in range(200)] == [b"%d" % n for n in range(200)]
        keeper.rpc(1, spec.Queue.Delete(queue=q), spec.Queue.DeleteOk)
