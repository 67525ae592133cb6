"""AMQP over TLS: server and client certificates, EXTERNAL, versions, and a new certificate without a restart."""
import shutil
import signal
import socket
import ssl

import pika
import pytest
from pika import credentials, exceptions, spec

from mqtest.broker import Gateway, RabbitMQ, free_port, wait_until
from mqtest.certs import Authority
from mqtest.fixtures import keep_alive_broker
from mqtest.wire import Closed, Conn

pytestmark = pytest.mark.timeout(60)
USER = "cert-user"


@pytest.fixture(scope="module")
def authority():
    made = Authority()
    yield made
    shutil.rmtree(made.folder)


@pytest.fixture(scope="module")
def secure(broker_kind, authority):
    """A broker with a TLS listener that looks at client certificates where there are any."""
    cert, key = authority.issue("localhost", "server")

    def gateway():
        return Gateway({"listeners.amqps": "127.0.0.1:0", "tls.cert": cert, "tls.key": key,
                        "tls.ca": authority.cert, "tls.verify": "optional"})

    def rabbitmq():
        port = free_port()
        return RabbitMQ(f"""listeners.ssl.1 = 127.0.0.1:{port}
ssl_options.certfile = {cert}
ssl_options.keyfile = {key}
ssl_options.cacertfile = {authority.cert}
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = false
ssl_cert_login_from = common_name
auth_mechanisms.1 = PLAIN
auth_mechanisms.2 = AMQPLAIN
auth_mechanisms.3 = EXTERNAL""", plugins="rabbitmq_auth_mechanism_ssl", amqps=port)

    with keep_alive_broker(gateway if broker_kind is Gateway else rabbitmq) as made:
        made.ctl("add_user", USER, "unused")
        made.ctl("set_permissions", USER, ".*", ".*", ".*")
        yield made


def context(authority, client=None, version=None):
    made = ssl.create_default_context(cafile=authority.cert)
    if client:
        made.load_cert_chain(*client)
    if version:
        made.minimum_version = made.maximum_version = version
    return made


def connect(broker, tls, login=None):
    return pika.BlockingConnection(pika.ConnectionParameters(
        "localhost", broker.ports["amqps"], ssl_options=pika.SSLOptions(tls, "localhost"), socket_timeout=10,
        credentials=login or pika.PlainCredentials("guest", "guest")))


def handshake(broker, tls):
    """A TLS connection without AMQP; with TLS 1.3 a refusal of our certificate shows at the first read."""
    raw = socket.create_connection(("127.0.0.1", broker.ports["amqps"]), timeout=60)
    with tls.wrap_socket(raw, server_hostname="localhost") as sock:
        sock.sendall(b"AMQP\x00\x00\x09\x01")
        assert sock.recv(1) == b"\x01"
        return sock.version(), sock.getpeercert()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_versions(secure, authority, version):
    assert handshake(secure, context(authority, version=version))[0] == version.name.replace("_", ".")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_versions_are_refused(secure, authority):
    """The gateway speaks TLS 1.2 and later; RabbitMQ 3.10 takes what Erlang takes, 1.1 too."""
    if secure.is_rabbitmq:
        return
    tls = context(authority)
    tls.set_ciphers("ALL:@SECLEVEL=0")
    tls.minimum_version, tls.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(secure, tls)


def test_messages_of_all_sizes(secure, authority):
    conn = connect(secure, context(authority))
    ch = conn.channel()
    q = ch.queue_declare("", exclusive=True).method.queue
    ch.confirm_delivery()
    for size in (0, 1, 16384, 131072, 1 << 20):
        body = bytes(n & 255 for n in range(256)) * (size // 256) + b"z" * (size % 256)
        ch.basic_publish("", q, body)
        assert ch.basic_get(q, auto_ack=True)[2] == body
    conn.close()


def offered(broker, tls):
    """The mechanisms of connection.start on a TLS connection."""
    conn = Conn(broker, port=broker.ports["amqps"])
    conn.sock = tls.wrap_socket(conn.sock, server_hostname="localhost")
    with conn:
        conn.send_raw(b"AMQP\x00\x00\x09\x01")
        return set(conn.expect(spec.Connection.Start).mechanisms.split())


def test_external_is_offered_for_a_certificate_only(secure, authority):
    """Clients such as py-amqp take it first where it is offered. RabbitMQ's plugin, once it is asked for, offers it
    on every TLS connection; the gateway has it always, so it must not."""
    without = offered(secure, context(authority))
    assert without - {b"EXTERNAL"} == {b"PLAIN", b"AMQPLAIN"}
    assert secure.is_rabbitmq or b"EXTERNAL" not in without
    assert offered(secure, context(authority, authority.issue(USER))) == {b"PLAIN", b"AMQPLAIN", b"EXTERNAL"}


def test_external_logs_in_as_the_certificate(secure, authority):
    conn = connect(secure, context(authority, authority.issue(USER)), credentials.ExternalCredentials())
    ch = conn.channel()
    q = ch.queue_declare("", exclusive=True).method.queue
    ch.basic_publish("", q, b"m", pika.BasicProperties(user_id=USER))
    ch.basic_qos()
    conn.close()


@pytest.mark.parametrize("name", [None, "nobody-we-know"])
def test_external_without_a_known_certificate(secure, authority, name):
    client = authority.issue(name) if name else None
    with pytest.raises(exceptions.AMQPConnectionError):
        connect(secure, context(authority, client), credentials.ExternalCredentials())


def test_external_needs_tls(secure):
    with Conn(secure) as conn, pytest.raises(Closed):
        conn.connect(mechanism="EXTERNAL", response=USER)


def test_certificate_of_another_authority(secure, authority):
    other = Authority("stranger")
    try:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            handshake(secure, context(authority, other.issue(USER)))
    finally:
        shutil.rmtree(other.folder)
    assert handshake(secure, context(authority))


@pytest.mark.parametrize("data", [b"AMQP\x00\x00\x09\x01", b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"\0" * 70000])
def test_no_tls_on_the_tls_port(secure, authority, data):
    """Ends with an alert or without a word, never with AMQP in clear."""
    with socket.create_connection(("127.0.0.1", secure.ports["amqps"]), timeout=60) as sock:
        sock.sendall(data)
        answer = b""
        try:
            while piece := sock.recv(4096):
                answer += piece
        except ConnectionError:
            pass
        assert b"AMQP" not in answer
    assert handshake(secure, context(authority))


def test_plain_listener_works_beside_it(secure):
    with Conn(secure).connect() as conn:
        conn.rpc(1, spec.Basic.Qos(0, 1, False), spec.Basic.QosOk)


def test_new_certificate_without_a_restart(secure, authority):
    """SIGHUP reads the files again; a connection that is open stays."""
    if secure.is_rabbitmq:
        return  # it has a command of its own for that
    old = handshake(secure, context(authority))[1]["serialNumber"]
    conn = connect(secure, context(authority))
    authority.issue("localhost", "server")
    secure.proc.send_signal(signal.SIGHUP)
    wait_until(lambda: handshake(secure, context(authority))[1]["serialNumber"] != old, 10, "a new certificate", 0.05)
    conn.channel().basic_qos()
    conn.close()
