"""One test, or row, for each normative statement of 3.1.1 and 5.0 that concerns a server and can be seen from outside.

covers() names the statements; `python3 tests/mqtt/table.py` writes the table into protocols/mqtt/mqtt.md. "3:" before a number
is 3.1.1, "5:" is 5.0; the same statement often has another number in the other.
"""
import contextlib
import struct
import time

import pytest
import raw as r
from mqtest.broker import wait_until
from raw import packet, props, text, varint

covers = pytest.mark.covers


def let_pass(seconds):
    """For what is said in time itself: an expiry."""
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= end, seconds + 5, "time to pass")


CONNECT_311 = text("MQTT") + bytes([4])
CONNECT_5 = text("MQTT") + bytes([5])


# -- what is malformed, before and after CONNECT --------------------------------------------------------------------

BAD_CONNECTS = [
    ("3:MQTT-3.1.2-3", 4, CONNECT_311 + bytes([3]) + b"\0\x3c" + text("x")),
    ("3:MQTT-3.1.2-14", 4, CONNECT_311 + bytes([0x1e]) + b"\0\x3c" + text("x") + text("w") + text("m")),
    ("3:MQTT-3.1.2-13", 4, CONNECT_311 + bytes([0x0a]) + b"\0\x3c" + text("x")),
    ("3:MQTT-3.1.2-15", 4, CONNECT_311 + bytes([0x22]) + b"\0\x3c" + text("x")),
    ("3:MQTT-3.1.2-22", 4, CONNECT_311 + bytes([0x42]) + b"\0\x3c" + text("x") + text("p")),
    ("3:MQTT-3.1.3-4", 4, CONNECT_311 + bytes([2]) + b"\0\x3c" + text(b"\xc3")),
    ("3:MQTT-3.1.3-11", 4, CONNECT_311 + bytes([0x82]) + b"\0\x3c" + text("x") + text(b"\xff")),
    ("3:MQTT-1.5.3-1", 4, CONNECT_311 + bytes([2]) + b"\0\x3c" + text(b"\xed\xa0\x80")),
    ("3:MQTT-1.5.3-2", 4, CONNECT_311 + bytes([2]) + b"\0\x3c" + text(b"a\0b")),
    ("3:MQTT-3.1.3-10", 4, CONNECT_311 + bytes([6]) + b"\0\x3c" + text("x") + text(b"\xff") + text("m")),
    ("3:MQTT-3.1.2-9", 4, CONNECT_311 + bytes([6]) + b"\0\x3c" + text("x") + text("w")),
    ("3:MQTT-3.1.2-11", 4, CONNECT_311 + bytes([2]) + b"\0\x3c" + text("x") + text("w") + text("m")),
    ("3:MQTT-3.1.2-19", 4, CONNECT_311 + bytes([0x82]) + b"\0\x3c" + text("x")),
    ("3:MQTT-3.1.2-21", 4, CONNECT_311 + bytes([0xc2]) + b"\0\x3c" + text("x") + text("u")),
    ("5:MQTT-3.1.2-9", 5, CONNECT_5 + bytes([6]) + b"\0\x3c\0" + text("x") + b"\0" + text("w")),
    ("5:MQTT-3.1.2-17", 5, CONNECT_5 + bytes([0x82]) + b"\0\x3c\0" + text("x")),
    ("5:MQTT-3.1.2-19", 5, CONNECT_5 + bytes([0xc2]) + b"\0\x3c\0" + text("x") + text("u")),
    ("5:MQTT-3.1.2-3", 5, CONNECT_5 + bytes([3]) + b"\0\x3c\0" + text("x")),
    ("5:MQTT-3.1.2-12", 5, CONNECT_5 + bytes([0x1e]) + b"\0\x3c\0" + text("x") + b"\0" + text("w") + text("m")),
    ("5:MQTT-3.1.2-11", 5, CONNECT_5 + bytes([0x0a]) + b"\0\x3c\0" + text("x")),
    ("5:MQTT-3.1.2-13", 5, CONNECT_5 + bytes([0x22]) + b"\0\x3c\0" + text("x")),
    ("5:MQTT-1.5.4-1", 5, CONNECT_5 + bytes([2]) + b"\0\x3c\0" + text(b"\xed\xa0\x80")),
    ("5:MQTT-1.5.4-2", 5, CONNECT_5 + bytes([2]) + b"\0\x3c\0" + text(b"a\0b")),
    ("5:MQTT-1.5.5-1", 5, CONNECT_5 + bytes([2]) + b"\0\x3c\x80\0" + text("x")),
    ("5:MQTT-3.1.3-4", 5, CONNECT_5 + bytes([2]) + b"\0\x3c\0" + text(b"\xff")),
    ("5:MQTT-3.1.3-11", 5, CONNECT_5 + bytes([6]) + b"\0\x3c\0" + text("x") + b"\0" + text(b"\xff") + text("m")),
    ("5:MQTT-3.1.3-12", 5, CONNECT_5 + bytes([0x82]) + b"\0\x3c\0" + text("x") + text(b"\xff")),
]


@covers(*[row[0] for row in BAD_CONNECTS],
        "3:MQTT-3.2.2-6")
@pytest.mark.parametrize("statement,version,body", BAD_CONNECTS, ids=[row[0] for row in BAD_CONNECTS])
def test_malformed_connect_ends_the_connection(client, statement, version, body):
    c = client(version, connect=False)
    c.send(packet(r.CONNECT, 0, body))
    got = c.expect_closed()
    if version == 4:
        assert got == []
    else:
        assert [g.type for g in got] == [r.CONNACK] and got[0].body[1] in (0x81, 0x82)


