"""Destinations as RabbitMQ's adapter has them, durable subscriptions, temporary queues, arguments."""
import pytest

from mqtest.broker import wait_until
from mqtest.pika_help import exists


def test_topic_patterns(stomp, unique):
    t = unique("t").replace("-", "")
    c = stomp()
    c.subscribe(f"/topic/{t}.*.end", "1").subscribe(f"/topic/{t}.#", "2")
    c.put(f"/topic/{t}.a.end")
    got = sorted([c.expect("MESSAGE"), c.expect("MESSAGE")], key=lambda m: m["subscription"])
    assert [m["subscription"] for m in got] == ["1", "2"]
    assert {m["destination"] for m in got} == {f"/topic/{t}.a.end"}
    c.put(f"/topic/{t}.b")
    assert c.expect("MESSAGE")["subscription"] == "2"
    c.idle()


def test_exchanges(stomp, amqp, unique):
    ch = amqp.channel()
    exchange = amqp.exchange(ch, "direct")
    c = stomp().subscribe(f"/exchange/{exchange}/red")
    c.put(f"/exchange/{exchange}/red", b"1").put(f"/exchange/{exchange}/blue", b"2")
    message = c.expect("MESSAGE")
    assert (message.body, message["destination"]) == (b"1", f"/exchange/{exchange}/red")
    c.idle()


def test_percent_encoding(stomp, amqp, unique, on_rabbitmq):
    if on_rabbitmq:
        pytest.skip("RabbitMQ 3.10 decodes %2F only")
    name = unique("a/b c%")
    ch = amqp.channel()
    amqp.queue(ch, name, durable=True)
    encoded = name.replace("%", "%25").replace("/", "%2F").replace(" ", "%20")
    c = stomp().subscribe(f"/queue/{encoded}")
    c.put(f"/queue/{encoded}", b"here")
    message = c.expect("MESSAGE")
    assert message["destination"] == "/queue/" + name.replace("%", "%25").replace("/", "%2F")
    c.put(message["destination"], b"again")
    assert c.expect("MESSAGE").body == b"again"


def test_a_name_without_slashes_is_a_queue(stomp, unique):
    name = unique("plain")
    c = stomp().subscribe(f"/queue/{name}").put(name, b"x")
    assert c.expect("MESSAGE")["destination"] == f"/queue/{name}"


def test_queues_are_durable_and_stay(stomp, amqp, unique):
    name = unique("q")
    stomp().put(f"/queue/{name}", b"x")
    assert amqp.channel().queue_declare(name, passive=True).method.message_count == 1
    amqp.channel().queue_declare(name, durable=True)  # equal properties
    amqp.queues.append(name)


def test_amq_queue_must_exist(stomp, amqp, unique):
    ch = amqp.channel()
    name = amqp.queue(ch, auto_delete=True)
    c = stomp().subscribe(f"/amq/queue/{name}").put(f"/amq/queue/{name}", b"x")
    assert c.expect("MESSAGE")["destination"] == f"/queue/{name}"
    c = stomp()
    c.send("SUBSCRIBE", {"destination": "/amq/queue/" + unique("none"), "id": "1"})
    error = c.error()
    assert error["message"] == "not_found" and b"NOT_FOUND - no queue" in error.body


@pytest.mark.parametrize("destination, message", [
    ("/queue/a/b", "Invalid destination"), ("/queue/", "Invalid destination"), ("/topic", "Invalid destination"),
    ("/exchange/", "Invalid destination"), ("/nothing/x", "Unknown destination"), ("/", "Unknown destination")])
@pytest.mark.parametrize("command", ["SEND", "SUBSCRIBE"])
def test_bad_destinations(stomp, command, destination, message):
    c = stomp()
    c.send(command, {"destination": destination, "id": "1", "receipt": "r"})
    error = c.error()
    assert (error["message"], error["receipt-id"]) == (message, "r")


@pytest.mark.parametrize("command, headers, message", [
    ("SEND", {}, "Missing destination"), ("SUBSCRIBE", {"id": "1"}, "Missing destination"),
    ("SEND", {"destination": "/exchange/no-such-exchange/k"}, "not_found"),
    ("SUBSCRIBE", {"id": "1", "destination": "/exchange/no-such-exchange/k"}, "not_found"),
    ("UNSUBSCRIBE", {}, "Missing destination or id"), ("UNSUBSCRIBE", {"id": "none"}, "No subscription found")])
