"""What survives a restart and a kill -9: sessions, queued messages, retained messages, exactly once."""
import struct
import threading
import time

import pytest
import raw as r
from conftest import gateway
from mqtest.broker import wait_until
from raw import Closed, Raw, packet

KEEP = {"clean": False, "p": {"session_expiry": 3600}}


def keep(version):
    return {"clean": False, **({"p": {"session_expiry": 3600}} if version == 5 else {})}


def restart(node, hard):
    if hard:
        node.kill9()
        node.start()
    else:
        node.restart()


def both_ways(test):
    return pytest.mark.parametrize("hard", [False, True], ids=["term", "kill9"])(test)


@both_ways
def test_session_outlives_the_node(own_node, client, version, hard):
    c = client(version, to=own_node, client="s", **keep(version))
    c.subscribe("keep/+", qos=1)
    c.subscribe("twice/+", qos=2)
    c.disconnect()
    p = client(version, to=own_node)
    for i in range(5):
        p.publish("keep/a", b"%d" % i, qos=1)
        p.publish("twice/a", b"%d" % i, qos=2)
    restart(own_node, hard)
    c = client(version, to=own_node, client="s", **keep(version))
    assert c.session_present
    got = [c.message() for _ in range(10)]
    for topic, qos in (("keep/a", 1), ("twice/a", 2)):
        mine = [m for m in got if m.topic == topic]
        assert [m.payload for m in mine] == [b"%d" % i for i in range(5)]
        assert {m.qos for m in mine} == {qos}
    p = client(version, to=own_node)
    p.publish("keep/b", b"new", qos=1)
    assert c.message().payload == b"new"


@both_ways
def test_options_and_identifiers_outlive_the_node(own_node, client, hard):
    c = client(5, to=own_node, client="s", **KEEP)
    c.subscribe("o/+", options=0x04 | 0x08 | 1, p={"subid": 77})
    c.subscribe("$share/g/shared/+", qos=1)
    c.close()
    restart(own_node, hard)
    c = client(5, to=own_node, client="s", **KEEP)
    p = client(5, to=own_node)
    c.publish("o/x", b"own")
    p.publish("o/x", b"x", qos=1, retain=True)
    m = c.message()
    assert (m.payload, m.retain, m.props["subid"]) == (b"x", True, [77])
    p.publish("shared/x", b"s", qos=1)
    assert c.message().payload == b"s"


@both_ways
def test_retained_outlive_the_node(own_node, client, hard):
    p = client(5, to=own_node)
    for i in range(50):
        p.publish(f"r/{i % 10}", b"%d" % i, qos=i % 3, retain=True, p={"user": [("n", str(i))]})
    p.publish("r/3", b"", qos=1, retain=True)
    for _ in range(2):
        restart(own_node, hard)
        c = client(5, to=own_node)
        c.subscribe("r/#", qos=0)
        got = sorted((c.message() for _ in range(9)), key=lambda m: m.topic)
        assert [m.payload for m in got] == [b"%d" % i for i in range(40, 50) if i != 43]
        assert all(m.retain and m.props["user"] == [("n", m.payload.decode())] for m in got)
        c.expect_nothing(0.2)
        c.close()


@both_ways
def test_same_identifier_after_a_restart(own_node, client, version, hard):
    c = client(version, to=own_node, client="s", **keep(version))
    c.subscribe("i", qos=2)
    p = client(version, to=own_node)
    for i in range(4):
        p.publish("i", b"%d" % i, qos=2)
    before = [c.message(finish=False) for _ in range(4)]
    c.send_ack(r.PUBREC, before[0].pid)  # the client has the first
    c.ack(r.PUBREL, before[0].pid)
    c.close()
    restart(own_node, hard)
    c = client(version, to=own_node, client="s", **keep(version))
    c.ack(r.PUBREL, before[0].pid)
    c.send_ack(r.PUBCOMP, before[0].pid)
    after = [c.message() for _ in range(3)]
    assert [(m.pid, m.payload, m.dup) for m in after] == [(m.pid, m.payload, True) for m in before[1:]]
    c.expect_nothing(0.2)


