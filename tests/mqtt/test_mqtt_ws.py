"""MQTT over WebSocket, frame by frame (section 6)."""
import pytest
import raw as r
from raw import packet
from ws import BINARY, CLOSE, PING, TEXT, WsRaw, frame

covers = pytest.mark.covers


@pytest.fixture(name="web")
def _web(node):
    made = []

    def make(version=5, connect=True, **kw):
        c = WsRaw(node.ports["mqtt_ws"], version, **kw)
        made.append(c)
        if connect:
            c.connect()
        return c

    yield make
    for c in made:
        c.close()


@covers("3:MQTT-6.0.0-4", "5:MQTT-6.0.0-4")
@pytest.mark.parametrize("offered", ["mqtt", "chat, mqtt", "mqtt, mqttv3.1"])
def test_sub_protocol(web, version, offered):
    c = web(version, protocols=offered)
    assert (c.status, c.headers["sec-websocket-protocol"]) == (101, "mqtt")


@covers("3:MQTT-6.0.0-2", "5:MQTT-6.0.0-2")
@pytest.mark.parametrize("split", [1, 3, 0])
def test_packets_and_frames_do_not_meet(web, version, unique, split):
    """Packets in pieces, and many in one frame."""
    c = web(version, split=split)
    c.subscribe(unique, qos=1)
    c.send(b"".join(c.publish_bytes(unique, b"%d" % i, qos=0) for i in range(50)))
    assert [c.message().payload for _ in range(50)] == [b"%d" % i for i in range(50)]


@covers("3:MQTT-6.0.0-1", "5:MQTT-6.0.0-1")
def test_text_ends_the_connection(web, version, unique):
    c = web(version)
    c.subscribe(unique)
    c.publish(unique, b"x")
    c.message()
    assert c.opcodes == {BINARY}  # what the server sends is
    c.sock.sendall(frame(TEXT, packet(r.PINGREQ, 0, b"")))
    assert c.expect_closed() == []
    assert CLOSE in c.opcodes


def test_control_frames_between(web, version):
    c = web(version)
    half = packet(r.PINGREQ, 0, b"")
    c.sock.sendall(frame(BINARY, half[:1], fin=False) + frame(PING, b"hello") + frame(0, half[1:]))
    c.expect(r.PINGRESP)
