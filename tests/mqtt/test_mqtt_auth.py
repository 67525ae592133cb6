"""Enhanced authentication (5.0: 4.12) with SCRAM: at CONNECT, again later, and every way to get it wrong."""
import pytest
import raw as r
from raw import packet, props, read_props
from scram import Scram

covers = pytest.mark.covers
CONTINUE, AGAIN = 0x18, 0x19


@pytest.fixture(scope="module", autouse=True)
def _users(node):
    node.ctl("add_user", "ada", "secret,=1")
    node.ctl("set_permissions", "-p", "/", "ada", ".*", ".*", ".*")
    node.ctl("add_user", "bob", "other")
    node.ctl("set_permissions", "-p", "/", "bob", ".*", ".*", ".*")
    node.ctl("add_vhost", "tenant")
    node.ctl("set_permissions", "-p", "tenant", "ada", ".*", ".*", ".*")


def auth_bytes(reason, method, data=None):
    fields = {"auth_method": method} if method else {}
    return packet(r.AUTH, 0, bytes([reason]) + props({**fields, **({"auth_data": data} if data is not None else {})}))


def auth(c, reason, method):
    """The server's AUTH; its data."""
    got = c.expect(r.AUTH)
    found, end = read_props(got.body, 1)
    assert got.flags == 0 and got.body[0] == reason and end == len(got.body)
    assert found["auth_method"] == method
    return found.get("auth_data")


def connack(c):
    got = c.expect(r.CONNACK)
    return got.body[1], read_props(got.body, 2)[0]


def begin(c, method="SCRAM-SHA-256", user="ada", password="secret,=1", in_connect=True, **kw):
    """CONNECT, and the server's first message."""
    s = Scram(user, password, "sha512" if "512" in method else "sha256")
    p = {"auth_method": method, **({"auth_data": s.first()} if in_connect else {})}
    c.send(c.connect_bytes(p=p, **kw))
    if not in_connect:
        assert auth(c, CONTINUE, method) is None
        c.send(auth_bytes(CONTINUE, method, s.first()))
    return s, auth(c, CONTINUE, method)


def prove(c, method="SCRAM-SHA-256", **kw):
    s, said = begin(c, method, **kw)
    c.send(auth_bytes(CONTINUE, method, s.final(said)))
    reason, found = connack(c)
    assert reason == 0, found
    assert found["auth_method"] == method
    s.check(found["auth_data"])
    return c


def again(c, method="SCRAM-SHA-256", user="ada", password="secret,=1"):
    s = Scram(user, password)
    c.send(auth_bytes(AGAIN, method, s.first()))
    c.send(auth_bytes(CONTINUE, method, s.final(auth(c, CONTINUE, method))))
    return s


@covers("5:MQTT-4.12.0-2", "5:MQTT-4.12.0-3", "5:MQTT-4.12.0-5", "5:MQTT-3.15.2-1")
@pytest.mark.parametrize("method", ["SCRAM-SHA-256", "SCRAM-SHA-512"])
@pytest.mark.parametrize("in_connect", [True, False], ids=["connect", "auth"])
def test_scram(client, unique, method, in_connect):
    c = prove(client(connect=False), method, in_connect=in_connect)
    c.subscribe(unique, qos=1)
    c.publish(unique, b"x", qos=1)
    assert c.message().payload == b"x"


def test_what_connect_says_counts(client, unique):
    """Will, client identifier and session of the CONNECT are there when the account is proved."""
    sub = client()
    sub.subscribe(unique, qos=1)
    c = client(connect=False)
    s = Scram("ada", "secret,=1")
    c.send(c.connect_bytes(client=unique, will=(unique, b"gone", 1, False),
                           p={"auth_method": "SCRAM-SHA-256", "auth_data": s.first()}))
    c.send(auth_bytes(CONTINUE, "SCRAM-SHA-256", s.final(auth(c, CONTINUE, "SCRAM-SHA-256"))))
    reason, found = connack(c)
    assert reason == 0 and "assigned_client" not in found
    c.close()
    assert sub.message().payload == b"gone"


def test_vhost_of_the_user_name(client, unique):
    """The account is SCRAM's; the user name of CONNECT may say the vhost."""
    here, c = client(), client(connect=False)
    s = Scram("ada", "secret,=1")
    c.send(c.connect_bytes(user="tenant:ada", p={"auth_method": "SCRAM-SHA-256", "auth_data": s.first()}))
    c.send(auth_bytes(CONTINUE, "SCRAM-SHA-256", s.final(auth(c, CONTINUE, "SCRAM-SHA-256"))))
    assert connack(c)[0] == 0
    here.subscribe(unique)
    c.subscribe(unique)
    c.publish(unique, b"tenant's")
    assert c.message().payload == b"tenant's"
    here.expect_nothing()


