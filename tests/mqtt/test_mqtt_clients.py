"""Unmodified clients: mosquitto_pub and mosquitto_sub, paho; and MQTT across to AMQP and back, with properties."""
import datetime
import subprocess

import paho.mqtt.client as paho
import pika
import pytest
from mqtest.broker import wait_until

COMPACT = 2
covers = pytest.mark.covers
VERSIONS = {"mqttv31": paho.MQTTv31, "mqttv311": paho.MQTTv311, "mqttv5": paho.MQTTv5}


@pytest.mark.parametrize("words", VERSIONS)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mosquitto_clients(node, unique, words, qos):
    def command(tool, *more):
        return ["stdbuf", "-oL", tool, "-h", "127.0.0.1", "-p", str(node.ports["mqtt"]), "-V", words, "-q", str(qos), *more]
    sub = subprocess.Popen(command("mosquitto_sub", "-t", unique + "/+", "-C", "2", "-W", "20", "-d"), text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    seen = []
    for line in sub.stdout:
        seen.append(line.strip())
        if line.startswith("Subscribed"):
            for name in "ab":
                subprocess.run(command("mosquitto_pub", "-t", f"{unique}/{name}", "-m", f"hello {name}"), check=True,
                               timeout=60)
    assert sub.wait(20) == 0
    assert {"hello a", "hello b"} <= set(seen)


@covers("3:MQTT-7.0.0-2", "3:MQTT-7.1.1-1", "5:MQTT-4.2.0-1")
@pytest.mark.parametrize("transport,listener", [("tcp", "mqtt"), ("websockets", "mqtt_ws")])
@pytest.mark.parametrize("protocol", VERSIONS.values(), ids=VERSIONS)
def test_paho(node, unique, protocol, transport, listener):
    got, granted = [], []
    c = paho.Client(client_id=unique[-20:], protocol=protocol, transport=transport)
    if transport == "websockets":
        c.ws_set_options(path="/ws")
    c.on_message = lambda client, data, m: got.append((m.topic, m.payload, m.qos))
    c.on_subscribe = lambda *args: granted.append(args)
    c.connect("127.0.0.1", node.ports[listener])
    c.loop_start()
    try:
        wait_until(c.is_connected, 10, "connected")
        c.subscribe([(f"{unique}/{q}", q) for q in range(3)])
        wait_until(lambda: granted, 10, "SUBACK")
        for qos in range(3):
            for i in range(20):
                c.publish(f"{unique}/{qos}", b"%d" % i, qos)
        wait_until(lambda: len(got) == 60, 20, "60 messages")
    finally:
        c.disconnect()
        c.loop_stop()
    for qos in range(3):
        mine = [(payload, q) for topic, payload, q in got if topic == f"{unique}/{qos}"]
        assert mine == [(b"%d" % i, qos) for i in range(20)]


@pytest.fixture
def channel(node):
    connection = pika.BlockingConnection(pika.URLParameters(node.url))
    yield connection.channel()
    connection.close()


def amqp_get(channel, queue):
    return wait_until(lambda: (lambda got: got if got[0] else None)(channel.basic_get(queue, auto_ack=True)), 10,
                      "a message")


def test_mqtt_to_amqp(client, channel, unique):
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, "amq.topic", f"{unique}.*.v1/2")
    c = client(5)
    c.publish(f"{unique}/sensor/v1.2", b"\x00\xff", qos=1, p={
        "content_type": "application/x", "correlation": b"id-7", "response_topic": "answers/here", "message_expiry": 60,
        "payload_format": 0, "user": [("a", "1"), ("b", "zwei"), ("mqgate-message-id", "m-1"),
                                      ("raw;base64", "AP8="), ("mqgate-priority", "5")]})
    method, properties, body = amqp_get(channel, queue)
    assert body == b"\x00\xff" and method.routing_key == f"{unique}.sensor.v1/2"
    assert properties.content_type == "application/x" and properties.correlation_id == "id-7"
    assert properties.reply_to == "answers/here" and properties.delivery_mode == 2
    assert properties.message_id == "m-1" and properties.priority == 5
    assert properties.headers["a"] == "1" and properties.headers["b"] == "zwei"
    assert bytes(properties.headers["raw"]) == b"\x00\xff"
    assert 0 < int(properties.expiration) <= 60000


