"""MQTT over TLS and over WebSocket with TLS: unmodified clients, client certificates as login, vhosts by certificate."""
import shutil
import ssl
import subprocess

import paho.mqtt.client as paho
import pytest
from conftest import gateway
from mqtest.broker import wait_until
from mqtest.certs import Authority

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module", name="authority")
def _authority():
    made = Authority()
    yield made
    shutil.rmtree(made.folder)


@pytest.fixture(scope="module", name="secure")
def _secure(authority):
    cert, key = authority.issue("localhost", "server")
    with gateway(listeners__mqtts="127.0.0.1:0", listeners__mqtt_wss="127.0.0.1:0", tls__cert=cert, tls__key=key,
                 tls__ca=authority.cert, tls__verify="optional", auth__anonymous="off", mqtt__cert_login="on",
                 mqtt__cert_vhosts="pump=plant, other=nowhere") as node:
        for vhost, user in (("plant", "pump"), ("/", "lamp")):
            if vhost != "/":
                node.ctl("add_vhost", vhost)
            node.ctl("add_user", user, "unused")
            node.ctl("set_permissions", "-p", vhost, user, ".*", ".*", ".*")
        yield node
        node.check_log()


def tool(name, node, authority, *more, client=None, **kw):
    cert = ["--cert", client[0], "--key", client[1]] if client else []
    command = [name, "-h", "localhost", "-p", node.ports["mqtts"], "--cafile", authority.cert, *cert, *more]
    return subprocess.run([str(part) for part in command], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=60, **kw)


LOGIN = ["-u", "guest", "-P", "guest"]


def test_mosquitto_pub_and_sub(secure, authority, unique):
    sent = tool("mosquitto_pub", secure, authority, *LOGIN, "-t", unique, "-m", "kept", "-r", "-q", "1")
    assert sent.returncode == 0, sent.stdout
    got = tool("mosquitto_sub", secure, authority, *LOGIN, "-t", unique, "-C", "1", "-W", "10")
    assert (got.returncode, got.stdout) == (0, "kept\n")


def test_certificate_as_login(secure, authority, unique):
    lamp = authority.issue("lamp")
    sent = tool("mosquitto_pub", secure, authority, "-t", unique, "-m", "mine", "-r", "-q", "1", client=lamp)
    assert sent.returncode == 0, sent.stdout
    got = tool("mosquitto_sub", secure, authority, *LOGIN, "-t", unique, "-C", "1", "-W", "10")
    assert got.stdout == "mine\n"
    assert "user=lamp vhost=/" in secure.log_text()


def test_vhost_by_certificate(secure, authority, unique):
    pump = authority.issue("pump")
    sent = tool("mosquitto_pub", secure, authority, "-t", unique, "-m", "x", "-r", "-q", "1", client=pump)
    assert sent.returncode == 0, sent.stdout
    assert "user=pump vhost=plant" in secure.log_text()
    # `vhost:user` says more than the certificate
    node_user = tool("mosquitto_pub", secure, authority, "-u", "/:guest", "-P", "guest", "-t", unique, "-m", "y", client=pump)
    assert node_user.returncode == 0, node_user.stdout


@pytest.mark.parametrize("who", ["unknown", "foreign", "none"])
def test_certificates_that_do_not_log_in(secure, authority, unique, who):
    """Nobody of that name, another authority's, and none at all."""
    other = Authority("another-ca") if who == "foreign" else authority
    client = None if who == "none" else other.issue("lamp" if who == "foreign" else "stranger", who)
    sent = tool("mosquitto_pub", secure, authority, "-t", unique, "-m", "x", "-q", "1", client=client)
    assert sent.returncode != 0
    if who == "foreign":
        shutil.rmtree(other.folder)


def test_server_is_checked(secure, unique):
    """A client that trusts another authority does not connect."""
    other = Authority("another-ca")
    sent = tool("mosquitto_pub", secure, other, *LOGIN, "-t", unique, "-m", "x")
    shutil.rmtree(other.folder)
    assert sent.returncode != 0


@pytest.mark.parametrize("transport, listener", [("tcp", "mqtts"), ("websockets", "mqtt_wss")])
@pytest.mark.parametrize("by", ["password", "certificate"])
def test_paho(secure, authority, unique, transport, listener, by):
    got, granted = [], []
    c = paho.Client(client_id=unique[-20:], protocol=paho.MQTTv5, transport=transport)
    cert = dict(zip(("certfile", "keyfile"), map(str, authority.issue("lamp", unique)))) if by == "certificate" else {}
    c.tls_set(str(authority.cert), cert_reqs=ssl.CERT_REQUIRED, **cert)
    if by == "password":
        c.username_pw_set("guest", "guest")
    if transport == "websockets":
        c.ws_set_options(path="/ws")
    c.on_message = lambda client, data, m: got.append(m.payload)
    c.on_subscribe = lambda *args: granted.append(args)
    c.connect("localhost", secure.ports[listener])
    c.loop_start()
    try:
        wait_until(c.is_connected, 10, "connected")
        c.subscribe(unique, 2)
        wait_until(lambda: granted, 10, "SUBACK")
        bodies = [b"%d" % i + b"x" * (i * 7000) for i in range(20)]
        for i, body in enumerate(bodies):
            c.publish(unique, body, i % 3)
        wait_until(lambda: len(got) == 20, 20, "20 messages")
        assert sorted(got) == sorted(bodies)
    finally:
        c.disconnect()
        c.loop_stop()
