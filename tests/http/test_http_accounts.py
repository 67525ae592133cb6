"""Users, permissions, vhosts over the API; what a user with fewer rights sees; what outlives a kill."""
import pika
import pytest
from pika import exceptions

from api import Api

BAD_LOGINS = {"nobody": (None, None), "unknown": ("nobody", "x"), "wrong": ("guest", "wrong"), "empty": ("guest", "")}


@pytest.mark.parametrize("name", BAD_LOGINS)
def test_login_refused(broker, name):
    answer = Api(broker, *BAD_LOGINS[name]).get("overview")
    answer.expect(401, error="not_authorized", reason="Login failed")
    assert answer.headers["www-authenticate"].startswith("Basic ")


def test_whoami(api, user):
    api.get("whoami").expect(200, name="guest", tags=["administrator"])
    user("monitoring,management").get("whoami").expect(200, tags=["monitoring", "management"])
    user("").get("whoami").expect(401, error="not_authorized")


def test_user_life(api, unique):
    name = unique("u/ser é")
    api.put("users", name, body={"password": "one", "tags": ["monitoring"]}).expect(201)
    api.put("users", name, body={"password": "two", "tags": "administrator"}).expect(204)
    got = api.get("users", name).expect(200, name=name, tags=["administrator"],
                                        hashing_algorithm="rabbit_password_hashing_sha256")
    assert len(got["password_hash"]) == 48
    assert name in api.names("users")
    Api(api.broker, name, "two").get("whoami").expect(200)
    Api(api.broker, name, "one").get("whoami").expect(401)
    api.delete("users", name).expect(204)
    api.delete("users", name).expect(404, error="Object Not Found", reason="Not Found")
    api.get("users", name).expect(404)


def test_imported_hash(api, unique):
    """The hash that RabbitMQ's documentation computes for "test12"."""
    name = unique("imported")
    api.put("users", name, body={"password_hash": "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR",
                                 "tags": "management"}).expect(201)
    Api(api.broker, name, "test12").get("whoami").expect(200)
    Api(api.broker, name, "test13").get("whoami").expect(401)
    api.delete("users", name).expect(204)


BAD_USERS = {
    "no tags": {"password": "x"},
    "tags of numbers": {"password": "x", "tags": 7},
    "bad hash": {"password_hash": "xyz", "tags": ""},
    "unknown algorithm": {"password_hash": "", "hashing_algorithm": "md5", "tags": ""},
    "password of numbers": {"password": 1, "tags": ""},
}


@pytest.mark.parametrize("name", BAD_USERS)
def test_user_refused(api, name):
    api.put("users", "refused", body=BAD_USERS[name]).expect(400, error="bad_request")
    api.get("users", "refused").expect(404)


def test_vhost_life(api, unique, amqp):
    name = unique("v/h ost")
    api.put("vhosts", name).expect(201)
    api.put("vhosts", name).expect(204)
    assert api.get("vhosts", name).expect(200, name=name, tracing=False)["cluster_state"]
    assert name in api.names("vhosts")
    api.get("permissions", name, "guest").expect(200, configure=".*", write=".*", read=".*")
    conn = amqp.connect(virtual_host=name)
    conn.channel().queue_declare("q", durable=True)
    api.delete("vhosts", name).expect(204)
    with pytest.raises((exceptions.ConnectionClosedByBroker, exceptions.AMQPConnectionError)):
        conn.process_data_events(5)
        conn.channel()
    api.delete("vhosts", name).expect(404)
    assert name not in [p["vhost"] for p in api.get("permissions").expect(200)]


def test_permission_life(api, vhost, user):
    who = user()
    api.put("permissions", vhost, who.user, body={"configure": "^a", "write": "", "read": ".*"}).expect(201)
    api.put("permissions", vhost, who.user, body={"configure": "^b", "write": "", "read": ".*"}).expect(204)
    want = {"user": who.user, "vhost": vhost, "configure": "^b", "write": "", "read": ".*"}
    assert api.get("permissions", vhost, who.user).json == want
    assert api.get("users", who.user, "permissions").json == [want]
    assert want in api.get("permissions").json
    assert want in api.get("vhosts", vhost, "permissions").json
    api.delete("permissions", vhost, who.user).expect(204)
    api.delete("permissions", vhost, who.user).expect(404)
    api.get("permissions", vhost, who.user).expect(404)


BAD_PERMISSIONS = {
    "no configure": ({"write": "", "read": ""}, "[{key_missing,configure}]"),
    "not a string": ({"configure": 1, "write": "", "read": ""}, "configure: not_string"),
    "not a pattern": ({"configure": "(", "write": "", "read": ""},
                      "invalid regular expression '(': missing closing parenthesis at offset 1"),
}


@pytest.mark.parametrize("name", BAD_PERMISSIONS)
def test_permission_refused(api, name):
    body, reason = BAD_PERMISSIONS[name]
    api.put("permissions", "/", "guest", body=body).expect(400, error="bad_request", reason=reason)
    api.get("permissions", "/", "guest").expect(200, configure=".*")


