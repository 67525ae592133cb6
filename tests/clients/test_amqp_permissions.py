"""Vhosts, users and permissions, made with rabbitmqctl's words and felt over AMQP."""
import pika
import pytest
from pika import exceptions

from mqtest.pika_help import Amqp, closes, get_body, put
from mqtest.wire import Closed, Conn

USER, VHOST = "limited", "permission-tests"


@pytest.fixture(scope="module")
def vhost(broker_kind):
    """A vhost where guest may do all, and a user who may touch only names that begin with 'my-'."""
    from mqtest.fixtures import shared_broker
    broker = shared_broker(broker_kind.name)
    broker.ctl("add_vhost", VHOST)
    broker.ctl("add_user", USER, "pw")
    broker.ctl("set_permissions", "-p", VHOST, "guest", ".*", ".*", ".*")
    broker.ctl("set_permissions", "-p", VHOST, USER, "^my-", "^(my-|shared)", "^my-")
    yield VHOST
    broker.ctl("delete_user", USER)
    broker.ctl("delete_vhost", VHOST)


@pytest.fixture
def limited(broker, vhost, unique):
    helper = Amqp(broker, unique)
    owner = helper.connect(virtual_host=vhost).channel()
    for name in ("other", "shared", "my-x"):
        owner.exchange_declare(name, "fanout")
    for name in ("other", "my-q"):
        owner.queue_declare(name)
    helper.owner = owner
    helper.ch = helper.connect(user=USER, password="pw", virtual_host=vhost).channel()
    yield helper
    helper.close()


ROWS = {
    "declare-queue": (lambda ch: ch.queue_declare("new"), "queue 'new'"),
    "delete-queue": (lambda ch: ch.queue_delete("other"), "queue 'other'"),
    "declare-exchange": (lambda ch: ch.exchange_declare("new", "fanout"), "exchange 'new'"),
    "delete-exchange": (lambda ch: ch.exchange_delete("other"), "exchange 'other'"),
    "get": (lambda ch: ch.basic_get("other"), "queue 'other'"),
    "consume": (lambda ch: ch.basic_consume("other", print), "queue 'other'"),
    "purge": (lambda ch: ch.queue_purge("other"), "queue 'other'"),
    "publish": (lambda ch: (ch.basic_publish("other", "", b"m"), ch.basic_qos()), "exchange 'other'"),
    "bind-queue": (lambda ch: ch.queue_bind("other", "my-x", ""), "queue 'other'"),
    "bind-exchange": (lambda ch: ch.queue_bind("my-q", "shared", ""), "exchange 'shared'"),
    "unbind": (lambda ch: ch.queue_unbind("my-q", "shared", ""), "exchange 'shared'"),
    "e2e": (lambda ch: ch.exchange_bind("my-x", "shared", ""), "exchange 'shared'"),
    "default-exchange": (lambda ch: (ch.basic_publish("", "my-q", b"m"), ch.basic_qos()), "exchange 'amq.default'"),
    "dead-letter": (lambda ch: ch.queue_declare("my-d", arguments={"x-dead-letter-exchange": "other"}),
                    "exchange 'other'"),
    "alternate": (lambda ch: ch.exchange_declare("my-a", "fanout", arguments={"alternate-exchange": "other"}),
                  "exchange 'other'"),
}


@pytest.mark.parametrize("name", ROWS)
def test_refused(limited, name):
    action, what = ROWS[name]
    text = f"ACCESS_REFUSED - access to {what} in vhost '{VHOST}' refused for user '{USER}'"
    with closes("channel", 403, text):
        action(limited.ch)


def test_allowed(limited):
    ch = limited.ch
    ch.queue_declare("my-q2")
    ch.queue_bind("my-q2", "my-x", "")
    ch.basic_publish("my-x", "", b"m")
    assert get_body(ch, "my-q2") == b"m"
    ch.queue_delete("my-q2")


def test_server_named_queue_needs_configure(limited):
    with pytest.raises(exceptions.ChannelClosedByBroker) as caught:
        limited.ch.queue_declare("", exclusive=True)
    assert caught.value.reply_code == 403


def test_vhost_without_permission(broker, vhost):
    with Conn(broker) as conn, pytest.raises(Closed) as caught:
        conn.connect(user=USER, password="pw", vhost="/")
    assert (caught.value.code, caught.value.text) == (
        530, f"NOT_ALLOWED - access to vhost '/' refused for user '{USER}'")


def test_vhosts_keep_apart(limited, broker, unique):
    default = limited.channel()
    limited.owner.queue_declare("same")
    limited.queue(default, "same")
    put(limited.owner, "same", b"here")
    assert default.basic_get("same")[0] is None
    assert get_body(limited.owner, "same") == b"here"


def test_text_names_the_vhost(limited):
    with closes("channel", 404, f"NOT_FOUND - no queue 'none' in vhost '{VHOST}'"):
        limited.owner.queue_declare("none", passive=True)


def test_new_password(limited, broker):
    broker.ctl("change_password", USER, "pw2")
    try:
        limited.connect(user=USER, password="pw2", virtual_host=VHOST)
        with pytest.raises(exceptions.ProbableAuthenticationError):
            pika.BlockingConnection(limited.parameters(user=USER, password="pw", virtual_host=VHOST))
    finally:
        broker.ctl("change_password", USER, "pw")


def test_list_queues(limited, broker):
    put(limited.owner, "my-q", b"1")
    from mqtest.broker import wait_until
    wait_until(lambda: "my-q\t1" in broker.ctl("list_queues", "-p", VHOST, "name", "messages"), 10, "listed")
    limited.owner.queue_purge("my-q")


def test_revoked_permission_stops_a_publisher_at_work(broker, limited):
    """The next publish is refused. RabbitMQ's channel keeps the answer that it once got."""
    if broker.is_rabbitmq:
        return
    for _ in range(3):
        limited.ch.basic_publish("my-x", "", b"m")
        limited.ch.basic_qos()
    broker.ctl("set_permissions", "-p", VHOST, USER, "^my-", "^shared", "^my-")
    try:
        with closes("channel", 403, f"ACCESS_REFUSED - access to exchange 'my-x' in vhost '{VHOST}' refused for user '{USER}'"):
            limited.ch.basic_publish("my-x", "", b"m")
            limited.ch.basic_qos()
    finally:
        broker.ctl("set_permissions", "-p", VHOST, USER, "^my-", "^(my-|shared)", "^my-")
