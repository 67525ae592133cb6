"""The tutorials' patterns with kombu over py-amqp. Prints "ok NAME" per pattern; any error ends it with code 1."""
import socket
import sys

import amqp
from kombu import Connection, Consumer, Exchange, Queue
from kombu.pools import producers

URL, TAG = sys.argv[1:3]


def name(part):
    return f"kombu-{part}-{TAG}"


def take(conn, queues, count):
    """Consumes `count` messages, acked; their bodies in the order they came."""
    got = []

    def on_message(body, message):
        got.append(body)
        message.ack()

    with Consumer(conn, queues, callbacks=[on_message], auto_declare=False):
        while len(got) < count:
            conn.drain_events(timeout=60)
        try:
            conn.drain_events(timeout=0.1)
        except socket.timeout:
            pass
    assert len(got) == count, got
    return got


def work_queue(conn):
    queue = conn.SimpleQueue(name("work"))
    for n in range(10):
        queue.put({"task": n}, serializer="json")
    for n in range(10):
        message = queue.get(block=True, timeout=60)
        assert message.payload == {"task": n}
        message.ack()
    queue.close()
    Queue(name("work"))(conn.default_channel).delete()


def publish_subscribe(conn):
    exchange = Exchange(name("logs"), "fanout", durable=False, auto_delete=True)
    queues = [Queue("", exchange, exclusive=True)(conn.default_channel) for _ in range(2)]
    for queue in queues:
        queue.declare()
    with producers[conn].acquire(block=True) as producer:
        producer.publish("hello", exchange=exchange)
    assert take(conn, queues, 2) == ["hello", "hello"]


def keys(conn, kind, bound, sent, expected):
    exchange = Exchange(name(kind), kind, durable=False, auto_delete=True)
    bindings = [Queue(name(kind), exchange, routing_key=key, durable=False, auto_delete=True) for key in bound]
    for queue in bindings:
        queue(conn.default_channel).declare()
    producer = conn.Producer()
    for key in sent:
        producer.publish(key, exchange=exchange, routing_key=key)
    assert take(conn, bindings[:1], len(expected)) == expected


def routing(conn):
    keys(conn, "direct", ["error", "warning"], ["info", "error", "warning"], ["error", "warning"])


def topics(conn):
    keys(conn, "topic", ["kern.#"], ["kern", "cron.info", "kern.a.b"], ["kern", "kern.a.b"])


def rpc(conn):
    server = Queue(name("rpc"), durable=False, auto_delete=True)(conn.default_channel)
    server.declare()
    replies = Queue("", exclusive=True)(conn.default_channel)
    replies.declare()
    producer = conn.Producer()
    producer.publish({"n": 4}, routing_key=name("rpc"), reply_to=replies.name, correlation_id="c1", serializer="json")

    def answer(body, message):
        producer.publish({"n": body["n"] * 2}, routing_key=message.properties["reply_to"],
                         correlation_id=message.properties["correlation_id"], serializer="json")
        message.ack()

    with Consumer(conn, [server], callbacks=[answer]):
        conn.drain_events(timeout=60)
    assert take(conn, [replies], 1) == [{"n": 8}]


def confirms(conn):
    with Connection(URL, transport_options={"confirm_publish": True}) as confirming:
        queue = Queue(name("confirms"))(confirming.default_channel)
        queue.declare()
        producer = confirming.Producer()
        for n in range(50):
            producer.publish(str(n), routing_key=queue.name, delivery_mode=2)
        assert queue.queue_declare(passive=True).message_count == 50
        queue.delete()


def stream(conn):
    channel = conn.channel()
    arguments = {"x-queue-type": "stream"}
    channel.queue_declare(name("stream"), durable=True, auto_delete=False, arguments=arguments)
    for n in range(20):
        channel.basic_publish_confirm(amqp.Message(str(n), application_headers={"n": n}), "", name("stream"))
    channel.basic_qos(0, 5, False)
    got = []

    def on_message(message):
        got.append((message.headers["n"], message.headers["x-stream-offset"], message.body))
        channel.basic_ack(message.delivery_tag)

    tag = channel.basic_consume(name("stream"), callback=on_message, arguments={"x-stream-offset": 5})
    while len(got) < 15:
        conn.drain_events(timeout=60)
    assert got == [(n, n, str(n)) for n in range(5, 20)], got
    channel.basic_cancel(tag)
    channel.queue_delete(name("stream"))


def errors(conn):
    channel = conn.channel()
    try:
        channel.queue_declare(name("none"), passive=True)
    except amqp.NotFound as error:
        assert error.reply_code == 404
        assert error.reply_text == f"NOT_FOUND - no queue '{name('none')}' in vhost '/'", error.reply_text
    else:
        raise AssertionError("no error")


def properties(conn):
    queue = Queue("", exclusive=True)(conn.default_channel)
    queue.declare()
    headers = {"text": "ü", "n": 5, "big": 1 << 40, "yes": True, "none": None, "list": [1, "a"], "t": {"k": "v"},
               "f": 1.5}
    conn.Producer().publish(b"x" * 300_000, routing_key=queue.name, headers=headers, message_id="m", priority=3,
                            content_type="application/data", content_encoding="binary", compression="zlib")
    message = None
    while message is None:
        message = queue.get(no_ack=True)
    assert message.payload == b"x" * 300_000 and message.properties["message_id"] == "m"
    assert {key: message.headers[key] for key in headers} == headers


if __name__ == "__main__":
    with Connection(URL, heartbeat=10) as connection:
        for pattern in (work_queue, publish_subscribe, routing, topics, rpc, confirms, stream, errors, properties):
            pattern(connection)
            print(f"ok {pattern.__name__}", flush=True)