def test_faults_have_rabbitmqs_words(stomp, command, headers, message):
    c = stomp()
    c.send(command, headers)
    assert c.error()["message"] == message


def test_a_subscription_id_is_used_once(stomp, unique):
    c = stomp().subscribe(f"/queue/{unique('q')}", "same")
    c.send("SUBSCRIBE", {"destination": f"/queue/{unique('q')}", "id": "same"})
    assert c.error()["message"] == "Duplicated subscription identifier"


def test_a_durable_topic_subscription_goes_on(stomp, unique):
    t, headers = f"/topic/{unique('t')}", {"durable": "true", "auto-delete": "false"}
    c = stomp().subscribe(t, "mine", **headers)
    c.send("DISCONNECT", {"receipt": "bye"})
    c.receipt()
    stomp().put(t, b"while away")
    c = stomp().subscribe(t, "mine", **headers)
    assert c.expect("MESSAGE").body == b"while away"
    c.send("UNSUBSCRIBE", {"id": "mine", "destination": t, "durable": "true", "receipt": "u"})
    c.receipt()
    stomp().put(t, b"nobody there")
    c.subscribe(t, "mine", **headers).idle()
    c.send("UNSUBSCRIBE", {"id": "mine", "destination": t, "durable": "true", "receipt": "u"})
    c.receipt()


def test_x_queue_name_names_the_queue(stomp, amqp, unique):
    t, name = f"/topic/{unique('t')}", unique("named")
    c = stomp().subscribe(t, "1", x_queue_name=name, durable="true", auto_delete="false")
    assert amqp.channel().queue_declare(name, passive=True).method.consumer_count == 1
    amqp.queues.append(name)
    c.put(t, b"x")
    assert c.expect("MESSAGE").body == b"x"


def test_queue_arguments(stomp, amqp, unique):
    name = unique("q")
    stomp().subscribe(f"/queue/{name}", "1", x_max_length="2", x_dead_letter_exchange="amq.direct",
                      auto_delete="false", durable="true")
    amqp.channel().queue_declare(name, durable=True, arguments={"x-max-length": 2,
                                                                "x-dead-letter-exchange": "amq.direct"})
    amqp.queues.append(name)


@pytest.mark.parametrize("command", ["SEND", "SUBSCRIBE"])
def test_a_temp_queue_is_named_in_reply_to_only(stomp, command, on_rabbitmq):
    if on_rabbitmq:
        pytest.skip("RabbitMQ crashes the connection's process instead")
    c = stomp()
    c.send(command, {"destination": "/temp-queue/t", "id": "1", "receipt": "r"})
    error = c.error()
    assert (error["message"], error["receipt-id"]) == ("Invalid destination", "r")


def test_an_auto_delete_queue_goes_with_its_last_subscription(stomp, amqp, unique):
    name = unique("q")
    c = stomp().subscribe(f"/queue/{name}", "1", durable="false", exclusive="false")
    amqp.channel().queue_declare(name, auto_delete=True)  # equal properties
    c.send("UNSUBSCRIBE", {"id": "1", "receipt": "u"})
    c.receipt()
    wait_until(lambda: not exists(amqp, name), 8, "the queue to go")


@pytest.mark.parametrize("headers", [{"durable": "false"}, {"durable": "true", "exclusive": "true"}])
def test_an_exclusive_queue_is_its_connections(stomp, amqp, unique, headers):
    """Which one that is not durable is unless the headers say else."""
    name = unique("q")
    c = stomp().subscribe(f"/queue/{name}", "1", **headers)
    other = stomp()
    other.send("SUBSCRIBE", {"destination": f"/amq/queue/{name}", "id": "1"})
    assert other.error()["message"] == "resource_locked"
    c.put(f"/queue/{name}", b"x")
    assert c.expect("MESSAGE").body == b"x"
    c.close()
    wait_until(lambda: not exists(amqp, name), 8, "the queue to go")


