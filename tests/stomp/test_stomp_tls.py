"""STOMP over TLS: with a password, and as the name in a client certificate."""
import socket
import ssl

import pytest

from mqtest.certs import Authority
from mqtest.stomp import Stomp


@pytest.fixture
def secure(own_gateway):
    """secure(name) is a client over TLS, with a certificate of that name if one is given; not connected yet."""
    authority = Authority()
    cert, key = authority.issue("localhost", "server")
    gateway = own_gateway(listeners__stomps="127.0.0.1:0", tls__cert=str(cert), tls__key=str(key), tls__ca=str(authority.cert),
                          tls__verify="optional")
    made = []

    def make(name=None, by=authority):
        context = ssl.create_default_context(cafile=str(authority.cert))
        if name is not None:
            context.load_cert_chain(*map(str, by.issue(name)))
        raw = socket.create_connection(("127.0.0.1", gateway.ports["stomps"]), timeout=60)
        made.append(Stomp(0, sock=context.wrap_socket(raw, server_hostname="localhost")))
        return made[-1]

    make.gateway = gateway
    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("size", [10, 20_000, 500_000])
def test_messages_of_any_size(secure, size):
    c = secure().connect().subscribe("/queue/tls").put("/queue/tls", b"x" * size)
    assert c.expect("MESSAGE").body == b"x" * size


def test_a_certificate_is_an_account(secure):
    secure.gateway.ctl("add_user", "device-7", "secret")
    secure.gateway.ctl("set_permissions", "-p", "/", "device-7", ".*", ".*", ".*")
    c = secure("device-7").connect(user=None, password=None).subscribe("/queue/mine")
    c.put("/queue/mine", b"x", user_id="device-7")
    assert c.expect("MESSAGE")["user-id"] == "device-7"


@pytest.mark.parametrize("name", [None, "nobody"])
def test_without_an_account_it_is_refused(secure, name):
    c = secure(name)
    c.send("CONNECT", {"accept-version": "1.2", "host": "/"})
    assert c.error()["message"] == "Bad CONNECT"


def test_a_certificate_of_somebody_else_is_refused(secure):
    with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
        secure("guest", by=Authority("others")).connect(user=None, password=None)


def test_plain_text_on_the_tls_port_is_ended(secure):
    with Stomp(secure.gateway.ports["stomps"]) as c:
        c.raw(c.frame("CONNECT", {"accept-version": "1.2"}))
        c.ended()
