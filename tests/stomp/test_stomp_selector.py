"""Selectors: a subscription that gets only what its condition is true of, and takes nothing from anybody else."""
import pytest


@pytest.fixture(autouse=True)
def ours(on_rabbitmq):
    if on_rabbitmq:
        pytest.skip("RabbitMQ ignores selectors")


def got(c, n):
    return [c.expect("MESSAGE").body for _ in range(n)]


@pytest.mark.parametrize("ack", ["auto", "client", "client-individual"])
@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_a_topic_is_filtered(stomp, unique, ack, version):
    """Twice as many as its prefetch-count do not match: they take no room in it."""
    t = f"/topic/{unique('t')}"
    c = stomp(version).subscribe(t, "red", ack=ack, prefetch_count="5", selector="color = 'red'")
    all_of_them = stomp().subscribe(t, "all")
    sender = stomp()
    for n in range(12):
        sender.put(t, b"%d" % n, color="red" if n % 4 == 0 else "blue")
    assert got(c, 3) == [b"0", b"4", b"8"]
    assert got(all_of_them, 12) == [b"%d" % n for n in range(12)]
    c.idle()


def test_an_exchange_is_filtered_by_amqps_types(stomp, amqp, unique):
    ch = amqp.channel()
    exchange = amqp.exchange(ch, "fanout")
    c = stomp().subscribe(f"/exchange/{exchange}", selector="size BETWEEN 10 AND 20 AND NOT urgent AND JMSPriority > 4")
    import pika
    for size, urgent, priority in ((9, False, 5), (10, False, 5), (10, True, 5), (20, False, 4), (20, False, 9), ("15", False, 9)):
        properties = pika.BasicProperties(headers={"size": size, "urgent": urgent}, priority=priority)
        ch.basic_publish(exchange, "", f"{size} {urgent} {priority}".encode(), properties)
    assert got(c, 2) == [b"10 False 5", b"20 False 9"]
    c.idle()


@pytest.mark.parametrize("selector", [
    "JMSType = 'order' AND JMSCorrelationID LIKE 'c-%' AND JMSMessageID = 'm' AND JMSReplyTo = 'answers'",
    "JMSDeliveryMode = 'PERSISTENT' AND persistent AND JMSPriority = 7 AND priority = 7",
    "JMSTimestamp = 5000 AND timestamp = 5 AND JMSExpiration > JMSTimestamp AND expiration = 60000",
    "JMSRedelivered = FALSE AND JMSDestination LIKE '/topic/%'",
    "\"content-type\" = 'text/plain' AND \"app-id\" IS NOT NULL AND \"user-id\" IS NULL AND nothing IS NULL",
    "hyphenated_props:content-type = 'text/plain'",
    "convert_string_expressions:n > 6.5 AND n <= 7",
    "n = '7' AND NOT n = 7 AND 'first' = twice",
])
def test_names_mean_what_jms_and_stomp_call_so(stomp, unique, selector):
    t = f"/topic/{unique('t')}"
    c = stomp().subscribe(t, selector=selector)
    stomp().put(t, b"other", **{"content-type": "x", "n": "5"})
    sender = stomp()
    sender.send("SEND", [("destination", t), ("type", "order"), ("correlation-id", "c-1"), ("amqp-message-id", "m"),
                         ("reply-to", "/reply-queue/answers"), ("persistent", "true"), ("priority", "7"),
                         ("timestamp", "5"), ("expiration", "60000"), ("content-type", "text/plain"), ("app-id", "a"),
                         ("n", "7"), ("twice", "first"), ("twice", "second")], b"this")
    while (body := c.expect("MESSAGE").body) != b"this":
        assert "JMSRedelivered" in selector and body == b"other"  # true of both
    c.idle()


def test_a_durable_subscription_keeps_its_place(stomp, unique):
    """What came meanwhile and does not match is gone, the rest is there; and it is its client's alone."""
    t, headers = f"/topic/{unique('t')}", {"durable": "true", "auto-delete": "false", "selector": "n = '1'", "ack": "client"}
    c = stomp().subscribe(t, "mine", **headers)
    c.send("DISCONNECT", {"receipt": "bye"})
    c.receipt()
    sender = stomp()
    for n in (0, 1, 0, 1):
        sender.put(t, b"%d" % n, n=str(n), persistent="true")
    c = stomp().subscribe(t, "mine", **headers)
    assert got(c, 2) == [b"1", b"1"]
    other = stomp()
    other.send("SUBSCRIBE", {"destination": t, "id": "mine", **headers})
    assert b"exclusive use" in other.error().body
    c.send("UNSUBSCRIBE", {"id": "mine", "durable": "true", "receipt": "u"})
    c.receipt()


def test_a_stream_is_filtered_for_each_reader(stomp, unique):
    stream = f"/queue/{unique('stream')}"
    made = {"x-queue-type": "stream", "durable": "true", "ack": "client", "prefetch-count": "3", "x-stream-offset": "first"}
    even = stomp().subscribe(stream, "even", **made, selector="rest = '0'")
    sender = stomp()
    for n in range(10):
        sender.put(stream, b"%d" % n, rest=str(n % 2), persistent="true")
    for n in range(0, 10, 2):
        message = even.expect("MESSAGE")
        assert message.body == b"%d" % n
        even.send("ACK", {"id": message["ack"]})
    even.idle()
    late = stomp().subscribe(stream, "odd", **{**made, "prefetch-count": "9"}, selector="rest = '1'")
    assert got(late, 5) == [b"1", b"3", b"5", b"7", b"9"]


@pytest.mark.parametrize("destination, headers", [
    ("/queue/{q}", {}), ("/amq/queue/{q}", {}), ("/topic/{q}", {"x-queue-name": "{q}"}), ("/reply-queue/{q}", {})])
@pytest.mark.parametrize("there", [True, False])
def test_a_queue_that_others_may_share_is_not_filtered(stomp, amqp, unique, destination, headers, there):
    name = unique("q")
    if there:
        amqp.queue(amqp.channel(), name, durable=True)
    c = stomp()
    c.send("SUBSCRIBE", {"destination": destination.format(q=name), "id": "1", "selector": "a = '1'", "receipt": "s",
                         **{key: value.format(q=name) for key, value in headers.items()}})
    error = c.error()
    assert (error["message"], error["receipt-id"]) == ("not_implemented", "s")
    assert b"may have other consumers" in error.body and b"/topic/" in error.body
    if not there:  # nothing was made for it
        c = stomp()
        c.send("SUBSCRIBE", {"destination": f"/amq/queue/{name}", "id": "1"})
        assert c.error()["message"] == "not_found"


@pytest.mark.parametrize("selector, says", [
    ("color = ", b"at byte 8: here a name or a value is missing"), ("5", b"it is a value, not a condition"),
    ("a > 'x'", b"only numbers"), ("(" * 40 + "a", b"too deep"), ("a = '" + "x" * 2048 + "'", b"longer than 2048 bytes")])
def test_what_cannot_be_read_is_refused(stomp, unique, selector, says):
    c = stomp()
    c.send("SUBSCRIBE", {"destination": f"/topic/{unique('t')}", "id": "1", "selector": selector, "receipt": "s"})
    error = c.error()
    assert (error["message"], error["receipt-id"]) == ("Invalid header", "s") and says in error.body


def test_an_empty_selector_is_none(stomp, unique):
    t = f"/topic/{unique('t')}"
    c = stomp().subscribe(t, selector="").put(t, b"x")
    assert c.expect("MESSAGE").body == b"x"