BAD_PACKETS = [
    ("3:MQTT-2.2.2-2", 4, packet(r.PINGREQ, 1, b""), None),
    ("3:MQTT-3.3.1-4", 4, packet(r.PUBLISH, 6, text("a") + b"\0\1"), None),
    ("3:MQTT-3.3.1-2", 4, packet(r.PUBLISH, 8, text("a")), None),
    ("3:MQTT-3.3.2-1", 4, packet(r.PUBLISH, 0, text(b"\xff")), None),
    ("3:MQTT-3.3.2-2", 4, packet(r.PUBLISH, 0, text("a/+")), None),
    ("3:MQTT-4.7.3-1", 4, packet(r.PUBLISH, 0, text("")), None),
    ("3:MQTT-2.3.1-1", 4, packet(r.PUBLISH, 2, text("a") + b"\0\0"), None),
    ("3:MQTT-3.6.1-1", 4, packet(r.PUBREL, 0, b"\0\1"), None),
    ("3:MQTT-3.8.1-1", 4, packet(r.SUBSCRIBE, 0, b"\0\1" + text("a") + b"\0"), None),
    ("3:MQTT-3.8.3-1", 4, packet(r.SUBSCRIBE, 2, b"\0\1" + text(b"\xff") + b"\0"), None),
    ("3:MQTT-3.8.3-3", 4, packet(r.SUBSCRIBE, 2, b"\0\1"), None),
    ("3:MQTT-3-8.3-4", 4, packet(r.SUBSCRIBE, 2, b"\0\1" + text("a") + b"\3"), None),
    ("3:MQTT-3.10.1-1", 4, packet(r.UNSUBSCRIBE, 0, b"\0\1" + text("a")), None),
    ("3:MQTT-3.10.3-1", 4, packet(r.UNSUBSCRIBE, 2, b"\0\1" + text(b"\xff")), None),
    ("3:MQTT-3.10.3-2", 4, packet(r.UNSUBSCRIBE, 2, b"\0\1"), None),
    ("3:MQTT-3.14.1-1", 4, packet(r.DISCONNECT, 1, b""), None),
    ("5:MQTT-2.1.3-1", 5, packet(r.PINGREQ, 1, b""), 0x81),
    ("5:MQTT-3.3.1-4", 5, packet(r.PUBLISH, 6, text("a") + b"\0\1\0"), 0x81),
    ("5:MQTT-3.3.1-2", 5, packet(r.PUBLISH, 8, text("a") + b"\0"), 0x81),
    ("5:MQTT-3.3.2-1", 5, packet(r.PUBLISH, 0, text(b"\xff") + b"\0"), 0x81),
    ("5:MQTT-3.3.2-2", 5, packet(r.PUBLISH, 0, text("a/#") + b"\0"), 0x90),
    ("5:MQTT-3.3.2-8", 5, packet(r.PUBLISH, 0, text("a") + props({"alias": 0})), 0x94),
    ("5:MQTT-3.3.2-9", 5, packet(r.PUBLISH, 0, text("a") + props({"alias": 11})), 0x94),
    ("5:MQTT-3.3.2-14", 5, packet(r.PUBLISH, 0, text("a") + props({"response_topic": "a/#"})), 0x82),
    ("5:MQTT-3.3.2-13", 5, packet(r.PUBLISH, 0, text("a") + b"\4\x08\0\1\xff"), 0x81),
    ("5:MQTT-3.3.2-19", 5, packet(r.PUBLISH, 0, text("a") + b"\4\x03\0\1\xff"), 0x81),
    ("5:MQTT-3.3.4-6", 5, packet(r.PUBLISH, 0, text("a") + props({"subid": 1})), 0x82),
    ("5:MQTT-4.7.3-1", 5, packet(r.PUBLISH, 0, text("") + b"\0"), 0x82),
    ("5:MQTT-2.2.1-2", 5, packet(r.PUBLISH, 2, text("a") + b"\0\0\0"), 0x82),
    ("5:MQTT-2.2.2-1", 5, packet(r.PUBLISH, 0, text("a")), 0x81),
    ("5:MQTT-3.6.1-1", 5, packet(r.PUBREL, 0, b"\0\1"), 0x81),
    ("5:MQTT-3.8.1-1", 5, packet(r.SUBSCRIBE, 0, b"\0\1\0" + text("a") + b"\0"), 0x81),
    ("5:MQTT-3.8.3-1", 5, packet(r.SUBSCRIBE, 2, b"\0\1\0" + text(b"\xff") + b"\0"), 0x81),
    ("5:MQTT-3.8.3-2", 5, packet(r.SUBSCRIBE, 2, b"\0\1\0"), 0x82),
    ("5:MQTT-3.8.3-4", 5, packet(r.SUBSCRIBE, 2, b"\0\1\0" + text("$share/g/a") + b"\4"), 0x82),
    ("5:MQTT-3.8.3-5", 5, packet(r.SUBSCRIBE, 2, b"\0\1\0" + text("a") + b"\x40"), 0x81),
    ("5:MQTT-3.10.1-1", 5, packet(r.UNSUBSCRIBE, 0, b"\0\1\0" + text("a")), 0x81),
    ("5:MQTT-3.10.3-1", 5, packet(r.UNSUBSCRIBE, 2, b"\0\1\0" + text(b"\xff")), 0x81),
    ("5:MQTT-3.10.3-2", 5, packet(r.UNSUBSCRIBE, 2, b"\0\1\0"), 0x82),
    ("5:MQTT-3.14.1-1", 5, packet(r.DISCONNECT, 1, b""), 0x81),
    ("5:MQTT-3.15.1-1", 5, packet(r.AUTH, 1, b""), 0x81),
    ("5:MQTT-4.12.0-6", 5, packet(r.AUTH, 0, b"\x18" + props({"auth_method": "x"})), 0x82),
    ("5:MQTT-4.13.1-1", 5, packet(r.CONNACK, 0, b"\0\0\0"), 0x82),
]


