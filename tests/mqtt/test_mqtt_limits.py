"""Vhosts and permissions, limits, slow subscribers, many at once."""
import signal
import threading
import time
import urllib.request

import pytest
from conftest import gateway
from mqtest.broker import build_dir, wait_until
from raw import Closed, Raw
import raw as r

covers = pytest.mark.covers


@pytest.fixture(scope="module")
def tenants():
    """A node with a vhost and a user of its own, and no anonymous clients."""
    with gateway(auth__anonymous="off", mqtt__qos0_length="1000", mqtt__queue_length="10", mqtt__retained="3",
                 mqtt__subscriptions="5", mqtt__keep_alive_max="30s", mqtt__session_expiry_max="1h",
                 mqtt__sys_interval="0") as node:
        node.ctl("add_vhost", "shop")
        node.ctl("add_user", "worker", "secret")
        node.ctl("set_permissions", "-p", "shop", "worker", ".*", ".*", ".*")
        node.ctl("add_user", "reader", "secret")
        node.ctl("set_permissions", "-p", "/", "reader", "", "", ".*")
        node.ctl("add_user", "writer", "secret")
        node.ctl("set_permissions", "-p", "/", "writer", "", ".*", "")
        yield node
        node.check_log()


def join(make, node, user, version=5, **kw):
    return make(version, to=node, user=user, password="guest" if user == "guest" else "secret", **kw)


def test_anonymous_only_when_switched_on(client, tenants, version):
    c = client(version, to=tenants, connect=False)
    c.connect(reason=0x87 if version == 5 else 5)


def test_vhost_by_user_name(client, tenants, unique):
    here = join(client, tenants, "shop:worker")
    other = join(client, tenants, "guest")
    here.subscribe(unique)
    other.subscribe(unique)
    other.publish(unique, b"in /")
    here.publish(unique, b"in shop")
    assert here.message().payload == b"in shop"
    assert other.message().payload == b"in /"


@pytest.mark.parametrize("user", ["worker", "nowhere:worker", "shop:guest"])
def test_vhost_refused(client, tenants, user):
    c = client(5, to=tenants, connect=False)
    c.connect(reason=0x87, user=user, password="guest" if user.endswith("guest") else "secret")
    assert c.expect_closed() == []


def test_vhost_by_port(client):
    with gateway() as first:
        port = first.ports["mqtt"]
    with gateway(listeners__mqtt=f"127.0.0.1:{port}", mqtt__port_vhosts=f"1=x, {port}=byport") as node:
        node.ctl("add_vhost", "byport")
        node.ctl("set_permissions", "-p", "byport", "guest", ".*", ".*", ".*")
        client(4, to=node, client="here").subscribe("a")
        assert "mqtt-subscription-hereqos0" in node.ctl("list_queues", "-p", "byport", "name")


@covers("3:MQTT-3.3.5-2")
def test_permissions(client, tenants, unique):
    reader, writer = join(client, tenants, "reader"), join(client, tenants, "writer")
    assert writer.subscribe(unique) == [0x87]
    assert reader.subscribe(unique, qos=1) == [1]
    assert [reader.publish(unique, b"no", qos=q) for q in (1, 2)] == [0x87, 0x87]
    reader.publish(unique, b"no", qos=0)
    assert writer.publish(unique, b"yes", qos=1) == 0
    assert reader.message().payload == b"yes"
    old = join(client, tenants, "reader", version=4)
    assert old.publish(unique, b"no", qos=1) == 0  # acknowledged, dropped: 3.1.1 has no words for it
    assert join(client, tenants, "writer", version=4).subscribe(unique) == [0x80]
    reader.expect_nothing(0.2)


def test_will_without_permission(client, tenants, unique):
    c = client(5, to=tenants, connect=False)
    c.connect(reason=0x87, user="reader", password="secret", will=(unique, b"w", 0, False))


