"""What was begun to be sent is brought to its end, whatever happened to its time, its subscription or the node meanwhile; and what a
shared subscription gave to a client with QoS 2 is that client's."""
import time

import pytest
import raw as r
from mqtest.broker import wait_until

covers = pytest.mark.covers
KEEP = {"clean": False, "p": {"session_expiry": 3600}}
MEANWHILE = ["nothing", "term", "kill9"]


def let_pass(seconds):
    """For what is said in time itself: an expiry."""
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= end, seconds + 5, "time to pass")


def happen(node, what):
    if what == "term":
        node.restart()
    elif what == "kill9":
        node.kill9()
        node.start()


def gone(client, node, c):
    """The end of c is seen and written down, with all that its session has in flight: the next client of the name waits for it."""
    c.close()
    seen = client(5, to=node, client="seen", **KEEP)
    wait_until(lambda: node.ctl("list_connections", "pid").count("<") == 1, 10, "its end is seen")
    seen.disconnect()
    client(5, to=node, client="seen", **KEEP).disconnect()  # CONNACK is durable; so is what was written down before it


@covers("5:MQTT-4.3.3-7", "5:MQTT-4.3.3-3")
@pytest.mark.parametrize("meanwhile", MEANWHILE)
def test_what_was_sent_with_qos2_does_not_expire(own_node, client, unique, meanwhile):
    c = client(5, to=own_node, client="s", clean=False, p={"session_expiry": 3600, "receive_maximum": 1})
    c.subscribe(unique, qos=2)
    p = client(5, to=own_node)
    for body in (b"begun", b"not begun"):
        p.publish(unique, body, qos=2, p={"message_expiry": 2})
    first = c.message(finish=False)
    p.close()
    gone(client, own_node, c)
    let_pass(2.2)
    happen(own_node, meanwhile)
    c = client(5, to=own_node, client="s", **KEEP)
    again = c.message()
    assert (again.payload, again.pid, again.qos, again.dup) == (b"begun", first.pid, 2, True)
    assert again.props["message_expiry"] == 0
    c.expect_nothing(0.3)
    client(5, to=own_node).publish(unique, b"next", qos=2)
    assert c.message().payload == b"next"


def test_what_was_sent_with_qos2_does_not_expire_by_a_crash(own_node, client, unique):
    """The client is connected when the node is killed."""
    c = client(5, to=own_node, client="s", **KEEP)
    c.subscribe(unique, qos=2)
    client(5, to=own_node).publish(unique, b"begun", qos=2, p={"message_expiry": 2})
    c.message(finish=False)
    c.subscribe("other", qos=0)  # SUBACK is durable; so is what was written down before it
    own_node.kill9()
    let_pass(2.2)
    own_node.start()
    assert client(5, to=own_node, client="s", **KEEP).message().payload == b"begun"


@covers("3:MQTT-3.10.4-3", "5:MQTT-3.10.4-3")
@pytest.mark.parametrize("meanwhile", MEANWHILE)
@pytest.mark.parametrize("qos", [1, 2])
def test_unsubscribed_and_connected_again(own_node, client, unique, qos, meanwhile):
    c = client(5, to=own_node, client="s", **KEEP)
    c.subscribe(unique, qos=qos)
    client(5, to=own_node).publish(unique, b"begun", qos=2)
    first = c.message(finish=False)
    assert c.unsubscribe(unique) == [0]
    c.close()
    happen(own_node, meanwhile)
    c = client(5, to=own_node, client="s", **KEEP)
    again = c.message()
    assert (again.payload, again.pid, again.qos, again.dup) == (b"begun", first.pid, qos, True)
    client(5, to=own_node).publish(unique, b"no more", qos=2)
    c.expect_nothing(0.3)


@pytest.mark.parametrize("now", [0, 1])
def test_qos_of_what_was_sent_stays(node, client, unique, now):
    c = client(5, client=unique, **KEEP)
    c.subscribe(unique, qos=2)
    p = client(5)
    p.publish(unique, b"begun", qos=2)
    first = c.message(finish=False)
    c.subscribe(unique, qos=now)
    c.close()
    c = client(5, client=unique, **KEEP)
    again = c.message()
    assert (again.payload, again.pid, again.qos, again.dup) == (b"begun", first.pid, 2, True)
    p.publish(unique, b"next", qos=2)
    assert c.message().qos == now


