"""STOMP and AMQP clients on the same queues: properties, every type of header, and back again."""
import datetime
import decimal

import pika
import pytest


def test_properties_go_both_ways(stomp, amqp, unique, on_rabbitmq):
    ch = amqp.channel()
    name = amqp.queue(ch, durable=True)
    props = {"content-type": "text/plain", "content-encoding": "utf-8", "priority": "5", "correlation-id": "c1",
             "expiration": "60000", "amqp-message-id": "m1", "timestamp": "1700000000", "type": "t", "user-id": "guest",
             "app-id": "a1", "persistent": "true", "x": "text: with \\ and\nlines"}
    stomp().put(f"/queue/{name}", b"body", **{key.replace("-", "_"): value for key, value in props.items()})
    _, got, body = ch.basic_get(name, auto_ack=True)
    assert body == b"body"
    assert (got.content_type, got.content_encoding, got.priority, got.correlation_id, got.expiration, got.message_id,
            got.timestamp, got.type, got.user_id, got.app_id, got.delivery_mode) == (
        "text/plain", "utf-8", 5, "c1", "60000", "m1", 1700000000, "t", "guest", "a1", 2)
    if on_rabbitmq:  # the frame's own headers are headers of the message, too
        got.headers = {"x": got.headers["x"]}
    assert got.headers == {"x": "text: with \\ and\nlines"}
    ch.basic_publish("", name, b"back", got)
    message = stomp().subscribe(f"/amq/queue/{name}").expect("MESSAGE")
    assert {key: message.get(key) for key in props} == props


TYPED = {
    "text": "a string", "int": 5, "negative": -7, "long": 2 ** 40, "yes": True, "no": False, "none": None,
    "bytes": b"\x00\xff\x01", "when": datetime.datetime(2024, 2, 29, 12, 0, 1),
    "money": decimal.Decimal("12.34"), "list": [1, "two", {"three": 3}],
    "table": {"a": 1, "b": {"c": [True, None]}},
}
TEXTS = {"int": "5", "negative": "-7", "long": str(2 ** 40), "yes": "true", "no": "false", "none": "",
         "bytes": "AP8B", "when": "2024-02-29T12:00:01Z", "money": "12.34"}


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_every_type_of_header_comes_back(stomp, amqp, unique, version, on_rabbitmq):
    """AMQP -> STOMP -> (a client that sends on what it got) -> AMQP."""
    if on_rabbitmq:
        pytest.skip("RabbitMQ keeps strings and integers only")
    ch = amqp.channel()
    there, back = amqp.queue(ch, durable=True), amqp.queue(ch, durable=True)
    ch.basic_publish("", there, b"x", pika.BasicProperties(headers=TYPED))
    ch.basic_publish("", there, b"x", pika.BasicProperties(headers=TYPED))
    _, straight, _ = ch.basic_get(there, auto_ack=True)
    c = stomp(version).subscribe(f"/amq/queue/{there}")
    message = c.expect("MESSAGE")
    assert {key: message[key] for key in TEXTS} == TEXTS
    assert "mqgate-origin" in message
    c.put(f"/amq/queue/{back}", message.body, **{key.replace("-", "_"): value for key, value in message.lines
                                                 if key in TYPED or key == "mqgate-origin"})
    _, got, _ = ch.basic_get(back, auto_ack=True)
    assert got.headers == straight.headers == TYPED  # pika writes no doubles: the unit tests do


def test_a_type_is_not_believed_when_its_text_changed(stomp, amqp, unique, on_rabbitmq):
    if on_rabbitmq:
        pytest.skip("ours alone")
    ch = amqp.channel()
    there, back = amqp.queue(ch, durable=True), amqp.queue(ch, durable=True)
    ch.basic_publish("", there, b"x", pika.BasicProperties(headers={"n": 5, "m": 6}))
    c = stomp().subscribe(f"/amq/queue/{there}")
    origin = c.expect("MESSAGE")["mqgate-origin"]
    c.put(f"/amq/queue/{back}", b"x", n="5", m="seven", mqgate_origin=origin)
    assert ch.basic_get(back, auto_ack=True)[1].headers == {"n": 5, "m": "seven"}
    c.put(f"/amq/queue/{back}", b"x", n="5", mqgate_origin="1 not base64!")
    assert ch.basic_get(back, auto_ack=True)[1].headers == {"n": "5"}