def test_limits_have_their_reasons(client, tenants, unique):
    c = join(client, tenants, "guest", p={"session_expiry": 0xffffffff})
    assert c.connack["server_keep_alive"] == 30 and c.connack["session_expiry"] == 3600
    assert c.subscribe(*[f"{unique}/{i}" for i in range(6)]) == [0] * 5 + [0x97]
    assert c.subscribe(f"{unique}/0", qos=1) == [1]
    reasons = [c.publish(f"{unique}/r{i}", b"x", qos=1, retain=True) for i in range(4)]
    assert reasons == [0, 0, 0, 0x97]
    for i in range(3):
        c.publish(f"{unique}/r{i}", b"", qos=1, retain=True)
    assert c.publish(f"{unique}/r4", b"x", qos=1, retain=True) == 0
    c.publish(f"{unique}/r4", b"", qos=1, retain=True)


def test_session_queue_drops_the_oldest(client, tenants, unique):
    keep = {"client": unique, "clean": False, "p": {"session_expiry": 60}}
    c = join(client, tenants, "guest", **keep)
    c.subscribe(unique, qos=1)
    c.disconnect()
    p = join(client, tenants, "guest")
    for i in range(25):
        p.publish(unique, b"%d" % i, qos=1)
    c = join(client, tenants, "guest", **keep)
    assert [c.message().payload for _ in range(10)] == [b"%d" % i for i in range(15, 25)]
    c.expect_nothing(0.2)


def counter(node, name):
    url = f"http://127.0.0.1:{node.http_port}/metrics"
    request = urllib.request.Request(url, headers={"Authorization": "Basic Z3Vlc3Q6Z3Vlc3Q="})
    for line in urllib.request.urlopen(request).read().decode().splitlines():
        if line.startswith(name + " "):
            return int(line.split()[1])
    raise KeyError(name)


def test_slow_subscriber_costs_bounded_memory(client, tenants, unique):
    """It subscribes with QoS 0 and does not read."""
    slow = join(client, tenants, "guest")
    slow.subscribe(unique)
    p = join(client, tenants, "guest")
    before, dropped = tenants.rss_bytes(), counter(tenants, "mqgate_messages_overflow_dropped_total")
    for _ in range(200):
        p.send(b"".join(p.publish_bytes(unique, b"x" * 10000) for _ in range(100)))
    assert p.alive()
    assert counter(tenants, "mqgate_messages_overflow_dropped_total") > dropped + 10000
    limit_mib = 100 if build_dir().name == "build" else 512  # sanitizers keep what was freed
    assert tenants.rss_bytes() - before < limit_mib << 20
    slow.close()


