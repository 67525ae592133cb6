"""Kafka topics as addresses of AMQP, MQTT and STOMP: the bridge to amq.topic, exchanges that front a topic."""
import contextlib
import threading
import time

import paho.mqtt.client as paho
import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.admin import NewTopic

from conftest import address
from mqtest.broker import wait_until
from mqtest.pika_help import Sink, get, get_body


@contextlib.contextmanager
def closing(thing):
    try:
        yield thing
    finally:
        thing.close()


@pytest.fixture
def producer(bootstrap):
    with closing(KafkaProducer(bootstrap_servers=bootstrap, acks="all")) as made:
        yield made


def send(producer, topic, value, key=None, headers=()):
    producer.send(topic, value, key=key, headers=list(headers)).get(20)


def make_topic(bootstrap, name, partitions=1):
    with closing(KafkaAdminClient(bootstrap_servers=bootstrap)) as admin:
        admin.create_topics([NewTopic(name, partitions, 1)])
    return name


@pytest.fixture
def topic(bootstrap, unique):
    return make_topic(bootstrap, unique("topic") + ".eu")


def records(bootstrap, topic, count):
    with closing(KafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest",
                               consumer_timeout_ms=20000)) as consumer:
        return [record for _, record in zip(range(count), consumer)]


# -- out: Kafka to the others ---------------------------------------------------------------------------
def test_bound_queue_gets_what_is_produced(amqp, producer, topic):
    """Key, headers and value; the routing key is the topic's name."""
    ch = amqp.channel()
    q = amqp.queue(ch)
    ch.queue_bind(q, "amq.topic", topic)
    for n in range(50):
        send(producer, topic, b"%d" % n, key=b"k%d" % n, headers=[("trace", b"t%d" % n)])
    sink = Sink(ch, q)
    got = sink.idle(50)
    assert sink.bodies == [b"%d" % n for n in range(50)]
    deliver, props, _ = got[0]
    assert (deliver.exchange, deliver.routing_key) == ("amq.topic", topic)
    assert props.headers["trace"] == "t0"


def test_null_value(amqp, producer, topic):
    ch = amqp.channel()
    q = amqp.queue(ch)
    ch.queue_bind(q, "amq.topic", topic)
    send(producer, topic, None, key=b"gone")
    _, props, body = get(ch, q)
    assert body == b"" and props.headers["mqgate-null-body"] is True


def test_binding_takes_what_comes_after_it(amqp, producer, topic):
    ch = amqp.channel()
    q, late = amqp.queue(ch), amqp.queue(ch)
    ch.queue_bind(q, "amq.topic", topic)
    send(producer, topic, b"one")
    assert get_body(ch, q) == b"one"
    ch.queue_bind(late, "amq.topic", topic)
    send(producer, topic, b"two")
    assert (get_body(ch, late), get_body(ch, q)) == (b"two", b"two")


def test_mqtt_subscriber_gets_what_is_produced(broker, producer, topic):
    got, ready = [], threading.Event()
    client = paho.Client(protocol=paho.MQTTv311)
    client.on_subscribe = lambda *_: ready.set()
    client.on_message = lambda _c, _u, message: got.append((message.topic, message.payload))
    client.username_pw_set("guest", "guest")
    client.connect("127.0.0.1", broker.ports["mqtt"])
    client.loop_start()
    try:
        client.subscribe(topic.replace(".", "/"), qos=1)
        assert ready.wait(10)
        send(producer, topic, b"hello")
        wait_until(lambda: got, 10, "the message")
    finally:
        client.disconnect()
        client.loop_stop()
    assert got == [(topic.replace(".", "/"), b"hello")]


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_compressed(amqp, bootstrap, topic, codec):
    from confluent_kafka import Producer
    ch = amqp.channel()
    q = amqp.queue(ch)
    ch.queue_bind(q, "amq.topic", topic)
    producer = Producer({"bootstrap.servers": bootstrap, "compression.type": codec, "linger.ms": 50})
    for n in range(100):
        producer.produce(topic, b"value %d " % n * 20)
    assert producer.flush(20) == 0
    sink = Sink(ch, q)
    sink.idle(100)
    assert sink.bodies == [b"value %d " % n * 20 for n in range(100)]


def test_internal_topics_have_no_bridge(amqp, bootstrap, producer, unique):
    topic = make_topic(bootstrap, "_" + unique("internal"))
    other = make_topic(bootstrap, unique("end"))
    ch = amqp.channel()
    q = amqp.queue(ch)
    ch.queue_bind(q, "amq.topic", topic)
    ch.queue_bind(q, "amq.topic", other)
    send(producer, topic, b"inside")
    send(producer, other, b"end")
    assert get_body(ch, q) == b"end"


def test_repeated_headers_are_an_array(amqp, producer, topic):
    ch = amqp.channel()
    q = amqp.queue(ch)
    ch.queue_bind(q, "amq.topic", topic)
    send(producer, topic, b"x", headers=[("a", b"1"), ("b", b"2"), ("a", b"3")])
    _, props, _ = get(ch, q)
    assert props.headers == {"a": ["1", "3"], "b": "2"}


