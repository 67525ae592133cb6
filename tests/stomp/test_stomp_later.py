"""ActiveMQ's AMQ_SCHEDULED_DELAY, _PERIOD and _REPEAT: messages that come later, and survive until then."""
import time

import pytest

from mqtest.broker import wait_until
from mqtest.stomp import Stomp


@pytest.fixture(autouse=True)
def ours_alone(broker_kind):
    if broker_kind.name != "mqgate":
        pytest.skip("RabbitMQ ignores these headers")


def later(delay_ms=None, period_ms=None, repeat=None, **more):
    words = {"AMQ_SCHEDULED_DELAY": delay_ms, "AMQ_SCHEDULED_PERIOD": period_ms, "AMQ_SCHEDULED_REPEAT": repeat}
    return {name: str(value) for name, value in words.items() if value is not None} | more


def waiting(gateway):
    """Messages that wait, whatever stretch of time they are in."""
    lines = [line.split() for line in gateway.ctl("list_queues", "name", "messages").splitlines()]
    return sum(int(line[1]) for line in lines if line and line[0].startswith("amq.stomp.later."))


def send(c, destination, body, headers):
    c.send("SEND", {"destination": destination, "receipt": "sent", **headers}, body)
    assert c.receipt()["receipt-id"] == "sent"


@pytest.mark.parametrize("where", ["/queue/", "/topic/", "/exchange/amq.fanout/"])
def test_a_delay(stomp, unique, where):
    destination = where + unique("d")
    c = stomp().subscribe(destination)
    start = time.monotonic()
    send(c, destination, b"later\0", later(400, colour="blue", odd="a:b"))
    message = c.expect("MESSAGE")
    assert time.monotonic() - start >= 0.4
    assert (message.body, message["colour"], message["odd"]) == (b"later\0", "blue", "a:b")
    assert message["destination"] == destination and message["redelivered"] == "false"
    assert not [name for name in message.headers if name.startswith(("mqgate-", "x-death"))]


def test_what_is_due_first_comes_first(stomp, unique):
    queue = f"/queue/{unique('q')}"
    c = stomp().subscribe(queue)
    c.raw(b"".join(c.frame("SEND", {"destination": queue, **later(delay_ms)}, b"%d" % delay_ms)
                   for delay_ms in (900, 600, 300, 600, 0)))
    assert [int(c.expect("MESSAGE").body) for _ in range(5)] == [0, 300, 600, 600, 900]


def test_repeats(stomp, unique):
    queue = f"/queue/{unique('q')}"
    c = stomp().subscribe(queue)
    start = time.monotonic()
    send(c, queue, b"again", later(100, 200, 2))
    for n in range(3):
        assert c.expect("MESSAGE").body == b"again"
        assert time.monotonic() - start >= 0.1 + 0.2 * n
    c.idle(0.5)


def test_a_period_without_a_delay_comes_first(stomp, unique):
    queue = f"/queue/{unique('q')}"
    c = stomp().subscribe(queue)
    start = time.monotonic()
    send(c, queue, b"x", later(period_ms=300))
    c.expect("MESSAGE")
    assert time.monotonic() - start >= 0.3
    c.idle(0.5)


def test_no_time_at_all_is_now(stomp, unique):
    queue = f"/queue/{unique('q')}"
    c = stomp().subscribe(queue)
    send(c, queue, b"x", later(0, 0, 0, AMQ_SCHEDULED_CRON=""))
    assert c.expect("MESSAGE").body == b"x"


@pytest.mark.parametrize("headers", [later("soon"), later(-1), later(10**12), later(1, 1, -1), later(1, None, 5), later(1, "x")])
def test_what_means_nothing_is_refused(stomp, unique, headers):
    c = stomp()
    c.send("SEND", {"destination": f"/queue/{unique('q')}", "receipt": "r", **headers}, b"x")
    error = c.error()
    assert error["message"] == "Invalid header" and error["receipt-id"] == "r" and b"AMQ_SCHEDULED_" in error.body


def test_cron_is_refused(stomp, unique):
    c = stomp()
    c.send("SEND", {"destination": f"/queue/{unique('q')}", "receipt": "r", "AMQ_SCHEDULED_CRON": "0 * * * *"}, b"x")
    error = c.error()
    assert error["message"] == "not_implemented" and b"AMQ_SCHEDULED_CRON" in error.body and error["receipt-id"] == "r"


def test_who_may_not_write_there_is_refused_at_once(broker, stomp, unique):
    user = unique("u")
    broker.ctl("add_user", user, "secret")
    broker.ctl("set_permissions", "-p", "/", user, "", "^mine", "")
    c = stomp(user=user, password="secret")
    c.send("SEND", {"destination": "/topic/x", "receipt": "r", **later(100)}, b"x")
    assert c.error()["message"] == "access_refused"
    broker.ctl("delete_user", user)