def test_take_over_storm(client, tenants):
    """Many connections want one session at once, again and again; at the end it is whole, and somebody has it."""
    port, ends = tenants.ports["mqtt"], []
    keep = {"client": "storm", "clean": False, "p": {"session_expiry": 60}, "user": "guest", "password": "guest"}

    def one():
        for _ in range(25):
            c = Raw(port, 5)
            try:
                c.connect(**keep)
                c.subscribe("storm/+", qos=2)
                c.publish("storm/x", b"x", qos=1)
            except (Closed, AssertionError, OSError):
                pass
            finally:
                c.close()
        ends.append(True)

    threads = [threading.Thread(target=one) for _ in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert len(ends) == 12
    c = Raw(port, 5).connect(**keep)
    assert c.session_present
    c.disconnect(reason=0, p={"session_expiry": 0})


def test_many_levels_of_wildcards(client, tenants):
    """The worst tree: + and # at every level; a publish costs as many steps as there are nodes, not their powers."""
    deep = "/".join("abcdefgh" for _ in range(60))
    c = join(client, tenants, "guest")
    filters = ["/".join("+" for _ in range(60)), "/".join(["+"] * 59 + ["#"]), "#", "/".join(["abcdefgh"] * 59 + ["+"])]
    assert c.subscribe(*filters) == [0] * 4
    p = join(client, tenants, "guest")
    for i in range(200):  # at their powers the first would not end
        p.publish(deep, b"%d" % i, qos=1)
    assert [c.message().payload for _ in range(200)] == [b"%d" % i for i in range(200)]
    assert c.subscribe("/".join(["+"] * 65)) == [0x8f]


def test_auth_changes_count_at_once(client, tenants, unique):
    tenants.ctl("add_user", "turns", "secret")
    tenants.ctl("set_permissions", "-p", "/", "turns", "", ".*", "")
    c = join(client, tenants, "turns")
    assert c.publish(unique, b"x", qos=1) in (0, 0x10)
    tenants.ctl("set_permissions", "-p", "/", "turns", "", "", "")
    wait_until(lambda: c.publish(unique, b"x", qos=1) == 0x87, 5, "a refusal")


def test_kill_says_administrative(client, tenants):
    c = join(client, tenants, "guest", client="victim")
    tenants.ctl("close_all_connections", "test")
    assert c.goodbye() == 0x98


def test_stop_says_shutting_down(own_node, client, version):
    c = client(version, to=own_node)
    thread = threading.Thread(target=own_node.stop)
    thread.start()
    assert c.goodbye() == (0x8b if version == 5 else None)
    thread.join()


def test_reload_changes_no_limit_that_a_client_was_told(client):
    with gateway() as node:
        for key in ("mqtt.receive_maximum", "mqtt.topic_aliases"):
            del node.settings[key]
        head = node.conf.read_text()
        node.conf.write_text(head + "[mqtt]\nreceive_maximum = 20\ntopic_aliases = 10\n")
        node.restart()
        c = client(5, to=node)
        node.conf.write_text(head + "[mqtt]\nreceive_maximum = 5\ntopic_aliases = 3\n")
        node.proc.send_signal(signal.SIGHUP)
        wait_until(lambda: "event=reload result=ok" in node.log_text(), 10, "reload")
        c.publish("a/b", b"x", p={"alias": 10})
        for i in range(1, 21):
            c.send(c.publish_bytes("", b"x", qos=2, pid=i, p={"alias": 10}))
        for i in range(1, 21):
            assert c.ack(r.PUBREC, i).reason in (0, 0x10)
        late = client(5, to=node)
        assert late.connack["receive_maximum"] == 5 and late.connack["alias_maximum"] == 3
        late.publish("a/b", b"x", p={"alias": 4})
        assert late.goodbye() == 0x94
        node.check_log()


def test_topic_permissions(client, tenants, unique):
    """Patterns on keys; the client's name and the user's are taken literally."""
    tenants.ctl("add_user", "device", "secret")
    tenants.ctl("set_permissions", "-p", "/", "device", "", ".*", ".*")
    c = join(client, tenants, "device", client=".*")
    assert c.publish("other/x", b"x", qos=1) in (0, 0x10)
    tenants.ctl("set_topic_permissions", "-p", "/", "device", "amq.topic", r"^{username}\.{client_id}\..*", r"^public\.")
    assert c.publish("other/x", b"x", qos=1) == 0x87
    assert c.publish("device/.*/x", b"x", qos=1) in (0, 0x10)
    assert c.publish("device/evil/x", b"x", qos=1) == 0x87
    assert c.subscribe("public/#", "device/#", "#", "$share/g/device/+") == [0, 0x87, 0x87, 0x87]
    again = client(5, to=tenants, connect=False)
    again.connect(reason=0x87, user="device", password="secret", will=("other/x", b"w", 0, False))
    tenants.restart()
    c = join(client, tenants, "device", client="name")
    assert c.publish("device/name/x", b"x", qos=1) in (0, 0x10)
    assert c.publish("device/nam/x", b"x", qos=1) == 0x87
    tenants.ctl("clear_topic_permissions", "-p", "/", "device")
    wait_until(lambda: c.publish("other/x", b"x", qos=1) != 0x87, 5, "any topic again")


def test_connect_size(client, version, unique):
    """A will may be as large as its field allows; what is larger than mqtt.connect_size is refused before it has come."""
    sub = client(version)
    sub.subscribe(unique, qos=1)
    body = bytes(range(256)) * 255
    client(version, will=(unique, body, 1, False)).close()
    assert sub.message().payload == body
    with gateway(mqtt__connect_size="2KiB") as small:
        client(version, to=small, will=(unique, b"x" * 1500, 1, False))
        c = client(version, to=small, connect=False)
        c.send(c.connect_bytes(will=(unique, b"x" * 2500, 1, False))[:20])
        assert c.expect_closed() == []  # its version is not known yet