# -- in: the others to Kafka ----------------------------------------------------------------------------
def test_published_to_the_topics_name(amqp, bootstrap, topic):
    import pika
    ch = amqp.channel(confirm=True)
    for n in range(20):
        ch.basic_publish("amq.topic", topic, b"%d" % n, pika.BasicProperties(headers={"n": n, "who": "amqp"}))
    got = records(bootstrap, topic, 20)
    assert [r.value for r in got] == [b"%d" % n for n in range(20)]
    assert dict(got[7].headers)["n"] == b"7" and dict(got[7].headers)["who"] == b"amqp"
    assert got[7].key == topic.encode()


def test_mqtt_publish(broker, bootstrap, topic):
    client = paho.Client()
    client.username_pw_set("guest", "guest")
    client.connect("127.0.0.1", broker.ports["mqtt"])
    client.loop_start()
    try:
        client.publish(topic.replace(".", "/"), b"from mqtt", qos=1).wait_for_publish()
    finally:
        client.disconnect()
        client.loop_stop()
    assert [r.value for r in records(bootstrap, topic, 1)] == [b"from mqtt"]


def test_nothing_goes_round(amqp, bootstrap, producer, topic):
    """Each message once at the queue and once in the topic, whichever side it came from."""
    ch = amqp.channel(confirm=True)
    q = amqp.queue(ch)
    ch.queue_bind(q, "amq.topic", "#")
    for n in range(10):
        ch.basic_publish("amq.topic", topic, b"amqp %d" % n)
        send(producer, topic, b"kafka %d" % n)
    send(producer, topic, b"end")
    want = sorted([b"amqp %d" % n for n in range(10)] + [b"kafka %d" % n for n in range(10)] + [b"end"])
    sink = Sink(ch, q)
    sink.idle(21)
    assert sorted(sink.bodies) == want
    assert sorted(r.value for r in records(bootstrap, topic, 21)) == want


# -- fronts ---------------------------------------------------------------------------------------------
def test_front_routes_by_the_header(amqp, bootstrap, producer, unique):
    ch, name = amqp.channel(confirm=True), unique("front")
    amqp.exchange(ch, "topic", name, durable=True, arguments={"x-stream": True})
    eu, us, keyed = amqp.queue(ch), amqp.queue(ch), amqp.queue(ch)
    ch.queue_bind(eu, name, "orders.eu.*")
    ch.queue_bind(us, name, "orders.us.*")
    ch.queue_bind(keyed, name, "the.key")
    send(producer, name, b"1", key=b"x", headers=[("routing-key", b"orders.eu.1")])
    send(producer, name, b"2", key=b"x", headers=[("routing-key", b"orders.us.1")])
    send(producer, name, b"3", key=b"the.key")
    assert (get_body(ch, eu), get_body(ch, us), get_body(ch, keyed)) == (b"1", b"2", b"3")
    ch.basic_publish(name, "orders.eu.2", b"4")
    assert get_body(ch, eu) == b"4"
    assert [r.value for r in records(bootstrap, name, 4)] == [b"1", b"2", b"3", b"4"]
    ch.queue_delete(name)


def test_header_routing_for_kafka_producers(amqp, producer, unique):
    ch, name = amqp.channel(), unique("front")
    amqp.exchange(ch, "headers", name, durable=True, arguments={"x-stream": True})
    q = amqp.queue(ch)
    ch.queue_bind(q, name, arguments={"x-match": "all", "kind": "order", "urgent": "yes"})
    send(producer, name, b"no", headers=[("kind", b"order")])
    send(producer, name, b"yes", headers=[("kind", b"order"), ("urgent", b"yes")])
    assert get_body(ch, q) == b"yes"
    ch.queue_delete(name)


# -- over restarts --------------------------------------------------------------------------------------
def test_kill_between_produce_and_delivery(own_gateway, unique):
    """What is produced reaches the durable queue once, over kills of the gateway."""
    import pika
    made = own_gateway()
    topic = make_topic(address(made), "restarted.topic")
    ch = pika.BlockingConnection(pika.URLParameters(made.url)).channel()
    ch.queue_declare("kept", durable=True)
    ch.queue_bind("kept", "amq.topic", topic)
    want = []
    for round_ in range(4):
        with closing(KafkaProducer(bootstrap_servers=address(made), acks="all")) as producer:
            for n in range(200):
                want.append(b"%d %d" % (round_, n))
                producer.send(topic, want[-1])
            producer.flush(20)
        made.kill9()
        made.start()
    ch = pika.BlockingConnection(pika.URLParameters(made.url)).channel()
    wait_until(lambda: ch.queue_declare("kept", durable=True, passive=True).method.message_count >= len(want),
               20, "all messages")
    time.sleep(0.2)  # what came twice would come now
    sink = Sink(ch, "kept")
    sink.idle(len(want))
    assert sink.bodies == want