def test_in_a_transaction(stomp, unique):
    queue = f"/queue/{unique('q')}"
    c = stomp().subscribe(queue)
    for tx, end in (("a", "ABORT"), ("b", "COMMIT")):
        c.send("BEGIN", {"transaction": tx})
        c.send("SEND", {"destination": queue, "transaction": tx, **later(300)}, tx.encode())
        c.send(end, {"transaction": tx, "receipt": end})
        assert c.receipt()["receipt-id"] == end
    assert c.expect("MESSAGE").body == b"b"
    c.idle()


def test_the_time_to_live_begins_when_it_leaves(stomp, amqp, unique):
    name = unique("q")
    queue, ch = f"/queue/{name}", amqp.channel()
    amqp.queue(ch, name, durable=True)
    c = stomp()
    send(c, queue, b"gone", later(100, expiration="1"))
    start = time.monotonic()
    send(c, queue, b"x", later(400, expiration="60000"))
    wait_until(lambda: time.monotonic() > start + 0.4 and ch.queue_declare(name, passive=True).method.message_count == 1,
               10, "it is there")
    message = c.subscribe(queue).expect("MESSAGE")
    assert message.body == b"x" and message["expiration"] == "60000"
    c.idle()


def test_an_amqp_consumer_gets_it_as_it_was_sent(stomp, amqp, unique):
    name = unique("q")
    ch = amqp.channel()
    amqp.queue(ch, name, durable=True)
    send(stomp(), f"/queue/{name}", b"body", later(200, content_type="text/plain", colour="blue"))
    got = []
    wait_until(lambda: got.append(ch.basic_get(name, auto_ack=True)) or got[-1][0], 10, "it comes")
    _, props, body = got[-1]
    assert body == b"body" and props.headers["colour"] == "blue" and "x-death" not in props.headers


def test_far_ones_wait_where_listings_show_them(own_gateway):
    gateway = own_gateway()
    with Stomp(gateway.ports["stomp"]).connect() as c:
        for delay_ms in (1800_000, 7200_000, 30 * 86400_000, 300_000_000_000):
            send(c, "/queue/q", b"x", later(delay_ms))
        send(c, "/queue/q", b"x", later(7200_000))
    assert waiting(gateway) == 5
    names = {name.split(".")[3] for name in gateway.ctl("list_queues", "name").split() if name.startswith("amq.stomp.later.")}
    assert names == {"minute", "hour", "day"}


def test_they_wait_through_kill9(own_gateway):
    gateway = own_gateway()
    with Stomp(gateway.ports["stomp"]).connect() as c:
        for n in range(20):
            send(c, "/queue/kept", b"%d" % n, later(2500, 500, 1, persistent="true"))
        send(c, "/queue/kept", b"transient", later(2500))
        gateway.kill9()
    gateway.start()
    with Stomp(gateway.ports["stomp"]).connect() as c:
        c.subscribe("/queue/kept")
        got = [c.expect("MESSAGE", 20).body for _ in range(40)]
        assert sorted(got) == sorted([b"%d" % n for n in range(20)] * 2)
        c.idle(0.7)
    assert waiting(gateway) == 0


def test_they_wait_through_a_stop(own_gateway):
    gateway = own_gateway()
    with Stomp(gateway.ports["stomp"]).connect() as c:
        send(c, "/queue/kept", b"x", later(5000, persistent="true"))
        assert waiting(gateway) == 1
    assert gateway.stop(60) == 0
    gateway.start()
    with Stomp(gateway.ports["stomp"]).connect() as c:
        assert c.subscribe("/queue/kept").expect("MESSAGE", 20).body == b"x"


def test_deleting_where_they_wait_forgets_them(own_gateway):
    gateway = own_gateway()
    with Stomp(gateway.ports["stomp"]).connect() as c:
        send(c, "/queue/q", b"forgotten", later(50_000))
        for name in gateway.ctl("list_queues", "name").split():
            if name.startswith("amq.stomp.later."):
                gateway.ctl("delete_queue", name)
        assert waiting(gateway) == 0
        send(c, "/queue/q", b"x", later(200))
        assert c.subscribe("/queue/q").expect("MESSAGE").body == b"x"


def test_a_vhost_takes_them_along(broker, stomp, unique):
    vhost = unique("v")
    broker.ctl("add_vhost", vhost)
    broker.ctl("set_permissions", "-p", vhost, "guest", ".*", ".*", ".*")
    c = stomp(host=vhost)
    send(c, "/queue/q", b"x", later(300))
    send(c, "/queue/q", b"x", later(10_000_000))
    broker.ctl("delete_vhost", vhost)
    assert c.error()["message"]
