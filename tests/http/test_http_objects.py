"""Exchanges, queues, bindings, connections, channels, consumers, messages over the API."""
import base64

import pytest
from pika import exceptions

from mqtest.broker import wait_until


def test_exchange_life(api, vhost):
    body = {"type": "headers", "durable": False, "auto_delete": True, "internal": True, "arguments": {"k": [1, "a"]}}
    api.put("exchanges", vhost, "x/1 é", body=body).expect(201)
    api.put("exchanges", vhost, "x/1 é", body=body).expect(204)
    got = api.get("exchanges", vhost, "x/1 é").expect(200, name="x/1 é", vhost=vhost, **body)
    assert got["incoming"] == [] and got["outgoing"] == []
    assert "x/1 é" in api.names("exchanges") and "x/1 é" in api.names("exchanges", vhost)
    api.put("exchanges", vhost, "x/1 é", body={"type": "direct"}).expect(
        400, error="bad_request",
        reason=f"inequivalent arg 'type' for exchange 'x/1 é' in vhost '{vhost}': received 'direct' but current is 'headers'")
    api.delete("exchanges", vhost, "x/1 é").expect(204)
    api.delete("exchanges", vhost, "x/1 é").expect(404, error="Object Not Found")
    api.get("exchanges", vhost, "x/1 é").expect(404)


def test_predeclared_exchanges(api, vhost):
    assert api.names("exchanges", vhost) == ["", "amq.direct", "amq.fanout", "amq.headers", "amq.match",
                                             "amq.rabbitmq.trace", "amq.topic"]
    api.get("exchanges", vhost, "amq.default").expect(200, name="", type="direct")
    api.delete("exchanges", vhost, "amq.direct").expect(401, error="not_authorised")
    api.put("exchanges", vhost, "y", body={"type": "nope"}).expect(400, reason="unknown exchange type 'nope'")
    api.put("exchanges", vhost, "amq.mine", body={}).expect(401)


def test_exchange_if_unused(api, vhost):
    api.put("exchanges", vhost, "x", body={}).expect(201)
    api.put("queues", vhost, "q", body={}).expect(201)
    api.post("bindings", vhost, "e", "x", "q", "q", body={}).expect(201)
    api.delete("exchanges", vhost, "x", query="?if-unused=true").expect(400, error="bad_request")
    api.delete("exchanges", vhost, "x").expect(204)


def test_queue_life(api, vhost):
    body = {"durable": True, "auto_delete": False, "arguments": {"x-max-length": 10, "x-overflow": "reject-publish"}}
    api.put("queues", vhost, "q/1", body=body).expect(201)
    api.put("queues", vhost, "q/1", body=body).expect(204)
    api.get("queues", vhost, "q/1").expect(
        200, name="q/1", vhost=vhost, type="classic", state="running", exclusive=False, messages=0, messages_ready=0,
        messages_unacknowledged=0, consumers=0, policy=None, consumer_details=[], **body)
    assert "q/1" in api.names("queues") and api.names("queues", vhost) == ["q/1"]
    api.put("queues", vhost, "q/1", body={"durable": False, "arguments": body["arguments"]}).expect(
        400, reason=f"inequivalent arg 'durable' for queue 'q/1' in vhost '{vhost}': received 'false' but current is 'true'")
    assert api.publish(vhost, "amq.default", "q/1", "m")
    api.delete("queues", vhost, "q/1", query="?if-empty=true").expect(400, error="bad_request")
    api.delete("queues", vhost, "q/1", "contents").expect(204)
    api.get("queues", vhost, "q/1").expect(200, messages=0)
    api.delete("queues", vhost, "q/1", query="?if-empty=true&if-unused=true").expect(204)
    api.delete("queues", vhost, "q/1").expect(404)
    api.delete("queues", vhost, "q/1", "contents").expect(404)
    api.get("queues", vhost, "q/1").expect(404)


BAD_QUEUES = {
    "durable": ({"durable": "maybe"}, "durable: not_boolean"),
    "arguments": ({"arguments": 7}, "arguments: not_a_table"),
    "argument": ({"arguments": {"x-message-ttl": -1}}, None),
}


@pytest.mark.parametrize("name", BAD_QUEUES)
def test_queue_refused(api, vhost, name):
    body, reason = BAD_QUEUES[name]
    got = api.put("queues", vhost, "bad", body=body).expect(400, error="bad_request")
    assert reason is None or got["reason"] == reason
    api.get("queues", vhost, "bad").expect(404)


