"""$SYS topics: those of a real Mosquitto, and what they say."""
import shutil
import subprocess
import time

import pytest
from mqtest.broker import free_port, wait_until
from raw import Raw

MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/bin")


def listen(c, seconds):
    """All that $SYS says: {topic: text}."""
    said, end = {}, time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            m = c.message(timeout_s=0.3)
        except TimeoutError:
            continue
        said[m.topic] = m.payload.decode()
    return said


@pytest.fixture(name="theirs")
def _theirs(tmp_path):
    if not MOSQUITTO:
        pytest.skip("mosquitto is not installed")
    port = free_port()
    conf = tmp_path / "conf"
    conf.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nsys_interval 1\n")
    with open(tmp_path / "log", "wb") as log, subprocess.Popen([MOSQUITTO, "-c", conf], stdout=log, stderr=log) as proc:
        yield port
        proc.terminate()


def test_all_of_mosquittos_topics(client, theirs):
    """A client of ours and one of theirs, until ours has said whatever theirs did. Ours may say more: a load that is still 0."""
    peer = wait_until(lambda: try_connect(theirs), 10, "Mosquitto answers")
    ours = client(5)
    said = [set(), set()]
    for c in (peer, ours):
        c.subscribe("$SYS/#")

    def listen_both():
        for names, c in zip(said, (peer, ours)):
            names.update(listen(c, 0.7))
        return len(said[0]) > 40 and said[0] <= said[1]

    try:
        wait_until(listen_both, 30, "each of Mosquitto's topics")
    except Exception:
        print("missing:", sorted(said[0] - said[1]))
        raise
    finally:
        peer.close()


def try_connect(port):
    try:
        return Raw(port, 5).connect(client="sys")
    except OSError:
        return None


def test_counts(own_node, client):
    watch = client(5, to=own_node, client="watch")
    watch.subscribe("$SYS/broker/#")
    keep = {"clean": False, "p": {"session_expiry": 60}}
    away = client(5, to=own_node, client="away", **keep)
    away.subscribe("stored/#", "also", qos=1)
    away.disconnect()
    short = client(5, to=own_node, client="short", clean=False, p={"session_expiry": 1})
    short.disconnect()
    c = client(5, to=own_node)
    c.subscribe("$share/g/x", "own", qos=0)
    for i in range(5):
        c.publish(f"stored/{i}", b"0123456789", qos=1, retain=i == 0)
    said, want = {}, {
        "clients/connected": "2", "clients/active": "2", "clients/disconnected": "1", "clients/inactive": "1",
        "clients/total": "3", "clients/expired": "1", "publish/messages/received": "5",
        "publish/bytes/received": "50", "subscriptions/count": "4", "shared_subscriptions/count": "1",
        "messages/stored": "6", "store/messages/count": "6", "store/messages/bytes": "60"}

    def all_said():
        c.alive()
        said.update(listen(watch, 0.5))
        return (all(said.get(f"$SYS/broker/{name}") == text for name, text in want.items() if text) and
                float(said.get("$SYS/broker/load/messages/received/15min", 0)) > 0)

    try:
        wait_until(all_said, 20, "the counts")
    except Exception:
        print({name: (text, said.get(f"$SYS/broker/{name}")) for name, text in want.items()})
        raise
    assert said["$SYS/broker/version"].startswith("mqgate version ")
    assert said["$SYS/broker/uptime"].endswith(" seconds")
    numbers = {name[12:]: float(text) for name, text in said.items() if name[12:] not in ("version", "uptime")}
    assert all(n >= 0 for n in numbers.values())
    assert numbers["heap/maximum"] >= 1 << 20 and numbers["clients/maximum"] >= 2
    assert numbers["load/messages/received/15min"] < numbers["load/messages/received/1min"]
