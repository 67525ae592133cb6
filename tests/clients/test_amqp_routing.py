"""Exchanges: what each type matches, exchange-to-exchange bindings, alternate exchange, mandatory, CC and BCC."""
import pika
import pytest
from pika import exceptions

from mqtest.pika_help import closes, drain, get, get_body, pump, put

TYPES = ["direct", "fanout", "topic", "headers"]


class Router:
    """An exchange with queues bound to it; says which of them a message reaches."""

    def __init__(self, amqp, kind, name=None):
        self.amqp = amqp
        self.ch = amqp.channel(confirm=True)
        self.name = name or amqp.exchange(self.ch, kind)
        self.bound = {}

    def bind(self, label, key="", arguments=None):
        if label not in self.bound:
            self.bound[label] = self.amqp.queue(self.ch)
        self.ch.queue_bind(self.bound[label], self.name, key, arguments=arguments)
        return self

    def unbind(self, label, key="", arguments=None):
        self.ch.queue_unbind(self.bound[label], self.name, key, arguments=arguments)
        return self

    def reached(self, key="", headers=None):
        """Labels of the queues that hold the message after its confirm, once per copy."""
        self.ch.basic_publish(self.name, key, b"m", pika.BasicProperties(headers=headers))
        return sorted(label for label, queue in self.bound.items() for _ in drain(self.ch, queue))


@pytest.mark.parametrize("name", ["amq.direct", "amq.fanout", "amq.topic", "amq.headers", "amq.match"])
def test_predeclared_exchanges(amqp, name):
    kind = {"amq.match": "headers"}.get(name, name[4:])
    router = Router(amqp, kind, name)
    router.ch.exchange_declare(name, kind, durable=True)
    key = amqp.unique("k")
    arguments = {"x-match": "all", "only": key} if kind == "headers" else None
    router.bind("a", key, arguments)
    assert router.reached(key, {"only": key}) == ["a"]


def test_direct_matches_the_whole_key(amqp):
    router = Router(amqp, "direct").bind("a", "k").bind("b", "k").bind("c", "k.x").bind("d", "")
    assert router.reached("k") == ["a", "b"]
    assert router.reached("k.x") == ["c"]
    assert router.reached("") == ["d"]
    assert router.reached("K") == []


def test_fanout_ignores_keys(amqp):
    router = Router(amqp, "fanout").bind("a", "k").bind("b", "other").bind("b", "third")
    assert router.reached("k") == ["a", "b"]
    assert router.reached("nothing") == ["a", "b"]


def test_default_exchange_routes_by_queue_name(amqp):
    ch = amqp.channel()
    q = amqp.queue(ch)
    put(ch, q, b"m")
    deliver, _, body = get(ch, q)
    assert (deliver.exchange, deliver.routing_key, body) == ("", q, b"m")


TOPICS = [
    ("a.b.c", "a.b.c", True), ("a.b.c", "a.b", False), ("a.*.c", "a.b.c", True), ("a.*.c", "a.c", False),
    ("a.*.c", "a..c", True), ("*", "", False), ("*", "a", True), ("*", "a.b", False), ("#", "", True),
    ("#", "a.b.c", True), ("a.#", "a", True), ("a.#", "a.b.c", True), ("a.#", "ab", False), ("#.c", "c", True),
    ("#.c", "a.b.c", True), ("#.c", "a.b", False), ("a.#.c", "a.c", True), ("a.#.c", "a.x.y.c", True),
    ("a.#.c", "a.x.y", False), ("*.*", "a.b", True), ("*.*", ".", True), ("#.#", "a", True), ("#.*", "", False),
    ("#.*", "a", True), ("#.*.#", "a.b", True), ("#.a.#.b.#", "x.a.y.b.z", True), ("#.a.#.b.#", "b.a", False),
    ("", "", True), ("", "a", False), ("..", "..", True), ("a*", "ab", False), ("a*", "a*", True),
    ("a#", "a#", True), ("*.#", "a", True), ("*.#", "", False), ("#.#.#", "", True), ("$x.#", "$x.y", True),
    ("#", "$x", True), ("é.*", "é.ü", True),
]


@pytest.mark.parametrize("pattern,key,hit", TOPICS, ids=[f"{p or '-'}|{k or '-'}" for p, k, _ in TOPICS])
def test_topic_pattern(amqp, pattern, key, hit):
    router = Router(amqp, "topic").bind("a", pattern)
    assert router.reached(key) == (["a"] if hit else [])


def test_topic_delivers_one_copy_for_overlapping_patterns(amqp):
    router = Router(amqp, "topic").bind("a", "#").bind("a", "x.*").bind("a", "x.y").bind("b", "x.#")
    assert router.reached("x.y") == ["a", "b"]
    router.unbind("a", "#").unbind("a", "x.y")
    assert router.reached("x.y") == ["a", "b"]
    router.unbind("a", "x.*")
    assert router.reached("x.y") == ["b"]