def test_unknown_vhost(api):
    for parts in (("queues", "nowhere"), ("exchanges", "nowhere"), ("bindings", "nowhere"), ("consumers", "nowhere"),
                  ("queues", "nowhere", "q"), ("vhosts", "nowhere")):
        api.get(*parts).expect(404, error="Object Not Found")
    api.put("queues", "nowhere", "q", body={}).expect(404, error="not_found", reason="vhost nowhere not found")


def test_binding_life(api, vhost):
    api.put("queues", vhost, "q/1", body={})
    api.put("exchanges", vhost, "x/1", body={"type": "topic"})
    keys = {"a.b": {}, "": {}, "a b~/%": {}, "with": {"x": 1, "y": "z"}}
    for key, args in keys.items():
        answer = api.post("bindings", vhost, "e", "x/1", "q", "q/1", body={"routing_key": key, "arguments": args})
        answer.expect(201)
        assert answer.headers["location"].startswith("q%2F1/")
    listed = api.get("bindings", vhost, "e", "x/1", "q", "q/1").json
    assert {b["routing_key"]: b["arguments"] for b in listed} == keys
    assert {b["routing_key"]: b["properties_key"] for b in listed if not b["arguments"]} == {
        "a.b": "a.b", "": "~", "a b~/%": "a+b%7E%2F%25"}
    for binding in listed:
        assert api.get("bindings", vhost, "e", "x/1", "q", "q/1", binding["properties_key"]).json == binding
    default = {"source": "", "vhost": vhost, "destination": "q/1", "destination_type": "queue", "routing_key": "q/1",
               "arguments": {}, "properties_key": "q%2F1"}
    assert default in api.get("bindings").json and default in api.get("bindings", vhost).json
    assert len(api.get("queues", vhost, "q/1", "bindings").json) == 5
    assert len(api.get("exchanges", vhost, "x/1", "bindings", "source").json) == 4
    for binding in listed:
        api.delete("bindings", vhost, "e", "x/1", "q", "q/1", binding["properties_key"]).expect(204)
    api.delete("bindings", vhost, "e", "x/1", "q", "q/1", "a.b").expect(404)
    assert api.get("queues", vhost, "q/1", "bindings").json == [default]


def test_binding_of_exchanges(api, vhost):
    api.put("exchanges", vhost, "x", body={"type": "topic"})
    api.post("bindings", vhost, "e", "x", "e", "amq.fanout", body={"routing_key": "k"}).expect(201)
    got = api.get("exchanges", vhost, "amq.fanout", "bindings", "destination").json
    assert [(b["source"], b["destination_type"], b["routing_key"]) for b in got] == [("x", "exchange", "k")]
    assert api.get("bindings", vhost, "e", "x", "e", "amq.fanout").json == got
    api.delete("bindings", vhost, "e", "x", "e", "amq.fanout", "k").expect(204)


def test_binding_refused(api, vhost):
    api.put("queues", vhost, "q", body={})
    api.post("bindings", vhost, "e", "amq.topic", "q", "none", body={}).expect(
        404, error="not_found", reason=f"no queue 'none' in vhost '{vhost}'")
    api.post("bindings", vhost, "e", "none", "q", "q", body={}).expect(
        404, reason=f"no exchange 'none' in vhost '{vhost}'")
    api.post("bindings", vhost, "e", "amq.topic", "z", "q", body={}).expect(404, error="Object Not Found")
    api.post("bindings", vhost, "e", "amq.topic", "q", "q", body={"routing_key": 7}).expect(400)


def test_publish_and_get(api, vhost, amqp):
    api.put("queues", vhost, "q", body={})
    properties = {"content_type": "text/plain", "headers": {"a": 1, "b": [True, "x"]}, "delivery_mode": 2,
                  "priority": 3, "message_id": "m1", "timestamp": 1700000000, "expiration": "60000", "app_id": "app",
                  "correlation_id": "c", "reply_to": "r", "type": "t", "user_id": "guest", "content_encoding": "utf-8"}
    assert api.publish(vhost, "amq.default", "q", "héllo", **properties) is True
    assert api.publish(vhost, "amq.default", "nowhere", "m") is False
    for mode, redelivered in (("ack_requeue_true", False), ("reject_requeue_true", True), ("ack_requeue_false", True)):
        assert api.fetch(vhost, "q", mode=mode) == [{
            "payload_bytes": 6, "redelivered": redelivered, "exchange": "", "routing_key": "q", "message_count": 0,
            "properties": properties, "payload": "héllo", "payload_encoding": "string"}]
    assert api.fetch(vhost, "q") == []
    api.publish(vhost, "amq.default", "q", "over amqp", **properties)
    ch = amqp.connect(virtual_host=vhost).channel()
    _, props, body = ch.basic_get("q", auto_ack=True)
    assert body == b"over amqp" and props.headers == {"a": 1, "b": [True, "x"]}
    assert (props.content_type, props.delivery_mode, props.priority, props.message_id, props.timestamp,
            props.correlation_id, props.user_id) == ("text/plain", 2, 3, "m1", 1700000000, "c", "guest")


