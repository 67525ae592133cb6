"""How large a packet may be, both ways: the longest names, and what the client's Maximum Packet Size leaves out."""
import struct

import pytest
import raw as r
from raw import packet, props, read_props, text, varint
from scram import Scram

covers = pytest.mark.covers
SMALL = 20  # CONNACK fits, no reason string does


@covers("3:MQTT-4.7.3-3", "5:MQTT-4.7.3-3")
def test_longest_topic_and_filter(client, version):
    name = "x" * 65535
    c = client(version)
    assert c.subscribe(name, "y/" + "z" * 65531 + "/+", qos=1) == [1, 1]
    for topic in (name, "y/" + "z" * 65531 + "/a"):
        c.publish(topic, b"far", qos=0)
        assert c.message().topic == topic
    assert c.unsubscribe(name) == ([0] if version == 5 else [])


class Measured(r.Raw):
    """Notes how large the server's packets are."""
    largest = 0

    def read(self, timeout_s=30.0):
        got = super().read(timeout_s)
        self.largest = max(self.largest, 1 + len(varint(len(got.body))) + len(got.body))
        return got


@pytest.fixture(name="measured")
def _measured(node):
    made = []

    def make(limit, reason=0, **kw):
        c = Measured(node.ports["mqtt"], 5)
        made.append((c, limit))
        c.connect(reason=reason, client="m" * 8, p={"packet_maximum": limit}, **kw)
        return c

    yield make
    for c, limit in made:
        c.close()
        assert c.largest <= limit


@covers("5:MQTT-3.1.2-24", "5:MQTT-3.2.2-19", "5:MQTT-3.2.2-20")
@pytest.mark.parametrize("limit, told", [(SMALL, False), (1000, True)])
def test_connack_of_a_refusal(measured, limit, told):
    c = measured(limit, reason=0x86, user="guest", password="wrong")
    assert ("reason_string" in c.connack) == told


@covers("5:MQTT-3.4.2-2", "5:MQTT-3.4.2-3", "5:MQTT-3.5.2-2", "5:MQTT-3.5.2-3", "5:MQTT-3.6.2-2", "5:MQTT-3.6.2-3",
        "5:MQTT-3.7.2-2", "5:MQTT-3.7.2-3", "5:MQTT-3.9.2-1", "5:MQTT-3.9.2-2", "5:MQTT-3.11.2-1", "5:MQTT-3.11.2-2")
def test_refusals_are_small(measured):
    c = measured(SMALL)
    assert [c.publish("$SYS/x", b"no", qos=q) for q in (1, 2)] == [0x87, 0x87]
    for sent, answered in ((r.PUBREC, r.PUBREL), (r.PUBREL, r.PUBCOMP)):
        c.send_ack(sent, 1234)
        assert c.ack(answered, 1234).reason == 0x92
    assert c.subscribe("bad/#/x") == [0x8f]
    assert c.unsubscribe("never/was") == [0x11]


@covers("5:MQTT-3.14.2-1", "5:MQTT-3.14.2-3", "5:MQTT-3.14.2-4")
@pytest.mark.parametrize("limit, told", [(SMALL, False), (1000, True)])
def test_disconnect(measured, limit, told):
    c = measured(limit)
    c.send(packet(r.PUBLISH, 0, text("a/#") + b"\0"))
    got = c.expect(r.DISCONNECT)
    assert got.body[0] == 0x90
    found = read_props(got.body, 1)[0] if len(got.body) > 1 else {}
    assert ("reason_string" in found) == told and "session_expiry" not in found
    assert c.expect_closed() == []


@covers("5:MQTT-3.15.2-2", "5:MQTT-3.15.2-3")
def test_auth_that_does_not_fit(client):
    """The connection ends; an AUTH without its data would be none."""
    c = client(connect=False)
    c.send(c.connect_bytes(p={"auth_method": "SCRAM-SHA-256", "auth_data": Scram("ada", "x").first(), "packet_maximum": SMALL}))
    c.connect_answer(reason=0x95)
    assert c.expect_closed() == []


@covers("5:MQTT-3.1.2-25")
def test_suback_that_does_not_fit_is_left_out(client, unique):
    c = client(5, client="n" * 8, p={"packet_maximum": SMALL})
    body = b"\0\5" + props({}) + b"".join(text(f"{unique}/{i}") + b"\0" for i in range(SMALL))
    c.send(packet(r.SUBSCRIBE, 2, body))
    assert c.alive()


def test_connack_that_does_not_fit(client):
    c = client(5, connect=False)
    c.send(c.connect_bytes(client="o" * 8, p={"packet_maximum": 5}))
    assert c.expect_closed() == []


@covers("3:MQTT-2.2.2-1")
def test_flags_of_what_the_server_sends(client, version, unique):
    """Bits 3 to 0 of each packet but PUBLISH."""
    c = client(version, connect=False)
    c.send(c.connect_bytes())
    c.send(packet(r.SUBSCRIBE, 2, b"\0\1" + (props({}) if version == 5 else b"") + text(unique) + b"\2"))
    c.send(c.publish_bytes(unique, b"x", qos=2, pid=1) + packet(r.PINGREQ, 0, b""))
    seen = {}
    while r.PUBLISH not in seen or r.PUBREC not in seen or r.PINGRESP not in seen:
        got = c.read()
        seen[got.type] = got
    pid = struct.unpack_from(">H", seen[r.PUBLISH].body, 2 + len(unique))[0]
    c.send_ack(r.PUBREC, pid)
    c.send_ack(r.PUBREL, 1)
    c.send(packet(r.UNSUBSCRIBE, 2, b"\0\2" + (props({}) if version == 5 else b"") + text(unique)))
    while r.UNSUBACK not in seen or r.PUBREL not in seen or r.PUBCOMP not in seen:
        got = c.read()
        seen[got.type] = got
    flags = {kind: got.flags for kind, got in seen.items() if kind != r.PUBLISH}
    assert flags == {kind: 2 if kind == r.PUBREL else 0 for kind in flags} and len(flags) == 7
