"""A long recovery: it says each second how far it is, answers who asks, and heeds a wish to stop. The disk is made slow, not
the store large."""
import http.client
import json
import re
import signal
import subprocess

import pika
import pytest
from mqtest.broker import Gateway, build_dir, wait_until

MESSAGES, BODY = 40, 200_000
SLOW = build_dir() / "tests" / "scenarios" / "slow_read.so"
PERCENT = re.compile(r"event=recovery percent=(\d+) done_bytes=\d+ all_bytes=\d+")
EARLY = re.compile(r"event=listen listener=http address=127\.0\.0\.1:(\d+) answers=status")
STARTING = 75


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


def held(gateway, after_bytes):
    """Reads go on to there, and beyond when the file is gone."""
    hold = gateway.folder / "hold"
    hold.touch()
    gateway.wrapper = ["env", f"LD_PRELOAD={SLOW}", f"SLOW_READ_HOLD={hold}", f"SLOW_READ_HOLD_BYTES={after_bytes}"]
    return hold


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


def begin(gateway):
    """Starts the process, and waits until its port answers; the recovery has hardly begun then."""
    with open(gateway.log_path, "ab") as log:
        gateway._log_start = gateway.log_path.stat().st_size
        gateway.proc = gateway._spawn(log)
    gateway.http_port = int(wait_until(lambda: EARLY.search(gateway._log_now()), 30, "the port is bound")[1])


def ctl(gateway, *words):
    done = subprocess.run([build_dir() / "mqgatectl", "--url", f"http://127.0.0.1:{gateway.http_port}", *words],
                          capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def asked(connection, path, **headers):
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    return answer, answer.read()


def test_answers_who_asks(killed):
    """mqgatectl says how far it is, with an exit code of its own; every path of the API says so too, and the connection on
    which it was asked serves the API when the node is up."""
    hold = held(killed, 12 << 20)
    begin(killed)
    waiting = subprocess.Popen([build_dir() / "mqgatectl", "--url", f"http://127.0.0.1:{killed.http_port}",
                                "await_startup", "-t", "120"])
    connection = http.client.HTTPConnection("127.0.0.1", killed.http_port, timeout=60)
    try:
        answer, body = asked(connection, "/api/mqgate/status")
        assert answer.status == 503 and answer.getheader("retry-after") == "1"
        said = json.loads(body)
        assert said["error"] == "starting" and said["progress"]["elapsed_ms"] >= 0
        for path in ("/api/overview", "/api/health/checks/alarms", "/metrics", "/nonsense"):
            answer, body = asked(connection, path, authorization="Basic Z3Vlc3Q6d3Jvbmc=")
            assert answer.status == 503 and json.loads(body)["error"] == "starting", path

        def far():
            code, out, _ = ctl(killed, "status", "--json")
            assert code == STARTING
            progress = json.loads(out)["progress"]
            return progress if progress["phase"] == "reading" and "rest_ms" in progress else None

        progress = wait_until(far, 60, "half-way")
        assert progress["store"] == "journal" and 0 < progress["done_bytes"] <= progress["all_bytes"]
        assert 0 <= progress["percent"] <= 100
        code, out, err = ctl(killed, "status")
        assert code == STARTING and err == "" and re.search(r"^State: recovering\n(.*\n)*Read: \d+%", out), out
        code, out, err = ctl(killed, "list_queues")
        assert code == STARTING and out == "" and "the node is starting: " in err
        assert waiting.poll() is None

        hold.unlink()
        wait_until(lambda: killed._ready(killed._log_now()), 60, "ready")
        assert waiting.wait(30) == 0
        answer, body = asked(connection, "/api/mqgate/status")
        assert answer.status == 200 and json.loads(body) == {"status": "ok", "state": "running"}
        answer, body = asked(connection, "/api/overview", authorization="Basic Z3Vlc3Q6Z3Vlc3Q=")
        assert answer.status == 200 and json.loads(body)["state"] == "running"
        assert asked(connection, "/api/overview", authorization="Basic Z3Vlc3Q6d3Jvbmc=")[0].status == 401
        assert ctl(killed, "status")[0] == 0
    finally:
        connection.close()
        if waiting.poll() is None:
            waiting.kill()
        waiting.wait()
    killed.stop()
    code, out, err = ctl(killed, "status")
    assert code == 69 and out == "" and "no node is running there" in err


def test_heeds_a_stop(killed):
    """Left in the middle, nothing is lost: recovery changes nothing that a later one would miss."""
    slowly(killed, 350_000)
    begin(killed)
    wait_until(lambda: PERCENT.search(killed._log_now()), 30, "the recovery has begun")
    killed._signal(signal.SIGTERM)
    assert killed.proc.wait(30) == 0
    killed.proc = None
    assert "while=recovering" in killed.log_text() and "event=ready" not in killed._log_now()
    killed.wrapper = []
    killed.start()
    all_there(killed)