@covers("3:MQTT-4.6.0-1", "5:MQTT-4.6.0-1", "3:MQTT-4.6.0-6")
def test_sent_again_in_order(client, version, unique):
    keep = {"client": unique, "clean": False, **({"p": {"session_expiry": 60}} if version == 5 else {})}
    c, p = client(version, **keep), client(version)
    c.subscribe(unique, qos=2)
    for i in range(10):
        p.publish(unique, b"%d" % i, qos=1 + i % 2)
    before = [c.message(finish=False) for _ in range(10)]
    c.send_ack(r.PUBACK, before[4].pid)
    c.alive()
    c.close()
    c = client(version, **keep)
    after = [c.message() for _ in range(9)]
    assert [m.payload for m in after] == [b"%d" % i for i in range(10) if i != 4]
    assert [m.pid for m in after] == [m.pid for m in before if m is not before[4]]


# -- shared, with QoS 2 -------------------------------------------------------------------------------------------------------

def quiet(*clients):
    for c in clients:
        c.expect_nothing(0.2)


@covers("5:MQTT-4.8.2-4")
@pytest.mark.parametrize("meanwhile", MEANWHILE)
def test_shared_is_completed_by_its_client(own_node, client, unique, meanwhile):
    c, other = (client(5, to=own_node, client=name, **KEEP) for name in ("s", "t"))
    c.subscribe(f"$share/g/{unique}", qos=2, p={"subid": 7})
    client(5, to=own_node).publish(unique, b"begun", qos=2)
    first = c.message(finish=False)
    assert (first.qos, first.props["subid"]) == (2, [7])
    other.subscribe(f"$share/g/{unique}", qos=2)
    c.close()
    quiet(other)
    other.close()
    happen(own_node, meanwhile)
    other, c = (client(5, to=own_node, client=name, **KEEP) for name in ("t", "s"))
    again = c.message()
    assert (again.payload, again.pid, again.dup, again.props["subid"]) == (b"begun", first.pid, True, [7])
    quiet(c, other)


@covers("5:MQTT-4.8.2-5")
def test_shared_ends_with_its_clients_session(client, unique):
    c, other = client(5), client(5)
    c.subscribe(f"$share/g/{unique}", qos=2)
    client(5).publish(unique, b"begun", qos=2)
    c.message(finish=False)
    other.subscribe(f"$share/g/{unique}", qos=2)
    c.close()
    quiet(other)
    client(5).publish(unique, b"next", qos=2)
    assert other.message().payload == b"next"


@covers("5:MQTT-4.8.2-6")
@pytest.mark.parametrize("qos", [1, 2])
def test_shared_and_refused_is_nobodys(client, unique, qos):
    c, other = client(5), client(5)
    c.subscribe(f"$share/g/{unique}", qos=qos)
    client(5).publish(unique, b"refused", qos=2)
    m = c.message(finish=False)
    other.subscribe(f"$share/g/{unique}", qos=qos)
    c.send_ack(r.PUBACK if qos == 1 else r.PUBREC, m.pid, 0x83)
    assert c.alive()
    c.close()
    quiet(other)


@covers("5:MQTT-4.8.2-3")
@pytest.mark.parametrize("qos", [1, 2])
def test_shared_by_credit(client, unique, qos):
    """A member has no more than it takes; the rest is the others'. Each gets it with the QoS of its own subscription."""
    c, other = client(5, p={"receive_maximum": 2}), client(5, p={"receive_maximum": 1})
    c.subscribe(f"$share/g/{unique}", qos=qos)
    p = client(5)
    for i in range(8):
        p.publish(unique, b"%d" % i, qos=2)
    held = [c.message(finish=False) for _ in range(2)]
    assert [m.payload for m in held] == [b"0", b"1"] and {m.qos for m in held} == {qos}
    other.subscribe(f"$share/g/{unique}", qos=3 - qos)
    got = [other.message() for _ in range(6)]
    assert [m.payload for m in got] == [b"%d" % i for i in range(2, 8)] and {m.qos for m in got} == {3 - qos}
    quiet(c, other)


def test_shared_and_its_own(client, unique):
    """A client with a shared and an own subscription gets both, each with its identifier."""
    c = client(5)
    c.subscribe(f"$share/g/{unique}", qos=2, p={"subid": 1})
    c.subscribe(unique, qos=1, p={"subid": 2})
    client(5).publish(unique, b"x", qos=2, retain=True, p={"user": [("k", "v")]})
    got = sorted((m.qos, m.props["subid"], m.props["user"]) for m in (c.message(), c.message()))
    assert got == [(1, [2], [("k", "v")]), (2, [1], [("k", "v")])]