@covers(*[row[0] for row in BAD_PACKETS], "3:MQTT-4.8.0-1", "5:MQTT-4.13.2-1", "5:MQTT-3.14.0-1")
@pytest.mark.parametrize("statement,version,data,reason", BAD_PACKETS, ids=[row[0] for row in BAD_PACKETS])
def test_malformed_packet_ends_the_connection(client, statement, version, data, reason):
    c = client(version)
    c.send(data)
    assert c.goodbye() == reason


# -- CONNECT --------------------------------------------------------------------------------------------------------------

@covers("3:MQTT-3.1.0-1", "5:MQTT-3.1.0-1")
def test_first_packet_must_be_connect(client, version):
    c = client(version, connect=False)
    c.send(packet(r.PINGREQ, 0, b""))
    assert c.expect_closed() == []


@covers("3:MQTT-3.1.0-2", "5:MQTT-3.1.0-2")
def test_second_connect_is_a_protocol_error(client, version):
    c = client(version)
    c.send(c.connect_bytes(client="again"))
    assert c.goodbye() == (0x82 if version == 5 else None)


@covers("3:MQTT-3.1.2-1", "5:MQTT-3.1.2-1")
def test_unknown_protocol_name(client, version):
    c = client(version, connect=False)
    c.send(c.connect_bytes(name="MQTX"))
    got = c.expect_closed()
    assert all(g.type == r.CONNACK and g.body[1] in (1, 0x84) for g in got)


@covers("3:MQTT-3.1.2-2", "5:MQTT-3.1.2-2")
@pytest.mark.parametrize("level,code", [(2, 1), (6, 0x84)])
def test_unknown_level(client, level, code):
    c = client(4, connect=False)
    c.send(c.connect_bytes(level=level))
    got = c.expect_closed()
    assert [g.type for g in got] == [r.CONNACK] and got[0].body[:2] == bytes([0, code])


@covers("3:MQTT-3.1.4-1", "3:MQTT-3.1.4-4", "3:MQTT-3.2.0-1", "5:MQTT-3.1.4-1", "5:MQTT-3.1.4-5", "5:MQTT-3.2.0-1",
        "5:MQTT-3.2.0-2")
def test_connack_is_first_and_only(client, version):
    c = client(version, connect=False)
    c.send(c.connect_bytes(client="first") + packet(r.PINGREQ, 0, b""))
    assert c.expect(r.CONNACK).body[:2] == b"\0\0"
    c.expect(r.PINGRESP)
    c.expect_nothing(0.2)


@covers("3:MQTT-3.1.3-5", "5:MQTT-3.1.3-5", "3:MQTT-3.1.3-3", "5:MQTT-3.1.3-3")
def test_client_ids_of_23_letters(client, version):
    for name in ("a", "0123456789abcdefghijklm", "NOPQRSTUVWXYZ"):
        client(version, client=name).disconnect()


@covers("3:MQTT-3.1.3-6", "3:MQTT-3.1.3-7", "5:MQTT-3.1.3-6", "5:MQTT-3.1.3-7", "5:MQTT-3.2.2-16")
def test_empty_client_id_gets_a_name(client):
    client(4, client="", clean=True).disconnect()
    c = client(5, client="", clean=False, p={"session_expiry": 60})
    assert c.connack["assigned_id"]
    c.disconnect()
    again = client(5, client=c.connack["assigned_id"], clean=False)
    assert again.session_present and "assigned_id" not in again.connack


@covers("3:MQTT-3.1.3-8", "3:MQTT-3.1.3-9", "3:MQTT-3.2.2-4", "3:MQTT-3.2.2-5")
def test_empty_client_id_wants_a_clean_session(client):
    c = client(4, connect=False)
    c.connect(reason=2, client="", clean=False)
    assert not c.session_present
    assert c.expect_closed() == []


@covers("5:MQTT-3.1.3-8", "5:MQTT-3.2.2-6", "5:MQTT-3.2.2-7")
def test_client_id_too_long(client):
    c = client(5, connect=False)
    c.connect(reason=0x85, client="x" * 300)
    assert not c.session_present
    assert c.expect_closed() == []


@covers("3:MQTT-3.1.2-18", "3:MQTT-3.1.2-19", "3:MQTT-3.1.2-20", "3:MQTT-3.1.2-21", "5:MQTT-3.1.2-16",
        "5:MQTT-3.1.2-17", "5:MQTT-3.1.2-18", "5:MQTT-3.1.2-19")
def test_user_and_password(client, version):
    client(version, user="guest", password="guest").disconnect()
    c = client(version, connect=False)
    c.connect(reason=0x86 if version == 5 else 4, user="guest", password="wrong")
    assert c.expect_closed() == []


def test_user_without_a_password_is_refused(client, version):
    c = client(version, connect=False)
    c.connect(reason=0x86 if version == 5 else 4, user="guest")


