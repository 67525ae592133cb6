"""A long recovery: it says each second how far it is, and heeds a wish to stop. The disk is made slow, not the store large."""
import re
import signal

import pika
import pytest
from mqtest.broker import Gateway, build_dir, wait_until

MESSAGES, BODY = 40, 200_000
SLOW = build_dir() / "tests" / "scenarios" / "slow_read.so"
PERCENT = re.compile(r"event=recovery percent=(\d+) done_bytes=\d+ all_bytes=\d+")


@pytest.fixture
def killed():
    """A gateway with eight segments, killed; their digests are gone, so that every segment is read again."""
    gateway = Gateway(settings={"store.journal.segment_size": "1MiB"})
    with gateway.start():
        with pika.BlockingConnection(pika.URLParameters(gateway.url)) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            channel.queue_declare("q", durable=True)
            for i in range(MESSAGES):
                channel.basic_publish("", "q", b"%08d" % i + bytes(BODY), pika.BasicProperties(delivery_mode=2))
        gateway.kill9()
        for path in (gateway.folder / "journal").glob("*.idx"):
            path.unlink()
        yield gateway


def slowly(gateway, us_per_mib):
    gateway.wrapper = ["env", f"LD_PRELOAD={SLOW}", f"SLOW_READ_US={us_per_mib}"]


def all_there(gateway):
    with pika.BlockingConnection(pika.URLParameters(gateway.url)) as connection:
        channel = connection.channel()
        for i in range(MESSAGES):
            assert channel.basic_get("q", auto_ack=True)[2][:8] == b"%08d" % i
        assert channel.basic_get("q", auto_ack=True)[0] is None


def test_says_how_far_it_is(killed):
    slowly(killed, 350_000)
    killed.start()
    told = [int(text) for text in PERCENT.findall(killed.log_path.read_text())]
    assert len([percent for percent in told if 0 < percent < 100]) >= 2, killed.log_text()
    assert told == sorted(told)
    killed.wrapper = []
    killed.restart()
    all_there(killed)


def test_heeds_a_stop(killed):
    """Left in the middle, nothing is lost: recovery changes nothing that a later one would miss."""
    slowly(killed, 350_000)
    with open(killed.log_path, "ab") as log:
        killed._log_start = killed.log_path.stat().st_size
        killed.proc = killed._spawn(log)
    wait_until(lambda: PERCENT.search(killed._log_now()), 30, "the recovery has begun")
    killed._signal(signal.SIGTERM)
    assert killed.proc.wait(30) == 0
    killed.proc = None
    assert "while=recovering" in killed.log_text() and "event=ready" not in killed._log_now()
    killed.wrapper = []
    killed.start()
    all_there(killed)
