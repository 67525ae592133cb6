"""Normative statements that stand between others: what is sent for the first time, what is new, what is left alone."""
import pytest
import raw as r
from raw import packet, props, text
from test_mqtt_begun import let_pass

covers = pytest.mark.covers


@covers("3:MQTT-1.5.3-3", "5:MQTT-1.5.4-3")
def test_bom_is_a_letter(client, version, unique):
    c = client(version)
    c.subscribe(unique)
    c.subscribe("\ufeff" + unique)
    c.publish("\ufeff" + unique, b"with")
    assert c.message().topic == "\ufeff" + unique
    c.expect_nothing(0.2)


@covers("3:MQTT-2.3.1-4", "3:MQTT-3.3.1-3", "3:MQTT-4.3.1-1", "3:MQTT-4.3.2-1", "5:MQTT-2.2.1-4", "5:MQTT-3.3.1-3",
        "5:MQTT-4.3.1-1", "5:MQTT-4.3.2-1", "5:MQTT-4.3.2-2", "5:MQTT-4.3.3-1", "5:MQTT-4.3.3-2",
        "3:MQTT-2.3.1-5")
def test_what_is_sent_first(client, version, unique):
    """Each QoS: no DUP though its publisher said it, an identifier of its own as long as it is not acknowledged."""
    sub, p = client(version), client(version)
    sub.subscribe(unique, qos=2)
    for i in range(30):
        qos = i % 3
        p.send(p.publish_bytes(unique, b"%d" % i, qos, dup=qos > 0, pid=i + 1 if qos else None))
    got = [sub.message(finish=False) for _ in range(30)]
    assert not any(m.dup for m in got)
    ids = [m.pid for m in got if m.qos > 0]
    assert len(ids) == 20 and len(set(ids)) == 20 and 0 not in ids
    assert all(m.pid is None for m in got if m.qos == 0)


@covers("3:MQTT-4.6.0-5", "3:MQTT-4.6.0-6", "5:MQTT-4.6.0-5", "5:MQTT-4.6.0-6", "3:MQTT-4.5.0-1", "5:MQTT-4.5.0-1",
        "3:MQTT-3.3.2-3", "5:MQTT-3.3.2-3")
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_order(client, version, unique, qos):
    sub, p = client(version), client(version)
    sub.subscribe(unique + "/+", qos=qos)
    for i in range(100):
        p.publish(f"{unique}/{i % 2}", b"%d" % i, qos=qos)
    got = [sub.message() for _ in range(100)]
    for name in "01":
        mine = [int(m.payload) for m in got if m.topic == f"{unique}/{name}"]
        assert mine == list(range(int(name), 100, 2))


@covers("5:MQTT-4.3.2-5")
def test_identifier_after_puback_is_new(client, version, unique):
    c = client(version)
    c.subscribe(unique, qos=1)
    for dup in (False, True):
        c.send(c.publish_bytes(unique, b"x", 1, dup=dup, pid=7))
    got = sorted(c.read().type for _ in range(4))
    assert got == [r.PUBLISH, r.PUBLISH, r.PUBACK, r.PUBACK]


@covers("5:MQTT-4.4.0-2", "5:MQTT-4.3.2-3")
@pytest.mark.parametrize("qos", [1, 2])
def test_refused_is_not_sent_again(client, unique, qos):
    keep = {"client": unique, "clean": False, "p": {"session_expiry": 60}}
    c = client(5, **keep)
    c.subscribe(unique, qos=qos)
    client(5).publish(unique, b"refused", qos=qos)
    m = c.message(finish=False)
    c.send_ack(r.PUBACK if qos == 1 else r.PUBREC, m.pid, 0x83)
    assert c.alive()
    c.close()
    c = client(5, **keep)
    assert c.session_present
    c.expect_nothing(0.3)


@covers("5:MQTT-3.1.2-28")
def test_no_response_information_unasked(client):
    for p in ({}, {"request_response": 0}):
        assert "response_info" not in client(5, p=p).connack


@covers("5:MQTT-3.1.2-29")
def test_no_words_when_none_are_wanted(client, unique):
    """PUBACK of a refusal, SUBACK, UNSUBACK: no properties."""
    c = client(5, p={"problem_info": 0})
    c.send(c.publish_bytes("$SYS/x", b"no", 1, pid=9))
    got = c.expect(r.PUBACK)
    assert got.body[2] == 0x87 and got.body[3:] in (b"", b"\0")
    c.send(packet(r.SUBSCRIBE, 2, b"\0\5" + props({}) + text("bad/#/x") + b"\0"))
    got = c.expect(r.SUBACK)
    assert got.body == b"\0\5\0\x8f"
    c.send(packet(r.UNSUBSCRIBE, 2, b"\0\6" + props({}) + text(unique)))
    assert c.expect(r.UNSUBACK).body == b"\0\6\0\x11"


@covers("3:MQTT-3.1.4-5", "5:MQTT-3.1.4-6", "5:MQTT-3.1.4-2")
def test_nothing_behind_a_refused_connect(client, version, unique):
    sub, c = client(version), client(version, connect=False)
    sub.subscribe(unique)
    c.send(c.connect_bytes(user="nobody", password="wrong") + c.publish_bytes(unique, b"in spite"))
    got = c.expect_closed()
    assert [g.type for g in got] == [r.CONNACK] and got[0].body[1] != 0
    sub.expect_nothing(0.3)