@covers("3:MQTT-3.1.4-2", "5:MQTT-3.1.4-3")
def test_take_over(client, version, unique):
    first = client(version, client=unique)
    second = client(version, client=unique)
    assert first.goodbye() == (0x8e if version == 5 else None)
    assert second.alive()


@covers("3:MQTT-3.1.2-24", "5:MQTT-3.1.2-22",
        "5:MQTT-3.2.2-22")
def test_keep_alive(client, version):
    c = client(version, keep_alive=1)
    assert c.expect_closed() == []
    patient = client(version, keep_alive=0)
    assert patient.alive()


@covers("5:MQTT-3.2.2-8", "5:MQTT-3.2.2-18")
def test_response_information(client):
    assert "response_info" not in client(5).connack
    assert client(5, client="ri", p={"request_response": 1}).connack["response_info"] == "mqtt/response/ri/"


@covers("5:MQTT-3.2.2-9", "5:MQTT-3.2.2-12")
def test_what_is_available(client):
    c = client(5)
    assert "maximum_qos" not in c.connack and "retain_available" not in c.connack
    assert c.connack["receive_maximum"] == 20 and c.connack["alias_maximum"] == 10
    assert c.connack["packet_maximum"] > 1 << 20


@covers("5:MQTT-4.12.0-1", "5:MQTT-3.1.2-30")
def test_unknown_authentication_method(client):
    client(5, connect=False).connect(reason=0x8c, p={"auth_method": "NOBODY-KNOWS"})


# -- sessions ------------------------------------------------------------------------------------------------------------------

@covers("3:MQTT-3.1.2-4", "3:MQTT-3.2.2-2", "3:MQTT-3.2.2-3", "3:MQTT-3.1.2-5", "5:MQTT-3.1.2-5", "5:MQTT-3.2.2-2",
        "5:MQTT-3.2.2-3", "3:MQTT-4.1.0-1", "3:MQTT-4.1.0-2", "5:MQTT-4.1.0-1", "5:MQTT-3.1.2-23")
def test_session_is_kept(client, version, unique):
    keep = {"clean": False, "client": unique, **({"p": {"session_expiry": 60}} if version == 5 else {})}
    c = client(version, **keep)
    assert not c.session_present
    assert c.subscribe(unique, qos=1) == [1]
    c.disconnect()
    client(version).publish(unique, b"kept", qos=1)
    again = client(version, **keep)
    assert again.session_present
    m = again.message()
    assert (m.topic, m.payload, m.qos, m.dup) == (unique, b"kept", 1, False)
    again.expect_nothing(0.2)


@covers("3:MQTT-3.1.2-6", "3:MQTT-3.2.2-1", "5:MQTT-3.1.2-4", "5:MQTT-3.1.2-6")
def test_clean_start_forgets(client, version, unique):
    keep = {"client": unique, **({"p": {"session_expiry": 60}} if version == 5 else {})}
    c = client(version, clean=False, **keep)
    c.subscribe(unique, qos=1)
    c.disconnect()
    client(version).publish(unique, b"x", qos=1)
    again = client(version, clean=True, **keep)
    assert not again.session_present
    again.expect_nothing(0.2)


@covers("5:MQTT-4.1.0-2")
def test_session_ends_with_its_connection(client, unique):
    c = client(5, clean=False, client=unique)
    c.subscribe(unique, qos=1)
    c.disconnect()
    assert not client(5, clean=False, client=unique).session_present


@covers("5:MQTT-4.1.0-2")
def test_session_expires(client, unique):
    c = client(5, clean=False, client=unique, p={"session_expiry": 2})
    c.disconnect()
    assert client(5, clean=False, client=unique, p={"session_expiry": 2}).session_present
    deadline = time.monotonic() + 40
    gone = False
    while not gone and time.monotonic() < deadline:
        probe = client(5, clean=False, client=unique, p={"session_expiry": 2})
        probe.disconnect()
        let_pass(2.3)  # the only way to see an end by time
        probe = client(5, clean=False, client=unique, p={"session_expiry": 2})
        gone = not probe.session_present
        probe.disconnect()
    assert gone


def test_disconnect_changes_the_expiry(client, unique):
    c = client(5, clean=False, client=unique, p={"session_expiry": 60})
    c.disconnect(reason=0, p={"session_expiry": 0})
    assert not client(5, clean=False, client=unique).session_present


@covers("5:MQTT-3.14.2-2")
def test_disconnect_cannot_begin_an_expiry(client, unique):
    c = client(5, clean=False, client=unique)
    c.send(packet(r.DISCONNECT, 0, b"\0" + props({"session_expiry": 5})))
    assert c.goodbye() == 0x82


@covers("3:MQTT-4.4.0-1", "5:MQTT-4.4.0-1", "3:MQTT-3.3.1-1", "5:MQTT-3.3.1-1")
@pytest.mark.parametrize("qos", [1, 2])
def test_unacknowledged_comes_again(client, version, unique, qos):
    keep = {"clean": False, "client": unique, **({"p": {"session_expiry": 60}} if version == 5 else {})}
    c = client(version, **keep)
    c.subscribe(unique, qos=qos)
    client(version).publish(unique, b"again", qos=qos)
    first = c.message(finish=False)
    assert not first.dup and first.qos == qos
    c.close()
    c = client(version, **keep)
    second = c.message()
    assert second.dup and second.pid == first.pid and second.payload == b"again"
    c.expect_nothing(0.2)