@both_ways
def test_received_identifiers_outlive_the_node(own_node, client, version, hard):
    sub = client(version, to=own_node, client="sub", **keep(version))
    sub.subscribe("q", qos=2)
    sub.disconnect()
    c = client(version, to=own_node, client="s", **keep(version))
    c.send(c.publish_bytes("q", b"once", qos=2, pid=5))
    c.ack(r.PUBREC, 5)
    c.close()
    restart(own_node, hard)
    c = client(version, to=own_node, client="s", **keep(version))
    assert c.session_present
    c.send(c.publish_bytes("q", b"once", qos=2, pid=5, dup=True))
    c.ack(r.PUBREC, 5)
    c.send_ack(r.PUBREL, 5)
    c.ack(r.PUBCOMP, 5)
    sub = client(version, to=own_node, client="sub", **keep(version))
    assert sub.message().payload == b"once"
    sub.expect_nothing(0.2)


class Publisher:
    """Publishes numbers with QoS 2 over kills, as the specification wants it of a client."""

    def __init__(self, node, total, window=10):
        self.node, self.total, self.window = node, total, window
        self.next = 0
        self.unreceived, self.unreleased = {}, set()  # identifier -> number; identifiers with PUBREC, without PUBCOMP

    def run(self):
        """Until all is through (True), or the connection ends (False)."""
        try:
            c = Raw(self.node.ports["mqtt"], 4)
            c.connect(client="publisher", clean=False)
            for pid, number in list(self.unreceived.items()):
                c.send(c.publish_bytes("x", b"%d" % number, qos=2, pid=pid, dup=True))
            for pid in list(self.unreleased):
                c.send_ack(r.PUBREL, pid)
            while self.next < self.total or self.unreceived or self.unreleased:
                self.fill(c)
                self.take(c, c.read(10))
            return True
        except (Closed, OSError):
            return False

    def fill(self, c):
        while self.next < self.total and len(self.unreceived) + len(self.unreleased) < self.window:
            pid = next(i for i in range(1, 100) if i not in self.unreceived and i not in self.unreleased)
            self.unreceived[pid] = self.next
            self.next += 1
            c.send(c.publish_bytes("x", b"%d" % self.unreceived[pid], qos=2, pid=pid))

    def take(self, c, got):
        pid = struct.unpack_from(">H", got.body)[0]
        if got.type == r.PUBREC:
            self.unreceived.pop(pid, None)
            self.unreleased.add(pid)
            c.send_ack(r.PUBREL, pid)
        elif got.type == r.PUBCOMP:
            self.unreleased.discard(pid)


class Subscriber:
    """Receives with QoS 2 over kills; a number counts when its identifier is new."""

    def __init__(self, node):
        self.node = node
        self.open, self.got = set(), []

    def run(self, total):
        try:
            c = Raw(self.node.ports["mqtt"], 4)
            c.connect(client="subscriber", clean=False)
            if not c.session_present:
                c.subscribe("x", qos=2)
            while len(self.got) < total or self.open:
                self.take(c, c.read(10))
            return True
        except (Closed, OSError):
            return False

    def take(self, c, got):
        if got.type == r.PUBLISH:
            topic, at = r.read_text(got.body, 0)
            pid = struct.unpack_from(">H", got.body, at)[0]
            if pid not in self.open:
                self.open.add(pid)
                self.got.append(int(got.body[at + 2:]))
            c.send_ack(r.PUBREC, pid)
        elif got.type == r.PUBREL:
            pid = struct.unpack_from(">H", got.body)[0]
            self.open.discard(pid)
            c.send(packet(r.PUBCOMP, 0, struct.pack(">H", pid)))


def test_exactly_once_over_kills():
    """A publisher and a subscriber with QoS 2, and a node that is killed again and again meanwhile."""
    total = 3000
    with gateway() as node:
        pub, sub = Publisher(node, total), Subscriber(node)
        first = Raw(node.ports["mqtt"], 4).connect(client="subscriber", clean=False)
        first.subscribe("x", qos=2)
        first.disconnect()
        kills = 0
        while True:
            done = []
            threads = [threading.Thread(target=lambda: done.append(pub.run())),
                       threading.Thread(target=lambda: done.append(sub.run(total)))]
            for t in threads:
                t.start()
            if kills < 6:  # in the middle of it, however fast it goes
                while len(sub.got) < total * (kills + 1) // 8 and threads[0].is_alive() and threads[1].is_alive():
                    time.sleep(0.002)
                node.kill9()
                kills += 1
            for t in threads:
                t.join(60)
                assert not t.is_alive()
            if done == [True, True]:
                break
            if not node.alive():
                node.start()
        assert sub.got == list(range(total))
        assert kills == 6


def delayed(name, delay_s, **kw):
    return {"client": name, "will": (name, b"late", 1, False), "will_props": {"will_delay": delay_s}, **KEEP, **kw}