def test_permission_of_nobody(api):
    body = {"configure": "", "write": "", "read": ""}
    for vhost, name in (("/", "nobody"), ("nowhere", "guest")):
        api.put("permissions", vhost, name, body=body).expect(400, reason="vhost_or_user_not_found")


def test_a_user_without_rights(api, vhost, user, amqp):
    amqp.connect(virtual_host=vhost).channel().queue_declare("hidden")
    who = user("management")
    assert who.get("queues").json == [] and who.get("vhosts").json == [] and who.get("connections").json == []
    for parts in (("queues", vhost), ("exchanges", vhost), ("bindings", vhost), ("vhosts", vhost)):
        who.get(*parts).expect(401, error="not_authorised", reason="User not authorised to access virtual host")
    for parts in (("users",), ("permissions",), ("users", "guest")):
        who.get(*parts).expect(401, reason="Not administrator user")
    who.get("nodes").expect(401, reason="Not monitor user")
    who.put("vhosts", "theirs").expect(401)
    who.put("users", "theirs", body={"tags": ""}).expect(401)
    who.put("queues", vhost, "q", body={}).expect(401)
    who.call("DELETE", ("connections",)).expect(401)
    assert vhost in user("monitoring").names("vhosts")


def test_rights_are_those_of_amqp(api, vhost, user):
    who = user("management", {vhost: ("^mine", "^mine", "^mine")})
    who.put("queues", vhost, "mine", body={}).expect(201)
    text = f"access to queue 'other' in vhost '{vhost}' refused for user '{who.user}'"
    who.put("queues", vhost, "other", body={}).expect(401, error="not_authorised", reason=text)
    who.put("exchanges", vhost, "mine-x", body={"type": "fanout"}).expect(201)
    who.post("bindings", vhost, "e", "amq.fanout", "q", "mine", body={}).expect(401)
    who.post("bindings", vhost, "e", "mine-x", "q", "mine", body={}).expect(201)
    assert who.names("queues") == ["mine"]
    api.put("queues", vhost, "other", body={}).expect(201)
    who.delete("queues", vhost, "other").expect(401)
    who.delete("queues", vhost, "other", "contents").expect(401)
    who.post("queues", vhost, "other", "get", body={"count": 1, "ackmode": "ack_requeue_true",
                                                   "encoding": "auto"}).expect(401)
    who.post("exchanges", vhost, "amq.default", "publish",
             body={"routing_key": "mine", "payload": "", "payload_encoding": "string",
                   "properties": {}}).expect(401)


def test_a_deleted_user_is_disconnected(api, user, amqp, vhost):
    who = user("", {vhost: (".*", ".*", ".*")})
    conn = amqp.connect(user=who.user, password="pw", virtual_host=vhost)
    api.delete("users", who.user).expect(204)
    with pytest.raises((exceptions.ConnectionClosedByBroker, exceptions.AMQPConnectionError)):
        conn.process_data_events(5)
        conn.channel()


def test_permissions_act_at_once(api, user, amqp, vhost):
    who = user("", {vhost: (".*", ".*", ".*")})
    ch = amqp.connect(user=who.user, password="pw", virtual_host=vhost).channel()
    ch.queue_declare("before")
    api.put("permissions", vhost, who.user, body={"configure": "", "write": "", "read": ""}).expect(204)
    with pytest.raises(exceptions.ChannelClosedByBroker) as caught:
        ch.queue_declare("after")
    assert caught.value.reply_code == 403


def test_answers_are_durable(own_broker):
    """What was answered is there after kill -9."""
    api = Api(own_broker)
    api.put("vhosts", "v").expect(201)
    api.put("users", "u", body={"password": "pw", "tags": "management"}).expect(201)
    api.put("permissions", "v", "u", body={"configure": "a", "write": "b", "read": "c"}).expect(201)
    api.put("exchanges", "v", "x", body={"type": "topic"}).expect(201)
    api.put("queues", "v", "q", body={"arguments": {"x-max-length": 3}}).expect(201)
    api.post("bindings", "v", "e", "x", "q", "q", body={"routing_key": "k.#", "arguments": {"a": 1}}).expect(201)
    assert api.publish("v", "x", "k.1", "kept", delivery_mode=2)
    api.put("users", "guest", body={"password": "changed", "tags": "administrator"}).expect(204)
    own_broker.kill9()
    own_broker.start()
    Api(own_broker).get("whoami").expect(401)
    api = Api(own_broker, password="changed")
    Api(own_broker, "u", "pw").get("whoami").expect(200, tags=["management"])
    api.get("permissions", "v", "u").expect(200, configure="a", write="b", read="c")
    api.get("exchanges", "v", "x").expect(200, type="topic", durable=True)
    api.get("queues", "v", "q").expect(200, arguments={"x-max-length": 3}, messages=1)
    assert api.get("bindings", "v", "e", "x", "q", "q").json[0]["arguments"] == {"a": 1}
    assert api.fetch("v", "q")[0]["payload"] == "kept"
    api.delete("vhosts", "v").expect(204)
    api.delete("users", "u").expect(204)
    own_broker.kill9()
    own_broker.start()
    assert api.names("vhosts") == ["/"] and api.names("users") == ["guest"]
