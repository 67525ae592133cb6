"""mqtt.topic_mapping = rabbitmq: a dot in a topic is a slash."""
import pika
import pytest
from conftest import gateway
from mqtest.broker import wait_until


@pytest.fixture(scope="module", name="rabbity")
def _rabbity():
    with gateway(mqtt__topic_mapping="rabbitmq") as node:
        node.ctl("add_user", "narrow", "n")
        node.ctl("set_permissions", "-p", "/", "narrow", ".*", ".*", ".*")
        node.ctl("set_topic_permissions", "-p", "/", "narrow", "amq.topic", "^ok[.].*", ".*")
        yield node
        node.check_log()


@pytest.fixture(name="channel")
def _channel(rabbity):
    connection = pika.BlockingConnection(pika.URLParameters(rabbity.url))
    yield connection.channel()
    connection.close()


def test_mqtt_to_amqp(client, rabbity, channel, version, unique):
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, "amq.topic", f"{unique}.a.b.*")
    client(version, to=rabbity).publish(f"{unique}/a.b/c", b"x", qos=1)
    got = wait_until(lambda: (lambda m: m if m[0] else None)(channel.basic_get(queue, auto_ack=True)), 10, "a message")
    assert got[0].routing_key == f"{unique}.a.b.c"


def test_amqp_to_mqtt(client, rabbity, channel, version, unique):
    c = client(version, to=rabbity)
    c.subscribe(f"{unique}/#", qos=1)
    channel.basic_publish("amq.topic", f"{unique}.y.z/1", b"x")
    assert c.message().topic == f"{unique}/y/z/1"


@pytest.mark.parametrize("name", ["{}.a/b", "{}/a.b", "{}/a/b", "{}/+/b"], ids=["dot", "both", "slashes", "plus"])
def test_mqtt_to_mqtt(client, rabbity, version, unique, name):
    c, p = client(version, to=rabbity), client(version, to=rabbity)
    c.subscribe(name.format(unique), qos=1)
    p.publish(f"{unique}.a.b", b"x", qos=1, retain=True)
    assert c.message().topic == f"{unique}/a/b"
    late = client(version, to=rabbity)
    late.subscribe(name.format(unique), qos=1)
    m = late.message()
    assert (m.topic, m.retain) == (f"{unique}/a/b", True)
    c.unsubscribe(name.format(unique).replace(".", "/"))
    p.publish(f"{unique}/a/b", b"", qos=1, retain=True)
    c.expect_nothing(0.2)


def test_permissions_see_what_is_published(client, rabbity, unique):
    watch, c = client(to=rabbity), client(to=rabbity, user="narrow", password="n")
    watch.subscribe("ok/#")
    watch.subscribe("no/#")
    assert c.publish("ok.x", b"yes", qos=1) == 0
    assert c.publish("no.x", b"no", qos=1) == 0x87
    assert c.publish("$SYS.x", b"no", qos=1) == 0x87
    refused = client(5, connect=False, to=rabbity)
    refused.connect(reason=0x87, user="narrow", password="n", will=("no.x", b"no", 0, False))
    client(5, to=rabbity, user="narrow", password="n", will=("ok.w", b"gone", 0, False)).close()
    assert [watch.message().topic for _ in range(2)] == ["ok/x", "ok/w"]
