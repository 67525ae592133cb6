"""What tests with pika's BlockingConnection need again and again.

Amqp opens connections and channels, declares queues and exchanges under unique names, and removes all of
it at the end. Deliveries are collected by Sink, which pumps the connection until a number of them is there;
"nothing more comes" is asked with idle(), the only place where a test lets time pass.
"""
import contextlib
import time

import pika
import pytest
from pika import exceptions

from mqtest.broker import PATIENCE_S

IDLE_S = 0.15


class Sink:
    """Collects what a consumer gets, as (deliver, properties, body)."""

    def __init__(self, ch, queue, **consume):
        self.ch = ch
        self.got = []
        self.tag = ch.basic_consume(queue, self._on_message, **consume)

    def _on_message(self, _ch, deliver, props, body):
        self.got.append((deliver, props, body))

    @property
    def bodies(self):
        return [body for _, _, body in self.got]

    @property
    def tags(self):
        return [deliver.delivery_tag for deliver, _, _ in self.got]

    def wait(self, count, timeout_s=PATIENCE_S):
        """Pumps until `count` deliveries are there; returns them."""
        pump(self.ch, lambda: len(self.got) >= count, timeout_s,
             lambda: f"{count} deliveries, got {len(self.got)}: {self.bodies[:20]}")
        return self.got

    def idle(self, count):
        """Exactly `count` deliveries are there, and no more come in a while."""
        self.wait(count)
        pump_for(self.ch, IDLE_S)
        assert len(self.got) == count, f"{count} deliveries and no more, got {self.bodies}"
        return self.got


def pump(ch, done, timeout_s=PATIENCE_S, what=lambda: "condition"):
    """Lets pika process what arrives until done() is true."""
    deadline = time.monotonic() + timeout_s
    while not done():
        left = deadline - time.monotonic()
        if left <= 0:
            raise AssertionError(f"not within {timeout_s} s: {what()}")
        ch.connection.process_data_events(time_limit=min(left, 0.05))


def pump_for(ch, seconds):
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        ch.connection.process_data_events(time_limit=left)


@contextlib.contextmanager
def closes(scope, code, text):
    """The block ends with the broker closing the channel or connection with this code and exact text."""
    kind = {"channel": exceptions.ChannelClosedByBroker, "connection": exceptions.ConnectionClosedByBroker}[scope]
    with pytest.raises((exceptions.ChannelClosedByBroker, exceptions.ConnectionClosedByBroker)) as caught:
        yield
    assert (caught.type, caught.value.reply_code, caught.value.reply_text) == (kind, code, text)


class Amqp:
    def __init__(self, broker, unique):
        self.broker, self.unique = broker, unique
        self.connections = []
        self.queues, self.exchanges = [], []
        self._main = None

    # -- connections --------------------------------------------------------------------------
    def parameters(self, user="guest", password="guest", **kw):
        kw.setdefault("blocked_connection_timeout", PATIENCE_S)
        kw.setdefault("socket_timeout", PATIENCE_S)
        kw.setdefault("stack_timeout", PATIENCE_S)
        return pika.ConnectionParameters(host=self.broker.host, port=self.broker.amqp_port,
                                         credentials=pika.PlainCredentials(user, password), **kw)

    def connect(self, **kw):
        made = pika.BlockingConnection(self.parameters(**kw))
        self.connections.append(made)
        return made

    def channel(self, confirm=False, new_connection=False):
        """A channel on the test's main connection, or on one of its own."""
        if new_connection:
            ch = self.connect().channel()
        else:
            if self._main is None or not self._main.is_open:
                self._main = self.connect()
            ch = self._main.channel()
        if confirm:
            ch.confirm_delivery()
        return ch

    # -- objects ------------------------------------------------------------------------------
    def queue(self, ch, name=None, **kw):
        """Declares a queue under a unique name; arguments that are no keyword go in `arguments`."""
        name = self.unique("q") if name is None else name
        result = ch.queue_declare(name, **kw)
        self.queues.append(result.method.queue)
        return result.method.queue

    def exchange(self, ch, kind="direct", name=None, **kw):
        name = self.unique("x") if name is None else name
        ch.exchange_declare(name, kind, **kw)
        self.exchanges.append(name)
        return name

    def close(self):
        try:
            with contextlib.suppress(exceptions.AMQPError, AssertionError):
                self._remove()
        finally:
            for conn in self.connections:
                if conn.is_open:
                    with contextlib.suppress(exceptions.AMQPError, AssertionError):
                        conn.close()

    def _remove(self):
        if not (self.queues or self.exchanges):
            return
        conn = self.connect()
        ch = conn.channel()
        actions = [(ch.queue_delete, q) for q in self.queues] + [(ch.exchange_delete, x) for x in self.exchanges]
        for delete, name in actions:
            try:
                getattr(ch, delete.__name__)(name)
            except exceptions.ChannelClosedByBroker:  # an exclusive queue of a connection still open
                ch = conn.channel()


# -- small moves ------------------------------------------------------------------------------
def put(ch, queue, *bodies, **props):
    """Publishes bodies straight to a queue."""
    for body in bodies:
        ch.basic_publish("", queue, body, pika.BasicProperties(**props))


def get(ch, queue, timeout_s=PATIENCE_S, auto_ack=True):
    """basic.get until there is a message; (get_ok, properties, body)."""
    deadline = time.monotonic() + timeout_s
    while True:
        method, props, body = ch.basic_get(queue, auto_ack=auto_ack)
        if method is not None:
            return method, props, body
        assert time.monotonic() < deadline, f"no message in {queue}"
        time.sleep(0.01)


def get_body(ch, queue, **kw):
    return get(ch, queue, **kw)[2]


def drain(ch, queue, count=None):
    """All bodies of a queue; waits for `count` of them where given, and then for the queue to be empty."""
    out = [get_body(ch, queue) for _ in range(count or 0)]
    while True:
        method, _, body = ch.basic_get(queue, auto_ack=True)
        if method is None:
            return out
        out.append(body)


def depth(ch, queue):
    """Messages ready, as queue.declare passive tells."""
    return ch.queue_declare(queue, passive=True).method.message_count


def wait_depth(ch, queue, count, timeout_s=PATIENCE_S):
    pump(ch, lambda: depth(ch, queue) == count, timeout_s, lambda: f"{queue} holds {count}, has {depth(ch, queue)}")


def exists(amqp, queue):
    ch = amqp.channel()
    try:
        ch.queue_declare(queue, passive=True)
        ch.close()
        return True
    except exceptions.ChannelClosedByBroker as end:
        assert end.reply_code == 404
        return False