def test_get_several_and_binary(api, vhost, amqp):
    api.put("queues", vhost, "q", body={})
    ch = amqp.connect(virtual_host=vhost).channel()
    ch.confirm_delivery()
    for i in range(30):
        ch.basic_publish("", "q", bytes([0xff, i]))
    got = api.fetch(vhost, "q", count=20, mode="ack_requeue_true")
    assert [base64.b64decode(m["payload"]) for m in got] == [bytes([0xff, i]) for i in range(20)]
    assert {m["payload_encoding"] for m in got} == {"base64"} and got[0]["message_count"] == 29
    assert len(api.fetch(vhost, "q", count=100)) == 30
    api.post("exchanges", vhost, "amq.default", "publish",
             body={"routing_key": "q", "payload": base64.b64encode(b"\x00\xfe").decode(), "payload_encoding": "base64",
                   "properties": {}}).expect(200, routed=True)
    assert ch.basic_get("q", auto_ack=True)[2] == b"\x00\xfe"
    api.publish(vhost, "amq.default", "q", "long text")
    assert api.fetch(vhost, "q", truncate=4)[0]["payload"] == "long"


def test_reject_dead_letters(api, vhost):
    api.put("queues", vhost, "dead", body={})
    api.put("queues", vhost, "q", body={"arguments": {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}})
    api.publish(vhost, "amq.default", "q", "m")
    assert len(api.fetch(vhost, "q", mode="reject_requeue_false")) == 1
    wait_until(lambda: api.get("queues", vhost, "dead").json["messages"] == 1, 5, "dead letter")
    assert api.fetch(vhost, "dead")[0]["properties"]["headers"]["x-death"][0]["reason"] == "rejected"


BAD_PUBLISHES = {
    "nothing": ({}, "[{key_missing,routing_key},{key_missing,properties},{key_missing,payload},"
                    "{key_missing,payload_encoding}]"),
    "encoding": ({"payload_encoding": "utf-7"}, "unsupported_encoding: utf-7"),
    "base64": ({"payload_encoding": "base64", "payload": "!!!!"}, "payload is not base64"),
    "base64 length": ({"payload_encoding": "base64", "payload": "abc"}, "payload is not base64"),
    "property": ({"properties": {"colour": "red"}}, "properties: 'colour' is not known or not of its type"),
    "headers": ({"properties": {"headers": 1}}, "properties: 'headers' is not known or not of its type"),
    "user": ({"properties": {"user_id": "me"}}, "user_id property set to 'me' but authenticated user was 'guest'"),
    "key": ({"routing_key": "k" * 256}, "an exchange and a routing key have at most 255 bytes"),
}


@pytest.mark.parametrize("name", BAD_PUBLISHES)
def test_publish_refused(api, name):
    body, reason = BAD_PUBLISHES[name]
    good = {"routing_key": "k", "payload": "", "payload_encoding": "string", "properties": {}} if body else {}
    api.post("exchanges", "/", "amq.default", "publish", body={**good, **body}).expect(
        400, error="bad_request", reason=reason)


def test_publish_to_no_exchange(api):
    body = {"routing_key": "k", "payload": "", "payload_encoding": "string", "properties": {}}
    api.post("exchanges", "/", "none", "publish", body=body).expect(404, reason="no exchange 'none' in vhost '/'")


@pytest.mark.parametrize("change", [{"count": 0}, {"count": "x"}, {"count": 10001}, {"ackmode": "maybe"},
                                    {"encoding": "utf-7"}])
def test_get_refused(api, vhost, change):
    api.put("queues", vhost, "q", body={})
    body = {"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto", **change}
    api.post("queues", vhost, "q", "get", body=body).expect(400, error="bad_request")