def test_amqp_to_mqtt(client, channel, unique):
    c = client(5)
    c.subscribe(f"{unique}/+/v1.2", qos=2)
    channel.basic_publish("amq.topic", f"{unique}.sensor.v1/2", b"\x00\xff", pika.BasicProperties(
        content_type="application/x", content_encoding="gzip", correlation_id="id-7", reply_to="answers",
        message_id="m-1", type="event", app_id="app", priority=3, timestamp=1700000000, delivery_mode=2,
        expiration="30000", headers={"n": 7, "yes": True, "text": "zwei", "raw": b"\x00\xff", "many": ["x", "y"],
                                     "deep": {"k": [1]}, "nothing": None}))
    m = c.message()
    assert m.topic == f"{unique}/sensor/v1.2" and m.payload == b"\x00\xff" and m.qos == 1
    assert m.props["content_type"] == "application/x" and m.props["correlation"] == b"id-7"
    assert m.props["response_topic"] == "answers" and 0 < m.props["message_expiry"] <= 30
    user = m.props["user"]
    for pair in [("mqgate-content-encoding", "gzip"), ("mqgate-message-id", "m-1"), ("mqgate-type", "event"),
                 ("mqgate-app-id", "app"), ("mqgate-priority", "3"), ("mqgate-timestamp", "1700000000"), ("n", "7"),
                 ("yes", "true"), ("text", "zwei"), ("many", "x"), ("many", "y"), ("deep", '{"k":[1]}'), ("nothing", "")]:
        assert pair in user, (pair, user)


def test_rows_of_the_mapping_to_amqp(client, channel, unique):
    """What test_mqtt_to_amqp leaves out: QoS 0, repeated properties, the payload's format, all that is called mqgate-."""
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, "amq.topic", f"{unique}.#")
    c = client(5)
    c.publish(f"{unique}/0", b"", qos=0, p={"payload_format": 1, "user": [
        ("k", "1"), ("k", "2"), ("mqgate-content-encoding", "gzip"), ("mqgate-type", "t"), ("mqgate-app-id", "a"),
        ("mqgate-timestamp", "1700000000"), ("mqgate-priority", "300"), ("bad;base64", "?")]})
    _, p, body = amqp_get(channel, queue)
    assert body == b"" and p.delivery_mode == 1
    assert (p.content_encoding, p.type, p.app_id, p.timestamp) == ("gzip", "t", "a", 1700000000)
    assert p.headers["k"] == ["1", "2"] and p.headers["mqgate-payload-format"] == 1
    assert p.priority is None and p.headers["mqgate-priority"] == "300"  # what does not fit stays as it was said
    assert p.headers["bad;base64"] == "?"
    client(4).publish(f"{unique}/3/" + "x" * 300, b"3", qos=2)
    method, p, body = amqp_get(channel, queue)
    assert body == b"3" and p.delivery_mode == 2 and len(method.routing_key) == 255
    assert p.headers["mqgate-routing-key"] == f"{unique}.3." + "x" * 300