def test_identity_headers_of_clients_are_dropped(stomp, amqp, unique, on_rabbitmq):
    if on_rabbitmq:
        pytest.skip("ours alone")
    ch = amqp.channel()
    name = amqp.queue(ch, durable=True)
    stomp().put(f"/queue/{name}", b"x", mqgate_user="root", y="1")
    assert ch.basic_get(name, auto_ack=True)[1].headers == {"y": "1"}


def test_a_header_exchange_sees_stomp_headers(stomp, amqp, unique):
    ch = amqp.channel()
    exchange, name = amqp.exchange(ch, "headers"), amqp.queue(ch)
    ch.queue_bind(name, exchange, arguments={"x-match": "all", "colour": "blue"})
    c = stomp()
    c.put(f"/exchange/{exchange}", b"no", colour="red").put(f"/exchange/{exchange}", b"yes", colour="blue")
    assert ch.basic_get(name, auto_ack=True)[2] == b"yes"
    assert ch.basic_get(name, auto_ack=True)[2] is None


def test_all_values_of_a_repeated_header_are_kept(stomp, amqp, unique, on_rabbitmq):
    """The first counts on the wire (1.2, "Repeated Header Entries"); another STOMP client gets the lines as they were."""
    if on_rabbitmq:
        pytest.skip("RabbitMQ keeps one")
    queue = f"/queue/{unique('q')}"
    c = stomp().subscribe(queue)
    c.send("SEND", [("destination", queue), ("x", "1"), ("y", "a"), ("x", "2"), ("x", "3")], b"b")
    message = c.expect("MESSAGE")
    assert [value for name, value in message.lines if name == "x"] == ["1", "2", "3"]


def test_amqp_reply_to_is_a_destination(stomp, amqp, unique, on_rabbitmq):
    ch = amqp.channel()
    service, answers = amqp.queue(ch, durable=True), amqp.queue(ch)
    c = stomp().subscribe(f"/queue/{service}")
    ch.basic_publish("", service, b"ask", pika.BasicProperties(reply_to=answers))
    asked = c.expect("MESSAGE")
    destination = asked["reply-to"]
    if on_rabbitmq:
        destination = f"/reply-queue/{destination.removeprefix('/reply-queue/')}"
    c.put(destination, b"answer")
    assert ch.basic_get(answers, auto_ack=True)[2] == b"answer"


def test_a_dead_letter_tells_its_way(stomp, amqp, unique):
    ch = amqp.channel()
    dead = amqp.queue(ch, durable=True)
    name = amqp.queue(ch, durable=True, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
    c = stomp().subscribe(f"/amq/queue/{name}", "1", ack="client-individual")
    c.put(f"/amq/queue/{name}", b"x", own="header")
    c.send("NACK", {"id": c.expect("MESSAGE")["ack"], "requeue": "false", "receipt": "n"})
    c.receipt()
    _, props, body = ch.basic_get(dead, auto_ack=True) if wait_for(ch, dead) else (None, None, None)
    assert body == b"x" and props.headers["own"] == "header"
    assert props.headers["x-death"][0]["queue"] == name


def wait_for(ch, queue):
    from mqtest.broker import wait_until
    return wait_until(lambda: ch.queue_declare(queue, passive=True).method.message_count, 8, "a dead letter")


def test_null_and_empty_bodies_are_told_apart(stomp, unique, on_rabbitmq):
    if on_rabbitmq:
        pytest.skip("ours alone")
    queue = f"/queue/{unique('q')}"
    c = stomp().subscribe(queue)
    c.send("SEND", {"destination": queue})
    c.send("SEND", {"destination": queue, "mqgate-null-body": "true"})
    assert "mqgate-null-body" not in c.expect("MESSAGE")
    assert c.expect("MESSAGE")["mqgate-null-body"] == "true"
