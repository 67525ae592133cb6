"""Settings of [stomp], restarts, permissions, and what listings say."""
import contextlib

import pytest

from mqtest.stomp import Stomp


def client(gateway, **kw):
    return Stomp(gateway.ports["stomp"], **kw)


def test_an_unknown_host_means_the_default_vhost(stomp, on_rabbitmq):
    if on_rabbitmq:
        pytest.skip("RabbitMQ refuses it")
    assert stomp(host="broker.example.com").connected["version"] == "1.2"


def test_without_fallback_an_unknown_host_is_refused(own_gateway):
    c = client(own_gateway(stomp__vhost_fallback="off"))
    c.send("CONNECT", {"accept-version": "1.2", "host": "nowhere", "login": "guest", "passcode": "guest"})
    assert c.error().body == b"Virtual host 'nowhere' does not exist\n"


def test_a_host_header_names_a_vhost(broker, stomp, unique):
    vhost, queue = unique("v"), f"/queue/{unique('q')}"
    broker.ctl("add_vhost", vhost)
    broker.ctl("set_permissions", "-p", vhost, "guest", ".*", ".*", ".*")
    stomp(host=vhost).put(queue, b"there")
    stomp().subscribe(queue).idle()
    assert stomp(host=vhost).subscribe(queue).expect("MESSAGE").body == b"there"
    broker.ctl("delete_vhost", vhost)


def test_a_vhost_without_permission_is_refused(broker, stomp, unique):
    vhost, user = unique("v"), unique("u")
    broker.ctl("add_vhost", vhost)
    broker.ctl("add_user", user, "secret")
    c = stomp(connect=False)
    c.send("CONNECT", {"accept-version": "1.2", "host": vhost, "login": user, "passcode": "secret"})
    assert c.error()["message"] == "Bad CONNECT"
    broker.ctl("delete_user", user)
    broker.ctl("delete_vhost", vhost)


def test_permissions_are_checked(broker, stomp, unique):
    user, queue = unique("u"), unique("closed")
    broker.ctl("add_user", user, "secret")
    broker.ctl("set_permissions", "-p", "/", user, "^mine", "^mine|^amq\\.default$", "^mine")
    stomp().put(f"/queue/{queue}", b"x")
    c = stomp(user=user, password="secret")
    c.send("SUBSCRIBE", {"destination": f"/amq/queue/{queue}", "id": "1", "receipt": "r"})
    error = c.error()
    assert error["message"] == "access_refused" and error["receipt-id"] == "r"
    c = stomp(user=user, password="secret")
    c.send("SEND", {"destination": "/topic/x"}, b"x")
    assert c.error()["message"] == "access_refused"
    broker.ctl("delete_user", user)


def test_the_default_user(own_gateway):
    gateway = own_gateway(stomp__default_user="guest", stomp__default_password="guest")
    with client(gateway).connect(user=None, password=None) as c:
        c.subscribe("/queue/q").put("/queue/q", b"x")
        assert c.expect("MESSAGE").body == b"x"


def test_what_connect_says_is_not_escaped(broker, stomp, unique, on_rabbitmq):
    """1.2, "Value Encoding": so that a 1.0 client may send it."""
    if on_rabbitmq:
        pytest.skip("RabbitMQ undoes escapes here, too")
    user, password = unique("u:v"), "back\\nslash:and\\c"
    broker.ctl("add_user", user, password)
    broker.ctl("set_permissions", "-p", "/", user, ".*", ".*", ".*")
    assert stomp(user=user, password=password).connected["version"] == "1.2"
    broker.ctl("delete_user", user)


def test_nobody_is_refused(own_gateway):
    c = client(own_gateway())
    c.send("CONNECT", {"accept-version": "1.2", "host": "/"})
    assert c.error()["message"] == "Bad CONNECT"


def test_implicit_connect(own_gateway):
    gateway = own_gateway(stomp__default_user="guest", stomp__default_password="guest", stomp__implicit_connect="on")
    with client(gateway, version="1.0") as c:
        c.send("SUBSCRIBE", {"destination": "/queue/q", "receipt": "r"})
        c.receipt()
        c.send("SEND", {"destination": "/queue/q"}, b"x")
        assert c.expect("MESSAGE").body == b"x"


@pytest.mark.parametrize("persistent", ["true", "false"])
def test_what_a_receipt_promised_is_there_after_kill9(own_gateway, persistent):
    gateway = own_gateway()
    with client(gateway).connect() as c:
        for n in range(20):
            c.put("/queue/kept", b"%d" % n, persistent=persistent)
    gateway.kill9()
    gateway.start()
    with client(gateway).connect() as c:
        c.subscribe("/queue/kept")
        if persistent == "true":
            assert [c.expect("MESSAGE").body for _ in range(20)] == [b"%d" % n for n in range(20)]
        c.idle()


def test_an_ack_with_a_receipt_is_kept_after_kill9(own_gateway):
    gateway = own_gateway()
    with client(gateway).connect() as c:
        c.subscribe("/queue/kept", ack="client-individual")
        for n in range(4):
            c.put("/queue/kept", b"%d" % n, persistent="true")
        for n, message in enumerate([c.expect("MESSAGE") for _ in range(4)]):
            if n % 2 == 0:
                c.send("NACK" if n else "ACK", {"id": message["ack"], "requeue": "false", "receipt": "settled"})
                c.receipt()
        gateway.kill9()
    gateway.start()
    with client(gateway).connect() as c:
        c.subscribe("/queue/kept")
        got = [c.expect("MESSAGE") for _ in range(2)]
        assert [m.body for m in got] == [b"1", b"3"] and {m["redelivered"] for m in got} == {"true"}
        c.idle()


def test_a_durable_topic_subscription_outlives_kill9(own_gateway):
    gateway, headers = own_gateway(), {"durable": "true", "auto-delete": "false", "ack": "client"}
    with client(gateway).connect() as c:
        c.subscribe("/topic/a.*", "mine", **headers)
        c.put("/topic/a.b", b"kept", persistent="true")
        gateway.kill9()
    gateway.start()
    with client(gateway).connect() as c:
        c.put("/topic/a.c", b"and more", persistent="true")
        c.subscribe("/topic/a.*", "mine", **headers)
        assert [c.expect("MESSAGE").body for _ in range(2)] == [b"kept", b"and more"]


def test_a_committed_transaction_is_there_after_kill9(own_gateway):
    gateway = own_gateway()
    with client(gateway).connect() as c:
        for tx in ("a", "b"):
            c.send("BEGIN", {"transaction": tx})
            for n in range(5):
                c.send("SEND", {"destination": f"/queue/{tx}", "transaction": tx, "persistent": "true"}, b"%d" % n)
        c.send("COMMIT", {"transaction": "a", "receipt": "r"})
        c.receipt()
        gateway.kill9()
    gateway.start()
    with client(gateway).connect() as c:
        c.subscribe("/queue/a", "a").subscribe("/queue/b", "b")
        assert [(c.expect("MESSAGE")).body for _ in range(5)] == [b"%d" % n for n in range(5)]
        c.idle()


def test_a_stopping_node_says_so(own_gateway):
    gateway = own_gateway()
    c = client(gateway).connect()
    with contextlib.ExitStack() as stack:
        stack.callback(c.close)
        assert gateway.stop(30) == 0
        assert c.error()["message"] == "Server shutdown"


def test_listings_show_the_connection(broker, stomp, unique, on_rabbitmq):
    if on_rabbitmq:
        pytest.skip("ours alone")
    stomp().subscribe(f"/queue/{unique('q')}")
    assert "STOMP 1.2" in broker.ctl("list_connections", "user", "protocol")
