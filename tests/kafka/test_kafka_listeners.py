"""Several listeners by name: each tells its own address, has its own vhost, and asks for TLS or a login or not."""
import confluent_kafka as confluent
import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from conftest import end, kafka_gateway
from mqtest.broker import BrokerError, wait_until
from mqtest.certs import Authority
from mqtest.kafka import Kafka, batch

WAIT_S = 50
UNKNOWN_TOPIC = 3


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture(scope="module")
def gateway(broker_kind, authority):
    cert, key = authority.issue("localhost")
    made = kafka_gateway(**{"tls.cert": cert, "tls.key": key,
                            "kafka.advertised": "kafka.listed=listed.example:1234",
                            "kafka.internal.listen": "127.0.0.1:0", "kafka.internal.advertised": "inside.example:9999",
                            "kafka.tenant.listen": "127.0.0.1:0", "kafka.tenant.vhost": "tenant",
                            "kafka.external.listen": "127.0.0.1:0", "kafka.external.tls": "on",
                            "kafka.external.anonymous": "off",
                            "kafka.listed.listen": "127.0.0.1:0", "kafka.shut.listen": "off"}).start()
    made.ctl("add_vhost", "tenant")
    made.ctl("set_permissions", "-p", "tenant", "guest", ".*", ".*", ".*")
    yield made
    end(made)


def broker_of(gateway, name):
    """(host, port) that a client of that listener is told."""
    with Kafka(gateway.ports[name]) as client:
        _, _, ((_, host, port, _),) = client.metadata([])
        return host, port


def test_each_tells_its_own_address(gateway):
    assert broker_of(gateway, "internal") == ("inside.example", 9999)
    assert broker_of(gateway, "listed") == ("listed.example", 1234)
    assert broker_of(gateway, "kafka") == ("127.0.0.1", gateway.ports["kafka"])
    assert "shut" not in gateway.ports


def test_each_has_its_own_vhost(gateway, unique):
    topic = unique("t")
    with Kafka(gateway.ports["tenant"]) as client, Kafka(gateway.ports["kafka"]) as other:
        client.metadata([topic])
        assert client.produce(topic, batch([b"x"])) == (0, 0)
        assert other.metadata([topic], create=False)[1] == {topic: (UNKNOWN_TOPIC, 0)}
    assert topic in gateway.ctl("list_queues", "-p", "tenant", "name")


def test_one_asks_for_tls_and_a_login(gateway, authority, unique):
    settings = {"bootstrap.servers": f"127.0.0.1:{gateway.ports['external']}", "ssl.ca.location": str(authority.cert),
                "ssl.endpoint.identification.algorithm": "none"}
    login = {"security.protocol": "sasl_ssl", "sasl.mechanisms": "SCRAM-SHA-256", "sasl.username": "guest",
             "sasl.password": "guest"}
    topic = unique("t")
    admin = AdminClient({**settings, **login})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(WAIT_S)
    assert topic in admin.list_topics(timeout=WAIT_S).topics
    with Kafka(gateway.ports["kafka"]) as client:   # the same vhost
        assert client.metadata([topic], create=False)[1] == {topic: (0, 1)}
    nobody = AdminClient({**settings, "security.protocol": "ssl", "log_level": 0})
    with pytest.raises(confluent.KafkaException):
        nobody.list_topics(timeout=3)
    wait_until(lambda: "a login is needed here" in gateway.log_text(), WAIT_S, "a client without a login is refused")


@pytest.mark.parametrize("settings, text", [
    ({"kafka.a.listen": "127.0.0.1:0", "kafka.a.tls": "on"}, "needs tls.cert"),
    ({"kafka.a.vhost": "/"}, "listen = host:port is missing"),
    ({"kafka.a.listen": "127.0.0.1:0", "kafka.a.advertised": "nowhere"}, "is not HOST:PORT"),
    ({"kafka.a.listen": "127.0.0.1:0", "kafka.a.advertised": "host:9o92"}, "is not HOST:PORT"),
    ({"kafka.a.listen": "127.0.0.1:0", "kafka.a.adress": "x:1"}, "unknown key kafka.a.adress"),
    ({"kafka." + "n" * 40 + ".listen": "127.0.0.1:0"}, "at most 31 bytes"),
    ({"kafka.a.listen": "127.0.0.1:0", "listeners.proxy_protocol": "kafka.b"}, "there is no listener kafka.b"),
])
def test_what_cannot_be_is_refused(broker_kind, settings, text):
    made = kafka_gateway(**settings)
    try:
        with pytest.raises(BrokerError) as refusal:
            made.start()
        assert text in str(refusal.value)
    finally:
        made.close()