@covers("3:MQTT-4.3.3-1", "5:MQTT-4.3.3-4", "5:MQTT-4.3.3-5", "5:MQTT-4.3.3-6")
def test_pubrel_comes_again(client, version, unique):
    keep = {"clean": False, "client": unique, **({"p": {"session_expiry": 60}} if version == 5 else {})}
    c = client(version, **keep)
    c.subscribe(unique, qos=2)
    client(version).publish(unique, b"once", qos=2)
    m = c.message(finish=False)
    c.send_ack(r.PUBREC, m.pid)
    c.ack(r.PUBREL, m.pid)
    c.close()
    c = client(version, **keep)
    c.ack(r.PUBREL, m.pid)
    c.send_ack(r.PUBCOMP, m.pid)
    c.expect_nothing(0.2)


# -- PUBLISH in -----------------------------------------------------------------------------------------------------------------

@covers("3:MQTT-4.3.2-2", "3:MQTT-3.3.4-1", "5:MQTT-4.3.2-4", "5:MQTT-3.3.4-1", "3:MQTT-2.3.1-6", "5:MQTT-2.2.1-5")
def test_qos1_is_answered(client, version, unique):
    c = client(version)
    c.subscribe(unique, qos=2)
    c.send(c.publish_bytes(unique, b"1", qos=1, pid=77))
    got = [c.read(), c.read()]
    acks = [g for g in got if g.type == r.PUBACK]
    assert len(acks) == 1 and acks[0].body[:2] == b"\0\x4d"


@covers("3:MQTT-4.3.3-2", "5:MQTT-4.3.3-8", "5:MQTT-4.3.3-9", "5:MQTT-4.3.3-10", "5:MQTT-4.3.3-11", "5:MQTT-4.3.3-12")
def test_qos2_is_taken_once(client, version, unique):
    sub, c = client(version), client(version)
    sub.subscribe(unique, qos=0)
    for dup in (False, True, True):
        c.send(c.publish_bytes(unique, b"2", qos=2, pid=9, dup=dup))
        c.ack(r.PUBREC, 9)
    for _ in range(2):
        c.send_ack(r.PUBREL, 9)
        c.ack(r.PUBCOMP, 9)
    assert sub.message().payload == b"2"
    sub.expect_nothing(0.2)
    c.send(c.publish_bytes(unique, b"3", qos=2, pid=9))
    c.ack(r.PUBREC, 9)
    assert sub.message().payload == b"3"


@covers("3:MQTT-4.6.0-2", "3:MQTT-4.6.0-3", "3:MQTT-4.6.0-4", "5:MQTT-4.6.0-2", "5:MQTT-4.6.0-3", "5:MQTT-4.6.0-4")
def test_answers_come_in_order(client, version, unique):
    c = client(version)
    data = b"".join(c.publish_bytes(unique, b"x", qos=1, pid=i) for i in range(1, 20))
    c.send(data)
    assert [c.ack(r.PUBACK).pid for _ in range(1, 20)] == list(range(1, 20))
    c.send(b"".join(c.publish_bytes(unique, b"x", qos=2, pid=i) for i in range(1, 20)))
    assert [c.ack(r.PUBREC).pid for _ in range(1, 20)] == list(range(1, 20))
    c.send(b"".join(packet(r.PUBREL, 2, struct.pack(">H", i)) for i in range(1, 20)))
    assert [c.ack(r.PUBCOMP).pid for _ in range(1, 20)] == list(range(1, 20))


@covers("5:MQTT-3.3.4-7", "5:MQTT-3.3.4-9", "5:MQTT-4.9.0-1")
def test_receive_maximum_is_held(client, unique):
    c = client(5)
    for i in range(1, 22):
        c.send(c.publish_bytes(unique, b"x", qos=2, pid=i))
    got = c.expect_closed()
    assert got[-1].type == r.DISCONNECT and got[-1].body[0] == 0x93


@covers("5:MQTT-3.3.2-7", "5:MQTT-3.3.2-12")
def test_topic_alias_in(client, unique):
    sub, c = client(5), client(5)
    sub.subscribe(unique, qos=0)
    c.publish(unique, b"a", p={"alias": 3})
    c.publish("", b"b", p={"alias": 3})
    assert [sub.message().payload for _ in range(2)] == [b"a", b"b"]
    other = client(5)
    other.publish("", b"c", p={"alias": 3})
    assert other.goodbye() == 0x82


@covers("5:MQTT-3.1.2-26", "5:MQTT-3.1.2-27", "5:MQTT-3.3.2-10", "5:MQTT-3.3.2-11")
def test_topic_alias_out(client, unique):
    sub, plain, c = client(5, p={"alias_maximum": 1}), client(5), client(5)
    sub.subscribe(unique + "/#")
    plain.subscribe(unique + "/#")
    for name in ("/a", "/a", "/b"):
        c.publish(unique + name, b"x")
    got = [sub.message() for _ in range(3)]
    assert [(m.topic, m.props.get("alias")) for m in got] == [(unique + "/a", 1), ("", 1), (unique + "/b", None)]
    assert [plain.message().props for _ in range(3)] == [{}] * 3


@covers("5:MQTT-3.1.2-24", "5:MQTT-3.1.2-25")
def test_maximum_packet_size_out(client, unique):
    sub, c = client(5, p={"packet_maximum": 100}), client(5)
    sub.subscribe(unique, qos=1)
    c.publish(unique, b"x" * 200, qos=1)
    c.publish(unique, b"small", qos=1)
    assert sub.message().payload == b"small"


@covers("5:MQTT-3.3.4-9", "5:MQTT-4.9.0-2", "5:MQTT-4.9.0-3",
        "5:MQTT-3.3.4-10")