HEADERS = [
    ("all", {"a": 1, "b": "x"}, {"a": 1, "b": "x"}, True),
    ("all", {"a": 1, "b": "x"}, {"a": 1, "b": "x", "c": 3}, True),
    ("all", {"a": 1, "b": "x"}, {"a": 1}, False),
    ("all", {"a": 1, "b": "x"}, {"a": 1, "b": "y"}, False),
    ("all", {}, {}, True), ("all", {}, {"a": 1}, True),
    ("any", {"a": 1, "b": "x"}, {"b": "x"}, True),
    ("any", {"a": 1, "b": "x"}, {"a": 2, "b": "y"}, False),
    ("any", {"a": 1, "b": "x"}, {}, False),
    ("any", {}, {"a": 1}, False),
    ("all", {"a": None}, {"a": "anything"}, True), ("all", {"a": None}, {"b": 1}, False),
    ("any", {"a": None}, {"a": 3}, True),
    ("all", {"a": 1}, {"a": "1"}, False), ("all", {"a": 1}, {"a": 1 << 40}, False),
    ("all", {"a": True}, {"a": True}, True), ("all", {"a": True}, {"a": False}, False),
    ("all", {"a": True}, {"a": 1}, False),
    ("all", {"x-a": 1}, {}, True), ("all", {"x-a": 1, "b": 1}, {"x-a": 2, "b": 1}, True),
    ("any", {"x-a": 1}, {"x-a": 1}, False),
    ("all-with-x", {"x-a": 1}, {}, False), ("all-with-x", {"x-a": 1}, {"x-a": 1}, True),
    ("all-with-x", {"x-a": 1, "b": 1}, {"x-a": 2, "b": 1}, False),
    ("any-with-x", {"x-a": 1}, {"x-a": 1}, True), ("any-with-x", {"x-a": 1}, {"x-a": 2}, False),
    ("all", {"t": {"n": 1}}, {"t": {"n": 1}}, True), ("all", {"t": [1, "a"]}, {"t": [1, "a"]}, True),
    ("all", {"t": [1, "a"]}, {"t": [1, "b"]}, False),
    (None, {"a": 1, "b": 2}, {"a": 1, "b": 2}, True), (None, {"a": 1, "b": 2}, {"a": 1}, False),
]


@pytest.mark.parametrize("match,binding,headers,hit", HEADERS)
def test_headers_binding(amqp, match, binding, headers, hit):
    arguments = dict(binding, **({"x-match": match} if match else {}))
    router = Router(amqp, "headers").bind("a", "", arguments)
    assert router.reached("ignored", headers) == (["a"] if hit else [])


def test_headers_binding_sees_a_message_without_headers(amqp):
    router = Router(amqp, "headers").bind("a", "", {"x-match": "any", "k": 1}).bind("b", "", {"x-match": "all"})
    assert router.reached("", None) == ["b"]


def test_headers_binding_refuses_an_unknown_match(amqp):
    router = Router(amqp, "headers")
    queue = amqp.queue(router.ch)
    text = ("PRECONDITION_FAILED - Invalid x-match field value <<\"most\">>; "
            "expected all, any, all-with-x, or any-with-x")
    with closes("channel", 406, text):
        router.ch.queue_bind(queue, router.name, "", arguments={"x-match": "most"})


def test_bindings_differ_by_arguments(amqp):
    router = Router(amqp, "direct").bind("a", "k", {"n": 1}).bind("a", "k", {"n": 2})
    router.unbind("a", "k", {"n": 1})
    assert router.reached("k") == ["a"]
    router.unbind("a", "k", {"n": 2})
    assert router.reached("k") == []


def test_binding_twice_is_one_binding(amqp):
    router = Router(amqp, "direct").bind("a", "k").bind("a", "k")
    router.unbind("a", "k")
    assert router.reached("k") == []


@pytest.mark.parametrize("kind", TYPES)
def test_delete_exchange_removes_bindings(amqp, kind):
    router = Router(amqp, kind).bind("a", "k")
    router.ch.exchange_delete(router.name)
    router.ch.exchange_declare(router.name, kind)
    assert router.reached("k") == []


def test_delete_queue_removes_bindings(amqp):
    router = Router(amqp, "direct").bind("a", "k")
    router.ch.queue_delete(router.bound["a"])
    router.ch.queue_declare(router.bound["a"])
    assert router.reached("k") == []


