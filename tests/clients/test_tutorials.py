"""The six patterns of RabbitMQ's tutorials, as an application would write them, with pika."""
import uuid

import pika
import pytest
from pika import exceptions

from mqtest.pika_help import Sink, pump, put


def test_1_hello_world(amqp):
    sender, receiver = amqp.channel(), amqp.channel(new_connection=True)
    q = amqp.queue(sender)
    sender.basic_publish(exchange="", routing_key=q, body="Hello World!")
    receiver.queue_declare(queue=q)
    sink = Sink(receiver, q, auto_ack=True)
    assert sink.idle(1)[0][2] == b"Hello World!"


def test_2_work_queue(amqp):
    """Persistent tasks, shared by workers with prefetch 1; the work of one that dies is done by the other."""
    producer = amqp.channel()
    q = amqp.queue(producer, durable=True)
    workers = [amqp.channel(new_connection=True) for _ in range(2)]
    done = []
    for n, worker in enumerate(workers):
        worker.basic_qos(prefetch_count=1)
        worker.basic_consume(q, lambda ch, method, props, body, n=n: (
            done.append((n, body)), ch.basic_ack(method.delivery_tag)))
    lazy = amqp.channel(new_connection=True)
    lazy.basic_qos(prefetch_count=1)
    taken = Sink(lazy, q)
    put(producer, q, *[b"task %d" % n for n in range(10)], delivery_mode=pika.spec.PERSISTENT_DELIVERY_MODE)
    taken.wait(1)
    lazy.connection.close()
    for _ in range(400):
        for worker in workers:
            worker.connection.process_data_events(time_limit=0.01)
        if len(done) == 10:
            break
    assert sorted(body for _, body in done) == sorted(b"task %d" % n for n in range(10))
    assert {n for n, _ in done} == {0, 1}


def test_3_publish_subscribe(amqp):
    emitter = amqp.channel()
    logs = amqp.exchange(emitter, "fanout")
    sinks = []
    for _ in range(2):
        ch = amqp.channel(new_connection=True)
        name = ch.queue_declare(queue="", exclusive=True).method.queue
        ch.queue_bind(exchange=logs, queue=name)
        sinks.append(Sink(ch, name, auto_ack=True))
    emitter.basic_publish(exchange=logs, routing_key="", body="info: Hello World!")
    for sink in sinks:
        assert sink.idle(1)[0][2] == b"info: Hello World!"


def test_4_routing(amqp):
    emitter = amqp.channel()
    logs = amqp.exchange(emitter, "direct")
    wanted = {"disk": ["error"], "screen": ["info", "warning", "error"]}
    sinks = {}
    for label, severities in wanted.items():
        ch = amqp.channel(new_connection=True)
        name = ch.queue_declare(queue="", exclusive=True).method.queue
        for severity in severities:
            ch.queue_bind(exchange=logs, queue=name, routing_key=severity)
        sinks[label] = Sink(ch, name, auto_ack=True)
    for severity in ("info", "error", "debug"):
        emitter.basic_publish(exchange=logs, routing_key=severity, body=severity)
    sinks["disk"].idle(1)
    sinks["screen"].idle(2)
    assert (sinks["disk"].bodies, sinks["screen"].bodies) == ([b"error"], [b"info", b"error"])


@pytest.mark.parametrize("keys,expected", [
    (["#"], ["kern.critical", "cron.info", "kern", "a.b.c"]), (["kern.*"], ["kern.critical"]),
    (["*.critical", "kern.*"], ["kern.critical"]), (["*.*.*"], ["a.b.c"]), (["kern.#"], ["kern.critical", "kern"]),
])
def test_5_topics(amqp, keys, expected):
    emitter = amqp.channel()
    logs = amqp.exchange(emitter, "topic")
    ch = amqp.channel(new_connection=True)
    name = ch.queue_declare("", exclusive=True).method.queue
    for key in keys:
        ch.queue_bind(exchange=logs, queue=name, routing_key=key)
    sink = Sink(ch, name, auto_ack=True)
    for key in ("kern.critical", "cron.info", "kern", "a.b.c"):
        emitter.basic_publish(exchange=logs, routing_key=key, body=key)
    sink.idle(len(expected))
    assert sink.bodies == [key.encode() for key in expected]


def test_6_rpc(amqp):
    server, client = amqp.channel(new_connection=True), amqp.channel()
    rpc_queue = amqp.queue(server)

    def on_request(ch, method, props, body):
        ch.basic_publish(exchange="", routing_key=props.reply_to, body=str(fib(int(body))),
                         properties=pika.BasicProperties(correlation_id=props.correlation_id))
        ch.basic_ack(delivery_tag=method.delivery_tag)

    server.basic_qos(prefetch_count=1)
    server.basic_consume(queue=rpc_queue, on_message_callback=on_request)
    callback_queue = client.queue_declare(queue="", exclusive=True).method.queue
    sink = Sink(client, callback_queue, auto_ack=True)
    asked = {}
    for n in (5, 10, 20):
        asked[str(uuid.uuid4())] = n
        client.basic_publish("", rpc_queue, str(n), pika.BasicProperties(
            reply_to=callback_queue, correlation_id=list(asked)[-1]))
    for _ in range(200):
        server.connection.process_data_events(time_limit=0.01)
        client.connection.process_data_events(time_limit=0.01)
        if len(sink.got) == 3:
            break
    assert {props.correlation_id: int(body) for _, props, body in sink.got} == {
        key: fib(n) for key, n in asked.items()}


def fib(n):
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a


def test_7_publisher_confirms(amqp):
    ch = amqp.channel()
    q = amqp.queue(ch, durable=True)
    ch.confirm_delivery()
    for n in range(50):
        ch.basic_publish("", q, b"%d" % n, pika.BasicProperties(delivery_mode=2), mandatory=True)
    with pytest.raises(exceptions.UnroutableError):
        ch.basic_publish("", amqp.unique("none"), b"m", mandatory=True)
    sink = Sink(amqp.channel(), q, auto_ack=True)
    pump(sink.ch, lambda: len(sink.got) == 50)
    assert sink.bodies == [b"%d" % n for n in range(50)]