def test_receive_maximum_out(client, unique):
    sub, c = client(5, p={"receive_maximum": 2}), client(5)
    sub.subscribe(unique, qos=1)
    for i in range(4):
        c.publish(unique, b"%d" % i, qos=1)
    first = [sub.message(finish=False) for _ in range(2)]
    sub.expect_nothing(0.3)
    assert sub.alive()
    c.publish(unique, b"qos 0 passes", qos=0)
    sub.send_ack(r.PUBACK, first[0].pid)
    assert sub.message().payload == b"2"


@covers("5:MQTT-3.3.2-4", "5:MQTT-3.3.2-15", "5:MQTT-3.3.2-16", "5:MQTT-3.3.2-17", "5:MQTT-3.3.2-18", "5:MQTT-3.3.2-20",
        "5:MQTT-3.1.3-10")
def test_properties_pass_in_order(client, unique):
    sub, c = client(5), client(5)
    sub.subscribe(unique, qos=1)
    sent = {"payload_format": 1, "content_type": "text/plain", "response_topic": "back/here", "correlation": b"\0\xff",
            "user": [("b", "1"), ("a", "2"), ("b", "1"), ("", "")]}
    c.publish(unique, "héllo", qos=1, p=sent)
    assert sub.message().props == sent


@covers("5:MQTT-3.3.2-5", "5:MQTT-3.3.2-6")
def test_message_expiry(client, unique):
    c = client(5)
    keep = {"clean": False, "client": unique, "p": {"session_expiry": 60}}
    sub = client(5, **keep)
    sub.subscribe(unique, qos=1)
    sub.disconnect()
    c.publish(unique, b"short", qos=1, p={"message_expiry": 1})
    c.publish(unique, b"long", qos=1, p={"message_expiry": 60})
    let_pass(1.2)  # the message's own time
    m = client(5, **keep).message()
    assert m.payload == b"long" and 10 < m.props["message_expiry"] < 60


@covers("5:MQTT-3.4.2-1", "5:MQTT-3.5.2-1")
@pytest.mark.parametrize("qos", [1, 2])
def test_nobody_subscribes(client, unique, qos):
    assert client(5).publish(unique, b"x", qos=qos) == 0x10
    assert client(4).publish(unique, b"x", qos=qos) == 0


@covers("5:MQTT-3.7.2-1")
def test_pubrel_for_nothing(client, version):
    c = client(version)
    c.send_ack(r.PUBREL, 1234)
    assert c.ack(r.PUBCOMP, 1234).reason == (0x92 if version == 5 else 0)


@covers("5:MQTT-3.6.2-1")
def test_pubrec_for_nothing(client, version):
    c = client(version)
    c.send_ack(r.PUBREC, 1234)
    assert c.ack(r.PUBREL, 1234).reason == (0x92 if version == 5 else 0)


# -- retained ----------------------------------------------------------------------------------------------------------------------

@covers("3:MQTT-3.3.1-5", "3:MQTT-3.3.1-6", "3:MQTT-3.3.1-7", "3:MQTT-3.3.1-8", "3:MQTT-3.3.1-9", "5:MQTT-3.3.1-5",
        "5:MQTT-3.3.1-8", "5:MQTT-3.3.1-9", "5:MQTT-3.3.1-12")
def test_retained(client, version, unique):
    c = client(version)
    live = client(version)
    live.subscribe(unique + "/#", qos=1)
    for qos in (0, 1, 2):
        c.publish(unique + "/a", b"%d" % qos, qos=qos, retain=True)
        m = live.message()
        assert not m.retain and m.payload == b"%d" % qos
    late = client(version)
    late.subscribe(unique + "/+", qos=2)
    m = late.message()
    assert m.retain and m.payload == b"2" and m.qos == 2
    c.publish(unique + "/a", b"not kept", qos=1)
    assert not late.message().retain
    again = client(version)
    again.subscribe(unique + "/a", qos=0)
    assert again.message().payload == b"2"


@covers("3:MQTT-3.3.1-10", "3:MQTT-3.3.1-11", "3:MQTT-3.3.1-12", "5:MQTT-3.3.1-6", "5:MQTT-3.3.1-7")
def test_retained_is_cleared_by_an_empty_one(client, version, unique):
    c, live = client(version), client(version)
    live.subscribe(unique)
    c.publish(unique, b"x", qos=1, retain=True)
    c.publish(unique, b"", qos=1, retain=True)
    assert [live.message().payload for _ in range(2)] == [b"x", b""]
    late = client(version)
    late.subscribe(unique)
    late.expect_nothing(0.2)


@covers("3:MQTT-3.8.4-3", "5:MQTT-3.8.4-3", "5:MQTT-3.3.1-9")
def test_repeated_subscription_brings_retained_again(client, version, unique):
    c = client(version)
    c.publish(unique, b"r", qos=1, retain=True)
    sub = client(version)
    for qos in (0, 1, 0):
        assert sub.subscribe(unique, qos=qos) == [qos]
        m = sub.message()
        assert m.retain and m.qos == qos


@covers("5:MQTT-3.3.1-10", "5:MQTT-3.3.1-11")
def test_retain_handling(client, unique):
    c = client(5)
    c.publish(unique, b"r", qos=1, retain=True)
    sub = client(5)
    sub.subscribe(unique, options=0x10)
    assert sub.message().retain
    sub.subscribe(unique, options=0x10)
    sub.expect_nothing(0.2)
    other = client(5)
    other.subscribe(unique, options=0x20)
    other.expect_nothing(0.2)