# -- exchange to exchange -------------------------------------------------------------------------
def test_e2e_chain_of_types(amqp):
    router = Router(amqp, "topic")
    middle = amqp.exchange(router.ch, "fanout")
    last = amqp.exchange(router.ch, "direct")
    router.ch.exchange_bind(middle, router.name, "a.#")
    router.ch.exchange_bind(last, middle, "")
    queue = amqp.queue(router.ch)
    router.ch.queue_bind(queue, last, "a.b")
    router.bound["end"] = queue
    assert router.reached("a.b") == ["end"]
    assert router.reached("a.c") == []
    router.ch.exchange_unbind(middle, router.name, "a.#")
    assert router.reached("a.b") == []


def test_e2e_cycle_delivers_once(amqp):
    router = Router(amqp, "fanout").bind("a")
    others = [amqp.exchange(router.ch, "fanout") for _ in range(2)]
    ring = [router.name, *others, router.name]
    for source, destination in zip(ring, ring[1:]):
        router.ch.exchange_bind(destination, source, "")
    router.ch.exchange_bind(router.name, router.name, "")
    queue = amqp.queue(router.ch)
    router.ch.queue_bind(queue, others[1], "")
    router.bound["b"] = queue
    assert router.reached() == ["a", "b"]


def test_e2e_two_ways_to_one_queue_is_one_copy(amqp):
    router = Router(amqp, "fanout").bind("a")
    for _ in range(3):
        other = amqp.exchange(router.ch, "fanout")
        router.ch.exchange_bind(other, router.name, "")
        router.ch.queue_bind(router.bound["a"], other, "")
    assert router.reached() == ["a"]


def test_delivery_names_the_first_exchange(amqp):
    router = Router(amqp, "fanout")
    other = amqp.exchange(router.ch, "fanout")
    router.ch.exchange_bind(other, router.name, "")
    queue = amqp.queue(router.ch)
    router.ch.queue_bind(queue, other, "")
    router.ch.basic_publish(router.name, "key", b"m")
    deliver = get(router.ch, queue)[0]
    assert (deliver.exchange, deliver.routing_key) == (router.name, "key")


def test_internal_exchange_is_reached_through_another(amqp):
    router = Router(amqp, "fanout")
    inner = amqp.exchange(router.ch, "fanout", internal=True)
    router.ch.exchange_bind(inner, router.name, "")
    queue = amqp.queue(router.ch)
    router.ch.queue_bind(queue, inner, "")
    router.bound["in"] = queue
    assert router.reached() == ["in"]


# -- auto-delete ----------------------------------------------------------------------------------
def exchange_exists(amqp, name):
    try:
        amqp.channel().exchange_declare(name, passive=True)
        return True
    except exceptions.ChannelClosedByBroker as end:
        assert end.reply_code == 404
        return False


def test_auto_delete_exchange_goes_with_its_last_binding(amqp):
    ch = amqp.channel()
    name = amqp.exchange(ch, "direct", auto_delete=True)
    assert exchange_exists(amqp, name)
    queue = amqp.queue(ch)
    ch.queue_bind(queue, name, "a")
    ch.queue_bind(queue, name, "b")
    ch.queue_unbind(queue, name, "a")
    assert exchange_exists(amqp, name)
    ch.queue_unbind(queue, name, "b")
    assert not exchange_exists(amqp, name)


def test_auto_delete_exchange_goes_with_its_last_queue(amqp):
    ch = amqp.channel()
    name = amqp.exchange(ch, "fanout", auto_delete=True)
    queue = amqp.queue(ch)
    ch.queue_bind(queue, name, "")
    ch.queue_delete(queue)
    assert not exchange_exists(amqp, name)


def test_auto_delete_cascades_over_exchange_bindings(amqp):
    ch = amqp.channel()
    first = amqp.exchange(ch, "fanout", auto_delete=True)
    second = amqp.exchange(ch, "fanout", auto_delete=True)
    queue = amqp.queue(ch)
    ch.exchange_bind(second, first, "")
    ch.queue_bind(queue, second, "")
    ch.queue_delete(queue)
    assert not exchange_exists(amqp, second)
    assert not exchange_exists(amqp, first)


# -- unroutable -----------------------------------------------------------------------------------
def collect_returns(ch):
    got = []
    ch.add_on_return_callback(lambda _ch, method, props, body: got.append((method, props, body)))
    return got


@pytest.mark.parametrize("kind", TYPES)
def test_mandatory_is_returned(amqp, kind):
    ch = amqp.channel()
    got = collect_returns(ch)
    name = amqp.exchange(ch, kind)
    ch.basic_publish(name, "k", b"body", pika.BasicProperties(message_id="m1", headers={"h": 1}), mandatory=True)
    pump(ch, lambda: got)
    method, props, body = got[0]
    assert (method.reply_code, method.reply_text) == (312, "NO_ROUTE")
    assert (method.exchange, method.routing_key) == (name, "k")
    assert (props.message_id, props.headers, body) == ("m1", {"h": 1}, b"body")


