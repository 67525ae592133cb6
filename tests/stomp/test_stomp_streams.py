"""Streams by STOMP: made, sent to, followed from an offset."""
import pytest


@pytest.fixture(autouse=True)
def ours(on_rabbitmq):
    if on_rabbitmq:
        pytest.skip("the oracle of streams is AMQP's; its adapter is not judged here")


@pytest.fixture
def stream(stomp, unique):
    """A stream of ten messages."""
    name = unique("stream")
    c = stomp()
    c.subscribe(f"/queue/{name}", "make", ack="client", x_queue_type="stream", durable="true", prefetch_count="10")
    c.send("UNSUBSCRIBE", {"id": "make", "receipt": "u"})
    c.receipt()
    for n in range(10):
        c.put(f"/queue/{name}", b"%d" % n, persistent="true")
    return f"/queue/{name}"


@pytest.mark.parametrize("offset, first", [("first", 0), ("offset=4", 4), ("7", 7), ("timestamp=1000", 0)])
def test_a_stream_is_read_from_an_offset(stomp, stream, offset, first):
    for _ in range(2):  # reading removes nothing
        c = stomp().subscribe(stream, ack="client", prefetch_count="5", x_stream_offset=offset)
        for n in range(first, 10):
            message = c.expect("MESSAGE")
            assert message.body == b"%d" % n and message["x-stream-offset"] == str(n)
            c.send("ACK", {"id": message["ack"]})
        c.idle()


def test_next_waits_for_what_comes(stomp, stream):
    c = stomp().subscribe(stream, ack="client", prefetch_count="5", x_stream_offset="next")
    c.idle()
    c.put(stream, b"new")
    assert c.expect("MESSAGE").body == b"new"
