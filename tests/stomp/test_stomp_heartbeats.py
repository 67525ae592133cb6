"""Heart-beats, each way alone, and with peers that are slow: to read, to write, or both."""
import time

import pytest

from mqtest.broker import wait_until

INTERVAL_MS = 1500  # a client is given twice that; tests of life beat ten times as often


def test_the_client_may_beat_alone(stomp, on_rabbitmq):
    """Line ends alone, and a frame that comes byte by byte, are signs of life; then silence is none."""
    beats, dribbles = (stomp(heart_beat=f"{INTERVAL_MS},0") for _ in range(2))
    assert beats.connected["heart-beat"] == ("0,1000" if on_rabbitmq else f"0,{INTERVAL_MS}")
    frame = dribbles.frame("SEND", {"destination": "/queue/heart", "receipt": "r"}, b"slow")
    end = time.monotonic() + 3 * INTERVAL_MS / 1000
    at = 0
    while time.monotonic() < end:
        beats.raw(b"\n")
        if at < len(frame) - 1:
            dribbles.raw(frame[at:at + 1])
            at += 1
        time.sleep(INTERVAL_MS / 10000)
    dribbles.raw(frame[at:])
    assert dribbles.receipt()["receipt-id"] == "r"
    beats.send("SEND", {"destination": "/queue/heart", "receipt": "alive"}, b"x")
    assert beats.receipt()["receipt-id"] == "alive"
    assert on_rabbitmq or beats.beats == dribbles.beats == 0  # they asked for none (RabbitMQ: a line end behind each frame)
    beats.ended()


def test_the_server_may_beat_alone(stomp, on_rabbitmq):
    c = stomp(heart_beat="0,200")
    assert c.connected["heart-beat"] == ("1000,0" if on_rabbitmq else "200,0")

    def three():
        with pytest.raises(TimeoutError):
            c.next(0.2)
        return c.beats >= 3

    wait_until(three, 20, "heart-beats come")
    c.send("SEND", {"destination": "/queue/heart", "receipt": "r"}, b"x")  # it said nothing, and is still there
    assert c.receipt()["receipt-id"] == "r"


def test_beats_stand_between_frames_for_a_client_that_is_slow_to_read(stomp, unique):
    queue = f"/queue/{unique('q')}"
    c, sender = stomp(heart_beat="0,100"), stomp()
    c.subscribe(queue)
    body = bytes(range(256)) * 2000
    for _ in range(30):
        sender.put(queue, body)
    wait_until(lambda: len(c.sock.recv(1 << 20, 2)) > 100, 10, "the first ones wait to be read")  # MSG_PEEK
    quiet_until = time.monotonic() + 0.5
    while time.monotonic() < quiet_until:  # and it reads in sips
        c.data += c.sock.recv(1000)
        time.sleep(0.02)
    assert [c.expect("MESSAGE", 20).body == body for _ in range(30)] == [True] * 30


@pytest.mark.parametrize("value", ["often", "100", "1,2,3", "-1,0", "1.5,0", "99999999999,0"])
def test_what_means_nothing_is_refused(stomp, value, on_rabbitmq):
    if on_rabbitmq:
        pytest.skip("RabbitMQ's connection dies of it")
    c = stomp(connect=False)
    c.send("CONNECT", {"accept-version": "1.2", "host": "/", "login": "guest", "passcode": "guest", "heart-beat": value})
    error = c.error()
    assert error["message"] == "Invalid header" and b"heart-beat" in error.body