def test_mandatory_to_the_default_exchange_is_returned(amqp):
    ch = amqp.channel(confirm=True)
    with pytest.raises(exceptions.UnroutableError) as caught:
        ch.basic_publish("", amqp.unique("none"), b"m", mandatory=True)
    assert caught.value.messages[0].method.reply_code == 312


def test_mandatory_that_is_routed_comes_not_back(amqp):
    ch = amqp.channel(confirm=True)
    q = amqp.queue(ch)
    ch.basic_publish("", q, b"m", mandatory=True)
    assert get_body(ch, q) == b"m"


def test_unroutable_without_mandatory_is_confirmed(amqp):
    ch = amqp.channel(confirm=True)
    ch.basic_publish("", amqp.unique("none"), b"m")
    assert ch.is_open


class TestAlternateExchange:
    def make(self, amqp, alternate_kind="fanout"):
        router = Router(amqp, "direct")
        self.alternate = amqp.unique("ae")
        amqp.exchanges.append(self.alternate)
        self.main = amqp.exchange(router.ch, "direct", arguments={"alternate-exchange": self.alternate})
        router.name = self.main
        router.bind("main", "k")
        if alternate_kind:
            router.ch.exchange_declare(self.alternate, alternate_kind)
            queue = amqp.queue(router.ch)
            router.ch.queue_bind(queue, self.alternate, "x")
            router.bound["alt"] = queue
        return router

    def test_takes_what_is_not_routed(self, amqp):
        router = self.make(amqp)
        assert router.reached("k") == ["main"]
        assert router.reached("other") == ["alt"]

    def test_counts_as_routed_for_mandatory(self, amqp):
        router = self.make(amqp)
        router.ch.basic_publish(self.main, "other", b"m", mandatory=True)
        deliver, _, body = get(router.ch, router.bound["alt"])
        assert (deliver.exchange, deliver.routing_key, body) == (self.main, "other", b"m")

    def test_that_routes_nothing_returns_mandatory(self, amqp):
        router = self.make(amqp, alternate_kind="direct")
        with pytest.raises(exceptions.UnroutableError):
            router.ch.basic_publish(self.main, "other", b"m", mandatory=True)

    def test_may_be_missing(self, amqp):
        router = self.make(amqp, alternate_kind=None)
        assert router.reached("other") == []
        with pytest.raises(exceptions.UnroutableError):
            router.ch.basic_publish(self.main, "other", b"m", mandatory=True)

    def test_chain(self, amqp):
        router = self.make(amqp, alternate_kind=None)
        last = amqp.exchange(router.ch, "fanout")
        router.ch.exchange_declare(self.alternate, "direct", arguments={"alternate-exchange": last})
        queue = amqp.queue(router.ch)
        router.ch.queue_bind(queue, last, "")
        router.bound["last"] = queue
        assert router.reached("other") == ["last"]

    def test_cycle_ends(self, amqp):
        router = self.make(amqp, alternate_kind=None)
        router.ch.exchange_declare(self.alternate, "direct", arguments={"alternate-exchange": self.main})
        assert router.reached("other") == []
        assert router.reached("k") == ["main"]


# -- CC and BCC -----------------------------------------------------------------------------------
class TestCarbonCopy:
    def publish(self, amqp, key, headers):
        router = Router(amqp, "direct").bind("a", "a").bind("b", "b").bind("c", "c")
        router.ch.basic_publish(router.name, key, b"m", pika.BasicProperties(headers=headers))
        return {label: got for label, queue in router.bound.items()
                for got in [router.ch.basic_get(queue, auto_ack=True)] if got[0]}

    def test_cc_routes_to_each_key_and_stays(self, amqp):
        got = self.publish(amqp, "a", {"CC": ["b", "c"], "other": 1})
        assert sorted(got) == ["a", "b", "c"]
        for method, props, _ in got.values():
            assert method.routing_key == "a"
            assert props.headers == {"CC": ["b", "c"], "other": 1}

    def test_bcc_routes_and_is_taken_away(self, amqp):
        got = self.publish(amqp, "a", {"CC": ["b"], "BCC": ["c"]})
        assert sorted(got) == ["a", "b", "c"]
        assert all(props.headers == {"CC": ["b"]} for _, props, _ in got.values())

    def test_same_key_twice_is_one_copy(self, amqp):
        got = self.publish(amqp, "a", {"CC": ["a", "a"], "BCC": ["a"]})
        assert sorted(got) == ["a"]

    def test_only_copies_match(self, amqp):
        assert sorted(self.publish(amqp, "none", {"CC": ["b"]})) == ["b"]

    def test_default_exchange(self, amqp):
        ch = amqp.channel(confirm=True)
        q1, q2 = amqp.queue(ch), amqp.queue(ch)
        ch.basic_publish("", q1, b"m", pika.BasicProperties(headers={"BCC": [q2]}))
        assert get_body(ch, q1) == get_body(ch, q2) == b"m"