@covers("5:MQTT-3.3.1-12", "5:MQTT-3.3.1-13")
def test_retain_as_published(client, unique):
    c, sub = client(5), client(5)
    sub.subscribe(unique, options=0x08)
    c.publish(unique, b"a", retain=True)
    c.publish(unique, b"b", retain=False)
    assert [(sub.message().retain) for _ in range(2)] == [True, False]


def test_retained_expires(client, unique):
    c = client(5)
    c.publish(unique, b"r", qos=1, retain=True, p={"message_expiry": 2})
    sub = client(5)
    sub.subscribe(unique)
    assert sub.message().props["message_expiry"] in (1, 2)
    let_pass(2.1)
    late = client(5)
    late.subscribe(unique)
    late.expect_nothing(0.2)


# -- subscriptions ----------------------------------------------------------------------------------------------------------------------

@covers("3:MQTT-3.8.4-1", "3:MQTT-3.8.4-2", "3:MQTT-3.8.4-4", "3:MQTT-3.8.4-5", "3:MQTT-3.9.3-1", "5:MQTT-3.8.4-1",
        "5:MQTT-3.8.4-2", "5:MQTT-3.8.4-5", "5:MQTT-3.8.4-6", "5:MQTT-3.8.4-7", "5:MQTT-3.9.3-1", "5:MQTT-3.9.3-2",
        "3:MQTT-2.3.1-7", "3:MQTT-3.9.3-2", "5:MQTT-2.2.1-6")
def test_suback_has_a_code_for_each(client, version, unique):
    c = client(version)
    body = struct.pack(">H", 5) + (b"\0" if version == 5 else b"")
    body += b"".join(text(unique + f) + bytes([q]) for f, q in (("/a", 0), ("/b", 1), ("/#/x", 1), ("/c", 2)))
    c.send(packet(r.SUBSCRIBE, 2, body))
    got = c.expect(r.SUBACK)
    assert got.body == b"\0\5" + (b"\0" if version == 5 else b"") + bytes([0, 1, 0x8f if version == 5 else 0x80, 2])


@covers("3:MQTT-3.8.4-6", "5:MQTT-3.8.4-8")
def test_qos_is_the_lower_of_both(client, version, unique):
    c = client(version)
    for granted in (0, 1, 2):
        sub = client(version)
        sub.subscribe(unique, qos=granted)
        for qos in (0, 1, 2):
            c.publish(unique, b"x", qos=qos)
            assert sub.message().qos == min(qos, granted)
        sub.disconnect()


@covers("3:MQTT-3.3.5-1", "5:MQTT-3.3.4-2", "5:MQTT-3.3.4-3", "5:MQTT-3.3.4-4", "5:MQTT-3.3.4-5")
def test_overlapping_filters_bring_one_copy(client, unique):
    sub, c = client(5), client(5)
    sub.subscribe(unique + "/#", options=0, p={"subid": 1})
    sub.subscribe(unique + "/+", options=2, p={"subid": 200})
    sub.subscribe(unique + "/a", options=1)
    c.publish(unique + "/a", b"x", qos=2)
    m = sub.message()
    assert m.qos == 2 and sorted(m.props["subid"]) == [1, 200]
    sub.expect_nothing(0.2)


@covers("5:MQTT-3.8.3-3", "5:MQTT-3.8.4-4")
def test_no_local(client, unique):
    c, other = client(5, client=unique), client(5)
    c.subscribe(unique, options=4)
    c.publish(unique, b"own")
    other.publish(unique, b"other")
    assert c.message().payload == b"other"


@covers("3:MQTT-3.10.4-1", "3:MQTT-3.10.4-2", "3:MQTT-3.10.4-4", "3:MQTT-3.10.4-5", "5:MQTT-3.10.4-1",
        "5:MQTT-3.10.4-2", "5:MQTT-3.10.4-4", "5:MQTT-3.10.4-5", "5:MQTT-3.10.4-6", "5:MQTT-3.11.3-1",
        "5:MQTT-3.11.3-2",
        "3:MQTT-2.3.1-7", "3:MQTT-3.10.4-6", "5:MQTT-2.2.1-6")
def test_unsubscribe(client, version, unique):
    sub, c = client(version), client(version)
    sub.subscribe(unique + "/+", qos=1)
    sub.subscribe(unique + "/a", qos=0)
    assert sub.unsubscribe(unique + "/+", "never/was") == ([0, 0x11] if version == 5 else [])
    c.publish(unique + "/b", b"gone", qos=1)
    c.publish(unique + "/a", b"stays", qos=1)
    m = sub.message()
    assert (m.payload, m.qos) == (b"stays", 0)


@covers("3:MQTT-4.7.1-1", "3:MQTT-4.7.1-2", "3:MQTT-4.7.1-3", "5:MQTT-4.7.1-1", "5:MQTT-4.7.1-2")
@pytest.mark.parametrize("bad", ["a#", "#/a", "a/#/b", "a+", "+a/b", "##"])
def test_bad_filters(client, version, bad):
    c = client(version)
    assert c.subscribe(bad) == [0x8f if version == 5 else 0x80]
    assert c.alive()


@covers("3:MQTT-4.7.2-1", "5:MQTT-4.7.2-1", "3:MQTT-4.7.3-4", "5:MQTT-4.7.3-4")
def test_dollar_topics(client, version, unique):
    sub, sys, c = client(version), client(version), client(version)
    sub.subscribe("#", "+/" + unique)
    sys.subscribe("$other/#")
    c.publish("$other/" + unique, b"x")
    assert sys.message().topic == "$other/" + unique
    c.publish(unique, b"seen")
    while True:  # other tests' retained messages may come first
        m = sub.message()
        assert not m.topic.startswith("$")
        if m.topic == unique:
            break