def test_a_queue_that_is_not_durable(stomp, amqp, unique):
    name = unique("q")
    stomp().subscribe(f"/queue/{name}", durable="false", exclusive="false", auto_delete="false")
    amqp.queues.append(name)
    amqp.channel().queue_declare(name, durable=False)  # equal properties


@pytest.mark.parametrize("destination", ["/topic/{}", "/exchange/amq.direct/{}"])
def test_the_queue_of_a_topic_goes_with_its_subscription(stomp, amqp, broker, unique, destination):
    c = stomp().subscribe(destination.format(unique("t")), "1")
    own = [q for q in broker.ctl("list_queues", "name").split() if q.startswith("stomp-subscription-")]
    assert own
    c.send("UNSUBSCRIBE", {"id": "1", "receipt": "u"})
    c.receipt()
    wait_until(lambda: not set(own) & set(broker.ctl("list_queues", "name").split()), 8, "the queue to go")


def test_a_subscription_of_higher_priority_comes_first(stomp, unique, on_rabbitmq):
    if on_rabbitmq:
        pytest.skip("RabbitMQ 3.10 does not look at it")
    queue = f"/queue/{unique('q')}"
    low = stomp().subscribe(queue, ack="client-individual", prefetch_count="1", x_priority="-1")
    high = stomp().subscribe(queue, ack="client-individual", prefetch_count="2", x_priority="5")
    sender = stomp()
    for n in range(3):
        sender.put(queue, b"%d" % n)
    assert [high.expect("MESSAGE").body for _ in range(2)] == [b"0", b"1"]
    assert low.expect("MESSAGE").body == b"2"


def test_a_durable_subscription_needs_an_id(stomp, unique, on_rabbitmq):
    if on_rabbitmq:
        pytest.skip("RabbitMQ takes it, and never finds it again")
    c = stomp("1.0")
    c.send("SUBSCRIBE", {"destination": f"/topic/{unique('t')}", "durable": "true"})
    assert c.error()["message"] == "Missing header"


def test_temp_queues_bring_answers(stomp, unique):
    service, client = stomp(), stomp()
    queue = f"/queue/{unique('service')}"
    service.subscribe(queue)
    client.send("SEND", {"destination": queue, "reply-to": "/temp-queue/answers", "correlation-id": "7"}, b"ask")
    asked = service.expect("MESSAGE")
    assert asked["reply-to"].startswith("/reply-queue/") and asked["correlation-id"] == "7"
    service.send("SEND", {"destination": asked["reply-to"], "correlation-id": asked["correlation-id"]}, b"answer")
    got = client.expect("MESSAGE")
    assert (got.body, got["subscription"], got["correlation-id"]) == (b"answer", "/temp-queue/answers", "7")


def test_an_amqp_service_answers_a_temp_queue(stomp, amqp, unique):
    name = unique("service")
    ch = amqp.channel()
    amqp.queue(ch, name, durable=True)
    client = stomp()
    client.put(f"/queue/{name}", b"ask", reply_to="/temp-queue/a")
    _, props, _ = ch.basic_get(name, auto_ack=True)
    ch.basic_publish("", props.reply_to, b"answer")
    assert client.expect("MESSAGE").body == b"answer"


def test_expiration(stomp, amqp, unique):
    queue = f"/queue/{unique('q')}"
    c = stomp()
    c.put(queue, b"old", expiration="1")
    wait_until(lambda: amqp.channel().queue_declare(queue[7:], passive=True).method.message_count == 0, 5, "it is expired")
    c.put(queue, b"new", expiration="60000").subscribe(queue)
    assert c.expect("MESSAGE").body == b"new"


def test_a_deleted_queue_ends_the_subscription(stomp, amqp, unique):
    name = unique("q")
    c = stomp().subscribe(f"/queue/{name}")
    amqp.channel().queue_delete(name)
    assert c.error()["message"] == "Server cancelled subscription"


def test_a_send_to_a_queue_that_was_deleted_makes_it_again(stomp, amqp, unique, on_rabbitmq):
    if on_rabbitmq:
        pytest.skip("RabbitMQ loses the message")
    name = unique("q")
    c = stomp().put(f"/queue/{name}", b"1")
    amqp.channel().queue_delete(name)
    c.put(f"/queue/{name}", b"2")
    assert c.subscribe(f"/queue/{name}").expect("MESSAGE").body == b"2"