def test_get_from_no_queue(api):
    body = {"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"}
    api.post("queues", "/", "none", "get", body=body).expect(404, reason="no queue 'none' in vhost '/'")


def test_connections_channels_consumers(api, vhost, amqp):
    api.put("queues", vhost, "q", body={})
    conn = amqp.connect(virtual_host=vhost)
    ch = conn.channel()
    ch.basic_qos(prefetch_count=7)
    ch.confirm_delivery()
    ch.basic_consume("q", print, consumer_tag="tag1", arguments={"x-priority": 2})
    mine = [c for c in api.get("connections").expect(200) if c["vhost"] == vhost]
    assert len(mine) == 1
    got, name = mine[0], mine[0]["name"]
    assert (got["user"], got["protocol"], got["state"], got["channels"], got["ssl"], got["type"]) == (
        "guest", "AMQP 0-9-1", "running", 1, False, "network")
    assert got["client_properties"]["product"] == "Pika Python Client Library"
    assert name == f"{got['peer_host']}:{got['peer_port']} -> {got['host']}:{got['port']}"
    for key in (name, got["pid"], str(got["id"])):
        api.get("connections", key).expect(200, name=name)
    channels = api.get("connections", name, "channels").json
    assert [(c["number"], c["prefetch_count"], c["confirm"], c["consumer_count"], c["name"]) for c in channels] == [
        (1, 7, True, 1, f"{name} (1)")]
    assert f"{name} (1)" in api.names("channels")
    api.get("channels", f"{name} (1)").expect(200, vhost=vhost, user="guest")
    api.get("channels", "none").expect(404)
    consumer = api.get("consumers", vhost).json
    assert [(c["consumer_tag"], c["queue"], c["ack_required"], c["prefetch_count"], c["arguments"]) for c in consumer] == [
        ("tag1", {"name": "q", "vhost": vhost}, True, 7, {"x-priority": 2})]
    assert consumer[0]["channel_details"]["name"] == f"{name} (1)"
    assert consumer[0] in api.get("consumers").json
    api.get("queues", vhost, "q").expect(200, consumers=1, consumer_details=consumer)


def test_a_name_of_the_client_s_own(api, amqp, vhost):
    amqp.connect(virtual_host=vhost, client_properties={"connection_name": "billing"})
    assert [c["user_provided_name"] for c in api.get("connections").json if c["vhost"] == vhost] == ["billing"]


def test_close_a_connection(api, vhost, amqp):
    conn = amqp.connect(virtual_host=vhost)
    name = [c["name"] for c in api.get("connections").json if c["vhost"] == vhost][0]
    api.delete("connections", name, headers={"X-Reason": "bye now"}).expect(204)
    with pytest.raises(exceptions.ConnectionClosedByBroker) as caught:
        conn.process_data_events(5)
    assert (caught.value.reply_code, caught.value.reply_text) == (320, "CONNECTION_FORCED - bye now")
    wait_until(lambda: api.delete("connections", name).status == 404, 5, "gone")


def test_own_connections_only(api, vhost, user, amqp):
    who = user("management", {vhost: (".*", ".*", ".*")})
    amqp.connect(virtual_host=vhost)
    amqp.connect(user=who.user, password="pw", virtual_host=vhost)
    assert [c["user"] for c in who.get("connections").json] == [who.user]
    other = [c["name"] for c in api.get("connections").json if c["vhost"] == vhost and c["user"] == "guest"][0]
    who.delete("connections", other).expect(404)
    who.delete("connections", who.get("connections").json[0]["name"]).expect(204)


def test_close_all_of_a_vhost(api, vhost, amqp):
    conns = [amqp.connect(virtual_host=vhost) for _ in range(3)]
    other = amqp.connect()
    from urllib.parse import quote
    api.delete("connections", query=f"?vhost={quote(vhost, safe='')}").expect(200, closed=3)
    for conn in conns:
        with pytest.raises((exceptions.ConnectionClosedByBroker, exceptions.AMQPConnectionError)):
            conn.process_data_events(5)
            conn.channel()
    other.channel().close()


def test_exclusive_queue(api, vhost, amqp):
    ch = amqp.connect(virtual_host=vhost).channel()
    ch.queue_declare("mine", exclusive=True)
    api.get("queues", vhost, "mine").expect(200, exclusive=True)
    api.delete("queues", vhost, "mine").expect(400, error="bad_request")
    api.delete("queues", vhost, "mine", "contents").expect(400)