@both_ways
def test_delayed_will_after_a_restart(own_node, client, unique, hard):
    """Its client is gone when the node stops; the node sends it when it is there again and the delay is over."""
    sub = client(5, to=own_node, client="watch", **KEEP)
    sub.subscribe(unique, qos=1)
    client(5, to=own_node, **delayed(unique, 5, will_props={"will_delay": 5, "user": [("k", "v")]})).close()
    wait_until(lambda: own_node.ctl("list_connections", "pid").count("<") == 1, 10, "its end is seen")
    client(5, to=own_node, client="other", **KEEP)  # CONNACK is durable; so is what was written down before it
    restart(own_node, hard)
    sub = client(5, to=own_node, client="watch", **KEEP)
    assert sub.session_present
    m = sub.message(timeout_s=20)
    assert (m.payload, m.qos, m.props) == (b"late", 1, {"user": [("k", "v")]})
    sub.expect_nothing(0.5)
    restart(own_node, hard)  # its record went with it
    sub = client(5, to=own_node, client="watch", **KEEP)
    assert sub.session_present
    sub.expect_nothing(0.5)


def test_delayed_will_of_a_client_that_the_stop_ends(own_node, client, unique):
    sub = client(5, to=own_node, client="watch", **KEEP)
    sub.subscribe(unique, qos=1)
    client(5, to=own_node, **delayed(unique, 2, will=(unique, b"kept", 1, True)))
    own_node.restart()
    sub = client(5, to=own_node, client="watch", **KEEP)
    assert sub.message(timeout_s=20).payload == b"kept"
    late = client(5, to=own_node)
    late.subscribe(unique)
    m = late.message()
    assert (m.payload, m.retain) == (b"kept", True)


def test_delayed_will_is_off_when_its_client_is_back(own_node, client, unique):
    sub = client(5, to=own_node, client="watch", **KEEP)
    sub.subscribe(unique, qos=1)
    client(5, to=own_node, **delayed(unique, 8))
    own_node.restart()
    assert client(5, to=own_node, client=unique, **KEEP).session_present
    own_node.restart()
    sub = client(5, to=own_node, client="watch", **KEEP)
    sub.expect_nothing(9)


def test_delayed_will_of_a_user_who_is_gone(own_node, client, unique):
    own_node.ctl("add_user", "eve", "e")
    own_node.ctl("set_permissions", "-p", "/", "eve", ".*", ".*", ".*")
    sub = client(5, to=own_node, client="watch", **KEEP)
    sub.subscribe(unique, qos=1)
    client(5, to=own_node, **delayed(unique, 5, user="eve", password="e"))
    own_node.stop()
    own_node.start()
    own_node.ctl("delete_user", "eve")
    wait_until(lambda: "will=dropped" in own_node.log_text(), 20, "the will was dropped")
    sub = client(5, to=own_node, client="watch", **KEEP)
    sub.expect_nothing(0.5)


@pytest.mark.parametrize("delay_s", [0, 1])
def test_will_of_a_client_that_a_crash_cuts_off(own_node, client, unique, delay_s):
    """Its session is durable, so its will is: sent once when the node is there again."""
    sub = client(5, to=own_node, client="watch", **KEEP)
    sub.subscribe(unique, qos=1)
    client(5, to=own_node, **delayed(unique, delay_s))
    own_node.kill9()
    own_node.start()
    sub = client(5, to=own_node, client="watch", **KEEP)
    assert sub.message(timeout_s=20).payload == b"late"
    restart(own_node, False)  # what was acknowledged, and that the will was sent, is written down
    sub = client(5, to=own_node, client="watch", **KEEP)
    sub.expect_nothing(1.5)


def test_will_that_is_not_owed_any_more(own_node, client, unique):
    sub = client(5, to=own_node, client="watch", **KEEP)
    sub.subscribe(unique, qos=1)
    for kind in ("goodbye", "published", "without"):
        c = client(5, to=own_node, **delayed(unique + kind, 0, will=(unique, kind.encode(), 1, False)))
        if kind == "goodbye":
            c.disconnect()
        elif kind == "published":
            c.close()
            assert sub.message().payload == b"published"
        else:
            client(5, to=own_node, client=unique + kind, **KEEP)  # takes over, and says no will: that of the first is sent
            assert sub.message().payload == b"without"
    for hard in (False, True):
        restart(own_node, hard)
    sub = client(5, to=own_node, client="watch", **KEEP)
    sub.expect_nothing(0.7)