@covers("5:MQTT-4.12.0-4")
@pytest.mark.parametrize("user, password", [("ada", "wrong"), ("nobody", "secret,=1")], ids=["password", "user"])
def test_wrong_proof(client, user, password):
    c = client(connect=False)
    s, said = begin(c, user=user, password=password)
    c.send(auth_bytes(CONTINUE, "SCRAM-SHA-256", s.final(said)))
    assert connack(c)[0] == 0x87
    c.expect_closed()


@pytest.mark.parametrize("data", [b"", b"x", b"n,,n=ada", b"p=tls-unique,,n=ada,r=abc", b"\xff" * 3000],
                         ids=["empty", "short", "cut", "binding", "noise"])
def test_malformed_first_message(client, data):
    c = client(connect=False)
    c.send(c.connect_bytes(p={"auth_method": "SCRAM-SHA-256", "auth_data": data}))
    assert connack(c)[0] == 0x87
    c.expect_closed()


@covers("5:MQTT-3.1.2-30")
@pytest.mark.parametrize("what", ["publish", "subscribe", "ping", "connect"])
def test_only_auth_before_connack(client, what):
    c = client(connect=False)
    begin(c)
    c.send({"publish": c.publish_bytes("t", b"x"), "subscribe": packet(r.SUBSCRIBE, 2, b"\0\1\0\0\1t\0"),
            "ping": packet(r.PINGREQ, 0, b""), "connect": c.connect_bytes()}[what])
    assert connack(c)[0] == 0x82
    c.expect_closed()


def test_disconnect_before_connack(client):
    c = client(connect=False)
    begin(c)
    c.send(packet(r.DISCONNECT, 0, b""))
    assert c.expect_closed() == []


@covers("5:MQTT-4.12.0-5")
@pytest.mark.parametrize("method", ["SCRAM-SHA-512", None], ids=["other", "none"])
def test_another_method_midway(client, method):
    c = client(connect=False)
    s, said = begin(c)
    c.send(auth_bytes(CONTINUE, method, s.final(said)))
    assert connack(c)[0] == 0x82
    c.expect_closed()


def test_reauthentication_out_of_its_order(client):
    c = client(connect=False)
    s, said = begin(c)
    c.send(auth_bytes(AGAIN, "SCRAM-SHA-256", s.final(said)))
    assert connack(c)[0] == 0x82
    c.expect_closed()


@covers("5:MQTT-4.12.1-1")
def test_reauthentication(client, unique):
    c = prove(client(connect=False))
    c.subscribe(unique, qos=1)
    for _ in range(2):
        s = Scram("ada", "secret,=1")
        c.send(auth_bytes(AGAIN, "SCRAM-SHA-256", s.first()))
        said = auth(c, CONTINUE, "SCRAM-SHA-256")
        c.publish(unique, b"meanwhile", qos=1)  # other packets go on
        assert c.message().payload == b"meanwhile"
        c.send(auth_bytes(CONTINUE, "SCRAM-SHA-256", s.final(said)))
        s.check(auth(c, 0, "SCRAM-SHA-256"))
    assert c.alive()


@covers("5:MQTT-4.12.1-2")
@pytest.mark.parametrize("user, password", [("ada", "wrong"), ("bob", "other")], ids=["password", "user"])
def test_reauthentication_fails(client, user, password):
    c = prove(client(connect=False))
    again(c, user=user, password=password)
    assert c.goodbye() == 0x87


@covers("5:MQTT-4.12.1-1")
def test_reauthentication_with_another_method(client):
    c = prove(client(connect=False))
    c.send(auth_bytes(AGAIN, "SCRAM-SHA-512", Scram("ada", "secret,=1", "sha512").first()))
    assert c.goodbye() == 0x82


def test_answer_without_a_question(client):
    c = prove(client(connect=False))
    c.send(auth_bytes(CONTINUE, "SCRAM-SHA-256", b"c=biws,r=x,p=eA=="))
    assert c.goodbye() == 0x82


@covers("5:MQTT-4.12.0-6", "5:MQTT-4.12.0-7")
def test_no_auth_where_none_was_named(client):
    c = client()
    assert "auth_method" not in c.connack
    c.send(auth_bytes(AGAIN, "SCRAM-SHA-256", Scram("ada", "secret,=1").first()))
    assert c.goodbye() == 0x82
