"""Many MQTT clients at once: what a connection and a subscription cost, publishing into them meanwhile, a storm of take-overs.
The figures are printed (pytest -s); what is asserted is memory and that every message and every end of a connection came."""
import json
import resource
import subprocess

import pytest
from mqtest.broker import Gateway, build_dir

MIB = 1 << 20


class Crowd:
    """The load generator between its phases: next() gives one, and the gateway's memory after it."""

    def __init__(self, gateway, **options):
        words = [w for name, value in options.items() for w in (f"--{name}", str(value))]
        command = [str(build_dir() / "bench" / "mqttcrowd"), "--port", str(gateway.ports["mqtt"]), *words]
        self.gateway = gateway
        self.base = gateway.rss_bytes()
        self.proc = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def next(self, phase):
        line = self.proc.stdout.readline()
        assert line, f"the generator ended before '{phase}'\n{self.gateway.log_text()}"
        said = json.loads(line)
        assert said.get("phase") == phase, said
        said["rss"] = self.gateway.rss_bytes() - self.base
        print(f"\n{said}")
        return said

    def go(self):
        self.proc.stdin.write("\n")
        self.proc.stdin.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.proc.stdin.close()
        if self.proc.poll() is None:
            self.proc.terminate()
        self.proc.wait()
        self.proc.stdout.close()


@pytest.fixture(name="gateway")
def _gateway():
    with Gateway({"listeners.mqtt": "127.0.0.1:0", "listeners.http": "off"}) as one:
        yield one
        one.check_log()


def subscribed(gateway, clients, per_conn, per_sub, **more):
    with Crowd(gateway, clients=clients, filters=100, publish=1, **more) as crowd:
        connected = crowd.next("connected")
        assert connected["rss"] / clients < per_conn
        crowd.go()
        full = crowd.next("subscribed")
        assert full["subscriptions"] == clients * 100
        print(f"{(full['rss'] - connected['rss']) / full['subscriptions']:.0f} bytes per subscription")
        assert (full["rss"] - connected["rss"]) / full["subscriptions"] < per_sub
        crowd.go()
        crowd.next("delivered")
        if more.get("storm"):
            crowd.go()
            stormed = crowd.next("storm")
            assert stormed["takeovers"] == clients * more["storm"]
            assert stormed["rss"] < full["rss"] + 20 * MIB
        return full


@pytest.mark.timeout(120)
def test_subscriptions_are_small(gateway):
    """100,000 in 1,000 sessions, messages meanwhile; then each client is taken over twice. A session's queue weighs here, too."""
    subscribed(gateway, 1000, per_conn=9000, per_sub=450, storm=2)


@pytest.mark.timeout(120)
def test_kept_sessions_bear_a_storm(gateway):
    with Crowd(gateway, clients=500, filters=2, qos=1, keep=1, storm=3) as crowd:
        for phase in ("connected", "subscribed", "delivered", "storm"):
            said = crowd.next(phase)
            crowd.go()
        assert said["takeovers"] == 1500


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_million_subscriptions(gateway):
    """As many clients as there may be open files, 10,000 at most, with 100 filters each."""
    clients = min(10_000, resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 200)
    full = subscribed(gateway, clients, per_conn=9000, per_sub=400)
    print(f"{full['subscriptions']} subscriptions, {full['rss'] / MIB:.0f} MiB in all")
    assert full["rss"] < 400_000_000


@pytest.mark.long
@pytest.mark.timeout(600)
def test_idle_connections(gateway):
    """20,000, or as many as there may be open files."""
    clients = min(20_000, resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 200)
    with Crowd(gateway, clients=clients, filters=0) as crowd:
        said = crowd.next("connected")
        print(f"{said['rss'] / clients:.0f} bytes per connection")
        assert said["rss"] / clients < 8192
