"""RabbitMQ's own rabbitmqadmin (package rabbitmq-server), unmodified."""
import json
import subprocess

import pytest

TOOL = "/usr/bin/rabbitmqadmin"


@pytest.fixture
def admin(broker, vhost):
    def run(*args, user="guest", password="guest"):
        done = subprocess.run(["/usr/bin/python3", TOOL, "-H", broker.host, "-P", str(broker.http_port), "-u", user, "-p",
                               password, "-V", vhost, *args], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout
    return run


def listed(admin, what, *columns):
    return json.loads(admin("-f", "raw_json", "list", what, *columns))


def test_objects(admin, vhost):
    assert "queue declared" in admin("declare", "queue", "name=q", "durable=true", 'arguments={"x-max-length":5}')
    assert "exchange declared" in admin("declare", "exchange", "name=x", "type=topic")
    assert "binding declared" in admin("declare", "binding", "source=x", "destination=q", "routing_key=a.#")
    assert "Message published" in admin("publish", "exchange=x", "routing_key=a.b", "payload=hello",
                                        'properties={"delivery_mode":2}')
    queue = listed(admin, "queues")[0]
    assert (queue["name"], queue["messages"], queue["arguments"]) == ("q", 1, {"x-max-length": 5})
    assert "hello" in admin("get", "queue=q")
    assert "hello" in admin("get", "queue=q", "ackmode=ack_requeue_false", "count=3")
    assert [b["routing_key"] for b in listed(admin, "bindings") if b["source"] == "x"] == ["a.#"]
    assert "binding deleted" in admin("delete", "binding", "source=x", "destination=q", "destination_type=queue",
                                      "properties_key=a.%23")
    assert "queue purged" in admin("purge", "queue", "name=q")
    assert "queue deleted" in admin("delete", "queue", "name=q")
    assert "exchange deleted" in admin("delete", "exchange", "name=x")
    assert listed(admin, "queues") == []


def test_accounts(admin, unique):
    name, other = unique("admin-user"), unique("admin-vhost")
    assert "user declared" in admin("declare", "user", f"name={name}", "password=pw", "tags=administrator")
    assert "vhost declared" in admin("declare", "vhost", f"name={other}")
    assert "permission declared" in admin("declare", "permission", f"vhost={other}", f"user={name}", "configure=.*",
                                          "write=.*", "read=.*")
    assert other in [v["name"] for v in listed(admin, "vhosts")]
    assert name in [u["name"] for u in listed(admin, "users")]
    assert admin("list", "users", user=name, password="pw")
    assert "vhost deleted" in admin("delete", "vhost", f"name={other}")
    assert "user deleted" in admin("delete", "user", f"name={name}")


def test_connections(admin, vhost, amqp):
    amqp.connect(virtual_host=vhost).channel()
    name = [c["name"] for c in listed(admin, "connections") if c["vhost"] == vhost][0]
    assert f"{name} (1)" in [c["name"] for c in listed(admin, "channels")]
    assert "connection closed" in admin("close", "connection", f"name={name}")
    assert "rabbitmq_version" in admin("show", "overview")
    assert "mqgate@" in admin("list", "nodes")