@covers("3:MQTT-3.1.3-2", "5:MQTT-3.1.3-2", "3:MQTT-3.1.4-3", "5:MQTT-3.1.4-4", "5:MQTT-3.2.2-1")
def test_sessions_by_client_identifier(client, version, unique):
    keep = {"clean": False, **({"p": {"session_expiry": 60}} if version == 5 else {})}
    one, two = client(version, client=unique + "1", **keep), client(version, client=unique + "2", **keep)
    one.subscribe(unique, qos=1)
    for c in (one, two):
        c.close()
    two = client(version, connect=False)
    two.send(two.connect_bytes(client=unique + "2", **keep))
    assert two.expect(r.CONNACK).body[0] == 1
    client(version).publish(unique, b"for one", qos=1)
    two.expect_nothing(0.2)
    one = client(version, client=unique + "1", **keep)
    assert one.message().payload == b"for one"
    fresh = client(version, client=unique + "1", clean=True)  # takes over, and forgets
    assert not fresh.session_present
    client(version).publish(unique, b"for nobody", qos=1)
    fresh.expect_nothing(0.2)


@covers("3:MQTT-4.7.3-2", "5:MQTT-4.7.3-2", "5:MQTT-4.7.0-1", "5:MQTT-1.5.7-1")
@pytest.mark.parametrize("what", ["topic", "filter", "wildcard"])
def test_letters_that_may_not_be(client, version, what):
    c = client(version)
    if what == "filter":
        c.send(packet(r.SUBSCRIBE, 2, b"\0\5" + (props({}) if version == 5 else b"") + text(b"a\0b") + b"\0"))
    else:
        c.send(c.publish_bytes(b"a\0b" if what == "topic" else "a/+", b"x"))
    c.goodbye()


@covers("3:MQTT-3.10.4-3", "5:MQTT-3.10.4-3")
def test_unsubscribe_does_not_stop_what_has_begun(client, version, unique):
    keep = {"client": unique, "clean": False, **({"p": {"session_expiry": 60}} if version == 5 else {})}
    c = client(version, **keep)
    c.subscribe(unique, qos=2)
    client(version).publish(unique, b"begun", qos=2)
    m = c.message(finish=False)
    c.unsubscribe(unique)
    c.send_ack(r.PUBREC, m.pid)
    c._released(m.pid, 5)
    assert c.alive()


@covers("3:MQTT-3.1.2-7")
def test_retained_outlive_their_publishers_session(client, version, unique):
    c = client(version, client=unique, clean=True)
    c.publish(unique, b"stays", qos=1, retain=True)
    c.disconnect()
    client(version, client=unique, clean=True).disconnect()
    late = client(version)
    late.subscribe(unique)
    assert late.message().payload == b"stays"


@covers("3:MQTT-3.1.2-12", "5:MQTT-3.1.2-10")
def test_no_will_where_none_was_said(client, version, unique):
    """A client that said one, and connects again without, or had it published."""
    sub = client(version)
    sub.subscribe(unique)
    client(version, client=unique, will=(unique, b"gone", 0, False)).close()
    assert sub.message().payload == b"gone"
    client(version, client=unique).close()
    again = client(version, client=unique)
    assert again.alive()
    sub.expect_nothing(0.3)


@covers("5:MQTT-4.3.3-13")
def test_qos2_goes_on_when_the_message_expired(client, unique):
    keep = {"client": unique, "clean": False, "p": {"session_expiry": 60}}
    sub, c = client(5, **keep), client(5)
    sub.subscribe(unique, qos=2)
    sub.disconnect()
    pid = c.publish(unique, b"short", qos=2, p={"message_expiry": 1}, finish=False)
    c.ack(r.PUBREC, pid)
    let_pass(1.2)
    c.send(c.publish_bytes(unique, b"short", qos=2, dup=True, pid=pid, p={"message_expiry": 1}))
    c.ack(r.PUBREC, pid)
    c.send_ack(r.PUBREL, pid)
    assert c.ack(r.PUBCOMP, pid).reason == 0
    client(5, **keep).expect_nothing(0.2)


@covers("5:MQTT-4.3.3-9")
def test_identifier_of_a_refused_qos2_is_new(client, unique):
    sub, c = client(5), client(5)
    sub.subscribe(unique)
    c.send(c.publish_bytes("$SYS/x", b"no", qos=2, pid=9))
    assert c.ack(r.PUBREC, 9).reason == 0x87
    c.send(c.publish_bytes(unique, b"yes", qos=2, pid=9, dup=True))
    assert c.ack(r.PUBREC, 9).reason == 0
    assert sub.message().payload == b"yes"


@covers("5:MQTT-4.1.0-1", "3:MQTT-4.1.0-1")
def test_session_stays_with_its_connection(client, unique):
    """However long the connection is open, nothing of the session goes, and its expiry counts from the end only."""
    keep = {"client": unique, "clean": False, "p": {"session_expiry": 3}}
    c = client(5, **keep)
    c.subscribe(unique, qos=1)
    let_pass(3.3)
    client(5).publish(unique, b"x", qos=1)
    assert c.message().payload == b"x"
    c.close()
    assert client(5, **keep).session_present
