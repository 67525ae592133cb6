"""STOMP's messages for later over hours and days: the node is killed and comes back with a clock that is ahead."""
import pytest
from mqtest.broker import Gateway, build_dir, wait_until
from mqtest.stomp import Stomp

SHIFTED = build_dir() / "tests" / "scenarios" / "shifted_clock.so"
HOUR_S, DAY_S = 3600, 86400
EACH = 100


@pytest.fixture
def gateway():
    made = Gateway(settings={"listeners.stomp": "127.0.0.1:0"})
    with made.start():
        yield made


def killed_until(gateway, ahead_s):
    """As if that long had gone by since the first start."""
    gateway.kill9()
    gateway.wrapper = ["env", f"LD_PRELOAD={SHIFTED}", f"SHIFT_S={ahead_s}"]
    gateway.start()
    return Stomp(gateway.ports["stomp"]).connect()


def stretches(gateway):
    """Messages that wait, by the length of the stretch of time that they wait in; queues without any count, too."""
    found = {}
    for line in gateway.ctl("list_queues", "name", "messages").splitlines():
        name, _, count = line.partition("\t")
        if name.startswith("amq.stomp.later."):
            word = name.split(".")[3]
            found[word] = found.get(word, 0) + int(count)
    return found


def taken(c, n):
    """The bodies of the n messages that are there or come now, and no more."""
    c.subscribe("/queue/q")
    got = [c.expect("MESSAGE", 30).body.decode() for _ in range(n)]
    c.idle(0.5)
    return got


@pytest.mark.timeout(150)
def test_hours_and_days_later(gateway):
    with Stomp(gateway.ports["stomp"]).connect() as c:
        for when, delay_s in (("hour", 2 * HOUR_S), ("day", 3 * DAY_S)):
            for n in range(EACH):
                c.send("SEND", {"destination": "/queue/q", "persistent": "true", "receipt": "r",
                                "AMQ_SCHEDULED_DELAY": str(delay_s * 1000 + 10 * n)}, f"{when} {n}".encode())
                assert c.receipt()["receipt-id"] == "r"
    assert stretches(gateway) == {"hour": EACH, "day": EACH}
    with killed_until(gateway, 2 * HOUR_S - 5) as c:
        assert taken(c, EACH) == [f"hour {n}" for n in range(EACH)]
    with killed_until(gateway, 3 * DAY_S - 5) as c:
        assert taken(c, EACH) == [f"day {n}" for n in range(EACH)]
    with killed_until(gateway, 4 * DAY_S + 2 * HOUR_S) as c:  # and the queues go when their time is over
        wait_until(lambda: stretches(gateway) == {}, 60, "nothing is left")
        assert taken(c, 0) == []
