"""Transactions: what is sent and settled in one takes place whole or not at all."""
import pytest

from mqtest.stomp import Stomp


def begin(c, queue, tx="t"):
    """A message taken from `queue`, acknowledged in a transaction that also sends two to `queue`-out."""
    message = c.expect("MESSAGE")
    c.send("BEGIN", {"transaction": tx})
    c.send("ACK", {"id": message["ack"], "transaction": tx})
    for n in range(2):
        c.send("SEND", {"destination": f"{queue}-out", "transaction": tx, "persistent": "true"}, b"%d" % n)
    return message


def commit(c, tx="t"):
    c.send("COMMIT", {"transaction": tx, "receipt": "committed"})
    assert c.receipt()["receipt-id"] == "committed"


def taken(c, queue, n):
    """The bodies of the n messages that are there, and no more."""
    c.subscribe(queue, queue)
    got = [c.expect("MESSAGE").body for _ in range(n)]
    c.idle()
    c.send("UNSUBSCRIBE", {"id": queue, "receipt": "taken"})
    c.receipt()
    return got


def test_sends_and_acks_are_one(stomp, unique):
    queue = f"/queue/{unique('q')}"
    c = stomp().subscribe(queue, ack="client-individual").put(queue, b"x", persistent="true")
    begin(c, queue)
    assert taken(stomp(), f"{queue}-out", 0) == []
    commit(c)
    c.close()
    assert taken(stomp(), queue, 0) == [] and taken(stomp(), f"{queue}-out", 2) == [b"0", b"1"]


@pytest.mark.parametrize("end", ["ABORT", "DISCONNECT", "UNSUBSCRIBE", "vanish"])
def test_what_is_not_committed_did_not_happen(stomp, unique, end):
    queue = f"/queue/{unique('q')}"
    c = stomp().subscribe(queue, ack="client-individual").put(queue, b"x", persistent="true")
    begin(c, queue)
    if end == "UNSUBSCRIBE":
        c.send(end, {"id": "0", "receipt": "r"})
        c.receipt()
        c.send("ABORT", {"transaction": "t", "receipt": "r"})
        c.receipt()
    elif end != "vanish":
        c.send(end, {"transaction": "t", "receipt": "r"})
        c.receipt()
    c.close()
    assert taken(stomp(), f"{queue}-out", 0) == []
    assert stomp().subscribe(queue).expect("MESSAGE").body == b"x"


def test_an_aborted_ack_may_be_said_again(stomp, unique):
    queue = f"/queue/{unique('q')}"
    c = stomp().subscribe(queue, ack="client-individual").put(queue, b"x")
    message = begin(c, queue)
    c.send("ABORT", {"transaction": "t"})
    c.send("ACK", {"id": message["ack"], "receipt": "a"})
    assert c.receipt()["receipt-id"] == "a"
    c.close()
    assert taken(stomp(), queue, 0) == []


def test_a_message_is_in_one_transaction(stomp, unique, on_rabbitmq):
    if on_rabbitmq:
        pytest.skip("RabbitMQ does not look")
    queue = f"/queue/{unique('q')}"
    c = stomp().subscribe(queue, ack="client-individual").put(queue, b"x")
    message = begin(c, queue)
    c.send("ACK", {"id": message["ack"], "receipt": "again"})
    assert c.error()["receipt-id"] == "again"


def test_a_nack_waits_for_its_commit(stomp, unique):
    queue = f"/queue/{unique('q')}"
    c = stomp().subscribe(queue, ack="client-individual").put(queue, b"x")
    message = c.expect("MESSAGE")
    c.send("BEGIN", {"transaction": "t"})
    c.send("NACK", {"id": message["ack"], "transaction": "t", "requeue": "true"})
    c.idle()
    c.send("COMMIT", {"transaction": "t"})
    assert c.expect("MESSAGE")["redelivered"] == "true"


@pytest.mark.parametrize("bad, message", [("/exchange/no-such-exchange/k", "not_found"), ("/queue/amq.mine", "access_refused")])
def test_a_commit_that_cannot_do_one_thing_does_nothing(stomp, unique, bad, message, on_rabbitmq):
    if on_rabbitmq:
        pytest.skip("RabbitMQ does what comes before it")
    queue = f"/queue/{unique('q')}"
    c = stomp().subscribe(queue, ack="client-individual").put(queue, b"x")
    begin(c, queue)
    c.send("SEND", {"destination": bad, "transaction": "t"}, b"refused")
    c.send("COMMIT", {"transaction": "t", "receipt": "c"})
    error = c.error()
    assert (error["message"], error["receipt-id"]) == (message, "c")
    assert taken(stomp(), f"{queue}-out", 0) == []
    assert stomp().subscribe(queue).expect("MESSAGE").body == b"x"


@pytest.mark.parametrize("committed", [True, False])
def test_after_kill9_it_is_there_whole_or_not_at_all(own_gateway, committed):
    gateway = own_gateway()
    with Stomp(gateway.ports["stomp"]).connect() as c:
        c.subscribe("/queue/in", ack="client-individual").put("/queue/in", b"x", persistent="true")
        begin(c, "/queue/in")
        if committed:
            commit(c)
        gateway.kill9()
    gateway.start()
    with Stomp(gateway.ports["stomp"]).connect() as c:
        assert taken(c, "/queue/in", not committed) == ([] if committed else [b"x"])
        assert taken(c, "/queue/in-out", 2 * committed) == ([b"0", b"1"] if committed else [])