def test_rows_of_the_mapping_to_mqtt(client, channel, unique):
    """What test_amqp_to_mqtt leaves out: delivery mode 1, bytes, times, numbers, an expiration that is rounded up, what is dropped."""
    c = client(5)
    c.subscribe(f"{unique}/#", qos=2)
    when = datetime.datetime(2026, 1, 2, 3, 4, 5)
    channel.basic_publish("amq.topic", f"{unique}.1", b"", pika.BasicProperties(
        delivery_mode=1, expiration="1999", reply_to="no/#/topic", headers={
            "raw": b"\x00\xff", "when": when, "low": -(1 << 40), "no": False, "mqgate-payload-format": 1,
            "mixed": [1, {"k": "v"}]}))
    m = c.message()
    assert m.qos == 0 and m.props["message_expiry"] == 2 and m.props["payload_format"] == 1
    assert "response_topic" not in m.props
    user = m.props["user"]
    for pair in [("raw;base64", "AP8="), ("when", "2026-01-02T03:04:05Z"), ("low", str(-(1 << 40))),
                 ("no", "false"), ("mixed", "1"), ("mixed", '{"k":"v"}')]:
        assert pair in user, (pair, user)
    old = client(4)
    old.subscribe(f"{unique}/#", qos=1)
    channel.basic_publish("amq.topic", f"{unique}.2", b"bare", pika.BasicProperties(headers={"k": "v"}, delivery_mode=2))
    m = old.message()
    assert (m.topic, m.payload, m.qos) == (f"{unique}/2", b"bare", 1)


def test_amqp_keys_that_mqtt_cannot_carry(client, channel, unique):
    c = client(4)
    c.subscribe("#", qos=0)
    channel.basic_publish("amq.topic", f"{unique}.#.+", b"x")
    while True:
        m = c.message()
        if m.topic.startswith(unique):
            break
    assert m.topic == f"{unique}/%23/%2B"


def test_amqp_to_mqtt_and_back(client, channel, unique):
    """What MQTT 5 sends on comes to AMQP with the same properties."""
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, "amq.topic", f"{unique}.back")
    c = client(5)
    c.subscribe(f"{unique}/there", qos=1)
    sent = pika.BasicProperties(content_type="t", correlation_id="c", message_id="m", app_id="a", type="y", priority=4,
                                timestamp=1700000000, delivery_mode=2, headers={"k": "v"})
    channel.basic_publish("amq.topic", f"{unique}.there", b"b", sent)
    m = c.message()
    p = {k: v for k, v in m.props.items() if k != "subid"}
    c.publish(f"{unique}/back", m.payload, qos=1, p=p)
    _, got, _ = amqp_get(channel, queue)
    for name in ("content_type", "correlation_id", "message_id", "app_id", "type", "priority", "timestamp",
                 "delivery_mode", "headers"):
        assert getattr(got, name) == getattr(sent, name), name


def test_retained_messages_as_a_stream(client, channel, unique):
    """Who binds a compacted stream by `$mqtt.retained` has the vhost's retained messages there, to be read by AMQP from the beginning;
    a cleared topic is an empty body."""
    channel.queue_declare(unique, durable=True, arguments={"x-queue-type": "stream", "x-mqgate-cleanup": COMPACT})
    channel.queue_bind(unique, "amq.topic", "$mqtt.retained")
    c = client(5)
    for topic, body in (("a", b"1"), ("b", b"2"), ("a", b"3"), ("b", b"")):
        c.publish(f"{unique}/{topic}", body, qos=1, retain=True)
    c.publish(f"{unique}/a", b"not retained", qos=1)
    got = []
    channel.basic_qos(prefetch_count=10)

    def take(ch, method, properties, body):
        ch.basic_ack(method.delivery_tag)
        if method.routing_key.startswith(unique):
            got.append((method.routing_key, body))

    channel.basic_consume(unique, take, arguments={"x-stream-offset": "first"})
    wait_until(lambda: channel.connection.process_data_events(0.05) or len(got) >= 4, 10, "four messages")
    assert got == [(f"{unique}.a", b"1"), (f"{unique}.b", b"2"), (f"{unique}.a", b"3"), (f"{unique}.b", b"")]
    late = client(5)
    late.subscribe(f"{unique}/+", qos=1)
    assert late.message().payload == b"3"
    late.expect_nothing(0.2)
    channel.queue_delete(unique)
    c.publish(f"{unique}/a", b"", qos=1, retain=True)
