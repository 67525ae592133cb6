"""Logins by SASL: PLAIN and SCRAM with librdkafka and kafka-python, the handshakes of old and new clients, as bytes."""
import struct

import confluent_kafka as confluent
import kafka as kafka_python
import kafka.errors
import pytest
from admin_raw import METADATA, SASL_AUTHENTICATE, SASL_HANDSHAKE, WAIT_S, Admin, string
from confluent_kafka.admin import AdminClient
from conftest import kafka_gateway
from mqtest.broker import wait_until

MECHANISMS = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
UNSUPPORTED_MECHANISM, ILLEGAL_STATE, FAILED = 33, 34, 58
LIFETIME_MS = 4000


@pytest.fixture(scope="module")
def gateway(broker_kind):
    """Nobody comes in without a login, and a login is good for a short time."""
    made = kafka_gateway(kafka__anonymous="off").start()
    yield made
    try:
        assert made.stop(60) == 0
        made.check_log()
    finally:
        made.close()


@pytest.fixture
def raw(gateway):
    with Admin(gateway.ports["kafka"]) as made:
        yield made


def settings(gateway, mechanism, password="guest", **more):
    return {"bootstrap.servers": f"127.0.0.1:{gateway.ports['kafka']}", "security.protocol": "sasl_plaintext",
            "sasl.mechanisms": mechanism, "sasl.username": "guest", "sasl.password": password, **more}


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_librdkafka_logs_in(gateway, mechanism):
    assert AdminClient(settings(gateway, mechanism)).list_topics(timeout=WAIT_S).brokers
    errors = []
    wrong = AdminClient(settings(gateway, mechanism, "wrong", error_cb=errors.append, **{"log_level": 0}))
    wait_until(lambda: wrong.poll(0.1) is not None and
               any(e.code() == confluent.KafkaError._AUTHENTICATION for e in errors), WAIT_S, "a refused login")


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_old_librdkafka_logs_in(gateway, mechanism):
    """Without ApiVersions: SaslHandshake v0 and bare tokens."""
    old = AdminClient(settings(gateway, mechanism, **{"api.version.request": False,
                                                      "broker.version.fallback": "0.10.0.0"}))
    assert old.list_topics(timeout=WAIT_S).brokers


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_kafka_python_logs_in(gateway, mechanism):
    def admin(password):
        return kafka_python.KafkaAdminClient(
            bootstrap_servers=f"127.0.0.1:{gateway.ports['kafka']}", security_protocol="SASL_PLAINTEXT",
            sasl_mechanism=mechanism, sasl_plain_username="guest", sasl_plain_password=password, api_version=(2, 5, 0))

    made = admin("guest")
    assert isinstance(made.list_topics(), list)
    made.close()


def handshake(raw, mechanism, version=1):
    """(error, mechanisms)"""
    r = raw.call(SASL_HANDSHAKE, version, string(mechanism))
    return r.take("h"), r.array(r.string)


def authenticate(raw, token):
    """(error, text, token, lifetime)"""
    r = raw.call(SASL_AUTHENTICATE, 1, struct.pack(">i", len(token)) + token)
    return r.take("h"), r.string(), r.bytes(r.take("i")), r.take("q")


def metadata(raw):
    """None: the connection ended."""
    return raw.call(METADATA, 1, struct.pack(">i", 0))


def test_nothing_is_served_without_a_login(raw):
    assert metadata(raw) is None


def test_mechanisms_are_told(raw):
    assert handshake(raw, "GSSAPI") == (UNSUPPORTED_MECHANISM, MECHANISMS)
    assert raw.answer() is None


def test_a_login_in_two_steps(raw):
    assert handshake(raw, "PLAIN") == (0, MECHANISMS)
    assert authenticate(raw, b"\0guest\0guest") == (0, None, b"", 0)
    assert metadata(raw)


@pytest.mark.parametrize("token", [b"", b"guest\0guest", b"\0guest\0wrong", b"\0guest\0guest\0", b"other\0guest\0guest",
                                   b"\0\0", b"\0nobody\0guest"])
def test_plain_that_is_refused(raw, token):
    assert handshake(raw, "PLAIN")[0] == 0
    error, text, reply, _ = authenticate(raw, token)
    assert (error, text, reply) == (FAILED, "Authentication failed: Invalid username or password", b"")
    assert raw.answer() is None


def test_an_unknown_user_looks_like_a_known_one(gateway):
    told = []
    for name in (b"guest", b"nobody", b"nobody"):
        with Admin(gateway.ports["kafka"]) as raw:
            assert handshake(raw, "SCRAM-SHA-256")[0] == 0
            error, _, first, _ = authenticate(raw, b"n,,n=" + name + b",r=abc")
            assert error == 0
            fields = dict(part.split(b"=", 1) for part in first.split(b","))
            told.append((fields[b"s"], fields[b"i"]))
            final = b"c=biws,r=" + fields[b"r"] + b",p=" + b"A" * 43 + b"="
            assert authenticate(raw, final)[:2] == (
                FAILED, "Authentication failed during authentication due to invalid credentials with SASL mechanism SCRAM")
            assert raw.answer() is None
    assert told[1] == told[2] and len(told[0][0]) == len(told[1][0]) and told[0][1] == told[1][1]


def test_steps_out_of_order(gateway):
    with Admin(gateway.ports["kafka"]) as raw:
        assert authenticate(raw, b"\0guest\0guest")[0] == ILLEGAL_STATE
        assert raw.answer() is None
    with Admin(gateway.ports["kafka"]) as raw:
        assert handshake(raw, "PLAIN")[0] == 0
        assert handshake(raw, "PLAIN")[0] == ILLEGAL_STATE
        assert raw.answer() is None


def test_bare_tokens(gateway):
    with Admin(gateway.ports["kafka"]) as raw:
        assert handshake(raw, "PLAIN", 0)[0] == 0
        raw.frame(b"\0guest\0guest")
        assert raw.answer() == b""
        assert metadata(raw)
    with Admin(gateway.ports["kafka"]) as raw:
        assert handshake(raw, "PLAIN", 0)[0] == 0
        raw.frame(b"")
        assert raw.answer() is None


def test_a_login_ends(broker_kind):
    made = kafka_gateway(kafka__anonymous="off", kafka__sasl_lifetime=f"{LIFETIME_MS}ms").start()
    try:
        made.ctl("add_user", "other", "pw")
        made.ctl("set_permissions", "other", ".*", ".*", ".*")
        with Admin(made.ports["kafka"]) as again, Admin(made.ports["kafka"]) as other, Admin(made.ports["kafka"]) as late:
            for raw in (again, other, late):
                assert handshake(raw, "PLAIN")[0] == 0
                assert authenticate(raw, b"\0guest\0guest") == (0, None, b"", LIFETIME_MS)
            assert handshake(other, "PLAIN")[0] == 0
            assert authenticate(other, b"\0other\0pw")[0] == FAILED  # may not become somebody else
            wait_until(lambda: metadata(late) is None, WAIT_S, "the login's end", step_s=0.1)
            assert handshake(again, "PLAIN")[0] == 0
            assert authenticate(again, b"\0guest\0guest")[0] == 0
            assert metadata(again)
        assert made.stop(60) == 0
        made.check_log()
    finally:
        made.close()