def test_sys_topics(client):
    c = client(5)
    c.subscribe("$SYS/broker/#")
    seen = {c.message().topic for _ in range(5)}
    assert all(t.startswith("$SYS/broker/") for t in seen)
    assert client(5).publish("$SYS/broker/version", b"x", qos=1) == 0x87


@covers("5:MQTT-4.8.2-1", "5:MQTT-4.8.2-2", "5:MQTT-4.8.2-3")
def test_shared_subscription(client, unique):
    members = [client(5) for _ in range(2)]
    for m in members:
        assert m.subscribe(f"$share/g/{unique}", qos=1) == [1]
    c = client(5)
    for i in range(10):
        c.publish(unique, b"%d" % i, qos=1)
    got = [[], []]
    deadline = time.monotonic() + 30
    while len(got[0]) + len(got[1]) < 10 and time.monotonic() < deadline:
        for n, m in enumerate(members):
            with contextlib.suppress(TimeoutError):
                got[n].append(m.message(timeout_s=0.1).payload)
    for m in members:
        m.expect_nothing(0.2)
    assert sorted(got[0] + got[1]) == [b"%d" % i for i in range(10)]
    assert got[0] and got[1]


def test_shared_unacknowledged_goes_to_another(client, unique):
    first = client(5)
    first.subscribe(f"$share/g/{unique}", qos=1)
    c = client(5)
    c.publish(unique, b"x", qos=1)
    first.message(finish=False)
    second = client(5)
    second.subscribe(f"$share/g/{unique}", qos=1)
    second.expect_nothing(0.2)
    first.close()
    assert second.message().payload == b"x"


def test_shared_names_are_checked(client):
    c = client(5)
    assert c.subscribe("$share/g", "$share//a", "$share/g+/a", "$share/g/a/#") == [0x8f, 0x8f, 0x8f, 0]


# -- wills ------------------------------------------------------------------------------------------------------------------------------

@covers("3:MQTT-3.1.2-8", "3:MQTT-3.1.2-16", "3:MQTT-3.1.2-17", "5:MQTT-3.1.2-7", "5:MQTT-3.1.2-8", "5:MQTT-3.1.2-14",
        "5:MQTT-3.1.2-15", "5:MQTT-3.14.4-3")
@pytest.mark.parametrize("retain", [False, True])
def test_will(client, version, unique, retain):
    sub = client(version)
    sub.subscribe(unique, qos=2)
    client(version, will=(unique, b"gone", 1, retain)).close()
    m = sub.message()
    assert (m.payload, m.qos, m.retain) == (b"gone", 1, False)
    late = client(version)
    late.subscribe(unique, qos=2)
    if retain:
        assert late.message().payload == b"gone"
    else:
        late.expect_nothing(0.2)


@covers("3:MQTT-3.1.2-10", "3:MQTT-3.14.4-3", "5:MQTT-3.1.2-10")
def test_no_will_after_a_normal_end(client, version, unique):
    sub = client(version)
    sub.subscribe(unique)
    client(version, will=(unique, b"gone", 0, False)).disconnect()
    sub.expect_nothing(0.3)


def test_disconnect_with_will(client, unique):
    sub = client(5)
    sub.subscribe(unique)
    client(5, will=(unique, b"gone", 0, False)).disconnect(reason=4)
    assert sub.message().payload == b"gone"


@covers("5:MQTT-3.1.3-9")
def test_will_delay(client, unique):
    sub = client(5)
    sub.subscribe(unique)
    keep = {"client": unique + "w", "clean": False, "p": {"session_expiry": 60}}
    client(5, will=(unique, b"late", 0, False), will_props={"will_delay": 3}, **keep).close()
    again = client(5, **keep)
    assert again.session_present
    sub.expect_nothing(3.5)
    again.disconnect()
    client(5, will=(unique, b"late", 0, False), will_props={"will_delay": 2}, **keep).close()
    sub.expect_nothing(0.5)
    assert sub.message().payload == b"late"


def test_will_properties(client, unique):
    sub = client(5)
    sub.subscribe(unique)
    sent = {"content_type": "t", "user": [("k", "v"), ("k", "w")]}
    client(5, will=(unique, b"w", 0, False), will_props={"will_delay": 0, **sent}).close()
    assert sub.message().props == sent


# -- goodbye ----------------------------------------------------------------------------------------------------------------------------------

@covers("3:MQTT-3.14.4-1", "3:MQTT-3.14.4-2", "5:MQTT-3.14.4-1", "5:MQTT-3.14.4-2")
def test_disconnect_closes(client, version):
    client(version).disconnect()


@covers("3:MQTT-3.12.4-1", "5:MQTT-3.12.4-1")
def test_ping(client, version):
    assert client(version).alive()


@covers("3:MQTT-4.8.0-2")
def test_packet_too_large(client, version):
    c = client(version)
    c.send(bytes([r.PUBLISH << 4]) + varint(200 << 20))
    assert c.goodbye() == (0x95 if version == 5 else None)


def test_large_message_in_pieces(client, version, unique):
    sub, c = client(version), client(version)
    sub.subscribe(unique, qos=1)
    body = bytes(range(256)) * 4096
    c.publish(unique, body, qos=1)
    assert sub.message().payload == body
