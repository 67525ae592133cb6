"""mqgatectl, in its own voice and in rabbitmqctl's. Texts and exit codes of the latter are RabbitMQ 3.10's."""
import json

import pytest
from pika import exceptions

from api import Api
from mqtest.broker import free_port, wait_until


def test_help_and_version(ctl):
    out = ctl.good("--help")
    for word in ("list_queues", "set_permissions", "close_connection", "declare_queue", "trace", "MQGATE_URL"):
        assert word in out
    assert ctl.good("--version") == ctl.good("version")


def test_usage(ctl):
    for args in ((), ("nonsense",), ("add_user",), ("set_permissions", "u", "a"), ("status", "--nonsense"),
                 ("close_connection", "1"), ("status", "-p"), ("list_queues", "nocolumn"),
                 ("trace", "maybe", "amqp"), ("declare_queue", "q", "novalue"), ("status", "-t", "soon"), ("status", "-t", "0"),
                 ("--format", "yaml", "status"), ("store", "dump", "/nowhere", "--limit", "0"), ("help", "nonsense"),
                 ("status", "too", "many")):
        code, out, err = ctl.run(*args)
        assert code == 64 and out == "" and err.startswith("mqgatectl: "), args


def test_help_of_one(ctl):
    assert "disk_bytes" in ctl.good("help", "list_queues") and "disk_bytes" in ctl.good("list_disk", "--help")
    assert ctl.good("status", "-h").startswith("usage: mqgatectl [options] status\n")
    assert "disk_segments" in ctl.run("list_queues", "nocolumn")[2]  # says what there is


def test_disk(ctl, api, vhost):
    """Who uses the disk: by queue, the largest first, and by file."""
    for name, size in (("small", 100), ("large", 9000)):
        ctl.good("declare_queue", "-p", vhost, name)
        api.publish(vhost, "amq.default", name, "x" * size, delivery_mode=2)
    columns = ("list_disk", "-p", vhost, "name", "disk_messages", "disk_segments")
    wait_until(lambda: ctl.rows(*columns) == [["large", "1", "1"], ["small", "1", "1"]], 10, "each message is counted")
    small, large = (int(row[0]) for row in reversed(ctl.rows("list_disk", "-p", vhost, "disk_bytes")))
    assert 100 < small < 9000 < large
    assert [row[0] for row in ctl.rows("list_disk", "name")].index("large") >= 0
    segments = json.loads(ctl.good("list_segments", "--format", "json"))
    assert segments and {"kind", "sequence", "live_bytes", "live_messages", "queues"} <= set(segments[0])
    assert len(json.loads(ctl.good("list_segments", "journal", "--json"))) == len(segments)
    for args, says in ((("list_segments", "nostore"), "there is no store 'nostore'"),
                       (("list_queues", "-p", "novhost"), "there is no vhost 'novhost'"),
                       (("list_disk", "-p", "novhost"), "there is no vhost 'novhost'")):
        code, out, err = ctl.run(*args)
        assert (code, out) == (69, "") and says in err, args


def test_not_reachable(ctl):
    url = f"http://127.0.0.1:{free_port()}"
    code, out, err = ctl.run("status", url=url)
    assert (code, out) == (69, "") and url in err and "refused" in err
    code, out, err = ctl.run("rabbitmqctl", "list_users", url=url)
    assert code == 69 and err.startswith("Error: unable to perform an operation on node")
    assert ctl.run("status", url="ftp://x")[0] == 69


def test_login(ctl):
    code, _, err = ctl.run("status", "--user", "guest", "--password", "no")
    assert code == 77 and "Login failed" in err
    assert ctl.run("status", env={"MQGATE_PASSWORD": "no"})[0] == 77
    assert ctl.run("status", env={"MQGATE_USER": "no"})[0] == 77


def test_status(ctl, broker):
    out = ctl.good("status")
    assert f"OS PID: {broker.pid}" in out and f"port: {broker.amqp_port}, protocol: amqp" in out and "(none)" in out
    assert json.loads(ctl.good("status", "--json"))["product_name"] == "mqgate"
    assert "Status of node mqgate@" in ctl.good("rabbitmqctl", "status")
    assert "Status of node" not in ctl.good("rabbitmqctl", "-q", "status")
    assert ctl.good("ping") == "Ping succeeded\n"
    ctl.good("await_startup", "-t", "5")


def test_users(ctl, broker, unique):
    name = unique("ctl user")
    ctl.good("add_user", name, "one")
    assert [name, "[]"] in ctl.rows("list_users")
    code, _, err = ctl.run("add_user", name, "x")
    assert code == 70 and f'User "{name}" already exists' in err
    ctl.good("set_user_tags", name, "administrator", "monitoring")
    assert [name, "[administrator, monitoring]"] in ctl.rows("list_users")
    ctl.good("change_password", name, stdin="two\n")
    Api(broker, name, "two").get("whoami").expect(200, tags=["administrator", "monitoring"])
    ctl.good("clear_password", name)
    Api(broker, name, "two").get("whoami").expect(401)
    ctl.good("set_user_tags", name)
    assert [name, "[]"] in ctl.rows("list_users")
    ctl.good("delete_user", name)
    for args in (("delete_user", name), ("change_password", name, "x"), ("set_user_tags", name), ("clear_password", name),
                 ("set_permissions", name, "", "", ""), ("clear_permissions", name)):
        code, _, err = ctl.run(*args)
        assert code == 67 and f'User "{name}" does not exist' in err


def test_vhosts_and_permissions(ctl, unique):
    vhost, name = unique("ctl/vhost"), unique("ctl-user")
    ctl.good("add_vhost", vhost)
    ctl.good("add_vhost", vhost)
    ctl.good("add_user", name, "pw")
    assert [vhost] in ctl.rows("list_vhosts", "name")
    assert ctl.rows("list_permissions", "-p", vhost) == []
    ctl.good("set_permissions", "-p", vhost, name, "^a", "", "--", ".*")
    assert ctl.rows("list_permissions", "-p", vhost, "user,configure,write,read") == [[name, "^a", "", ".*"]]
    assert ctl.rows("list_user_permissions", name) == [[vhost, "^a", "", ".*"]]
    code, _, err = ctl.run("set_permissions", "-p", vhost, name, "(", "", "")
    assert code == 65 and "invalid regular expression" in err
    code, _, err = ctl.run("set_permissions", "-p", "nowhere", name, "", "", "")
    assert code == 69 and "Virtual host nowhere does not exist" in err
    ctl.good("clear_permissions", "-p", vhost, name)
    ctl.good("clear_permissions", "-p", vhost, name)
    assert ctl.rows("list_user_permissions", name) == []
    ctl.good("delete_vhost", vhost)
    code, _, err = ctl.run("delete_vhost", vhost)
    assert code == 65 and f"Virtual host '{vhost}' does not exist" in err
    ctl.good("delete_user", name)


def test_queues(ctl, api, vhost):
    ctl.good("declare_queue", "-p", vhost, "q 1", "x-max-length=10", "x-overflow=drop-head", "own=true")
    ctl.good("declare_queue", "-p", vhost, "q2", "--transient", "--auto-delete")
    api.get("queues", vhost, "q 1").expect(200, durable=True,
                                           arguments={"x-max-length": 10, "x-overflow": "drop-head", "own": True})
    api.get("queues", vhost, "q2").expect(200, durable=False, auto_delete=True)
    api.publish(vhost, "amq.default", "q 1", "m")
    columns = "name,messages,durable,arguments"
    assert ctl.rows("list_queues", "-p", vhost, columns) == [
        ["q 1", "1", "true", '[{"x-max-length",10},{"x-overflow","drop-head"},{"own",true}]'],
        ["q2", "0", "false", "[]"]]
    assert ctl.good("list_queues", "-p", vhost, "name").splitlines()[0] == "name"
    assert [vhost, "q 1"] in ctl.rows("list_queues", "vhost", "name")
    assert json.loads(ctl.good("list_queues", "-p", vhost, "name", "messages", "--json")) == [
        {"name": "q 1", "messages": 1}, {"name": "q2", "messages": 0}]
    assert ctl.run("delete_queue", "-p", vhost, "--if-empty", "q 1")[0] == 65
    ctl.good("purge_queue", "-p", vhost, "q 1")
    ctl.good("delete_queue", "-p", vhost, "--if-empty", "--if-unused", "q 1")
    assert ctl.run("purge_queue", "-p", vhost, "q 1")[0] == 69
    assert ctl.run("delete_queue", "-p", vhost, "q 1")[0] == 64
    assert ctl.run("list_queues", "-p", "nowhere")[0] == 69


def test_exchanges_and_bindings(ctl, api, vhost):
    api.put("exchanges", vhost, "x", body={"type": "topic"})
    api.put("queues", vhost, "q", body={})
    api.post("bindings", vhost, "e", "x", "q", "q", body={"routing_key": "k", "arguments": {"a": 1}})
    assert ["x", "topic", "true"] in ctl.rows("list_exchanges", "-p", vhost, "name", "type", "durable")
    assert ctl.rows("rabbitmqctl", "list_bindings", "-p", vhost) == [
        ["", "exchange", "q", "queue", "q", "[]"], ["x", "exchange", "q", "queue", "k", '[{"a",1}]']]


def test_connections(ctl, vhost, api, amqp):
    api.put("queues", vhost, "q", body={})
    conn = amqp.connect(virtual_host=vhost)
    ch = conn.channel()
    ch.basic_consume("q", print, consumer_tag="t")
    rows = ctl.rows("list_connections", "vhost", "id", "user", "state", "channels")
    mine = [row for row in rows if row[0] == vhost]
    assert [row[2:] for row in mine] == [["guest", "running", "1"]]
    assert [vhost, "1"] in ctl.rows("list_channels", "vhost", "consumer_count")
    assert ctl.rows("list_consumers", "-p", vhost, "queue_name", "consumer_tag", "ack_required") == [["q", "t", "true"]]
    ctl.good("close_connection", mine[0][1], "go away")
    with pytest.raises(exceptions.ConnectionClosedByBroker) as caught:
        conn.process_data_events(5)
    assert caught.value.reply_text == "CONNECTION_FORCED - go away"
    code, _, err = ctl.run("close_connection", "99999999", "x")
    assert code == 69 and "no connection 99999999" in err


def test_close_all(ctl, vhost, amqp):
    conns = [amqp.connect(virtual_host=vhost) for _ in range(2)]
    assert ctl.good("close_all_connections", "-p", vhost, "maintenance") == "Closed 2 connections\n"
    for conn in conns:
        with pytest.raises(exceptions.ConnectionClosedByBroker):
            conn.process_data_events(5)
    amqp.connect()
    assert int(ctl.good("close_all_connections", "maintenance").split()[1]) >= 1


def test_trace(ctl):
    ctl.good("trace", "on", "amqp")
    ctl.good("trace", "on", "queue", "17")
    ctl.good("trace", "off", "queue", "17")
    ctl.good("trace", "off", "amqp")


# ---- in rabbitmqctl's voice --------------------------------------------------------------------------------------------


def said(ctl, code, out, *args, err="", **more):
    assert ctl.run("rabbitmqctl", *args, **more) == (code, out, err)


def test_rabbit_users(ctl, unique):
    name = unique("ru")
    done = ("Done. Don't forget to grant the user permissions to some virtual hosts! "
            "See 'rabbitmqctl help set_permissions' to learn more.\n")
    said(ctl, 0, f'Adding user "{name}" ...\n{done}', "add_user", name, "pw")
    said(ctl, 70, f'Adding user "{name}" ...\n', "add_user", name, "pw", err=f'Error:\nUser "{name}" already exists\n')
    said(ctl, 0, "", "-n", "rabbit@somewhere", "-q", "set_user_tags", name, "administrator", "monitoring")
    said(ctl, 0, f'Setting tags for user "{name}" to [administrator, monitoring] ...\n', "set_user_tags", name,
         "administrator", "monitoring")
    said(ctl, 0, f'Changing password for user "{name}" ...\n', "change_password", name, "x")
    said(ctl, 67, 'Changing password for user "nobody" ...\n', "change_password", "nobody", "x",
         err='Error:\nUser "nobody" does not exist\n')
    out = ctl.good("rabbitmqctl", "list_users").splitlines()
    assert out[:2] == ["Listing users ...", "user\ttags"] and f"{name}\t[administrator, monitoring]" in out
    assert ctl.good("rabbitmqctl", "-q", "list_users").splitlines()[0] == "user\ttags"
    assert ctl.good("rabbitmqctl", "list_users", "-s").splitlines()[0] != "user\ttags"
    said(ctl, 65, 'Adding user "x" ...\n', "add_user", "x", err="Error:\nPassword is not provided via argument or stdin\n")
    said(ctl, 0, f'Deleting user "{name}" ...\n', "delete_user", name)
    said(ctl, 67, "", "-q", "delete_user", name, err=f'Error:\nUser "{name}" does not exist\n')


def test_rabbit_vhosts(ctl, unique):
    vhost, name = unique("rv"), unique("ru")
    said(ctl, 0, f'Adding vhost "{vhost}" ...\n', "add_vhost", vhost)
    said(ctl, 0, f'Adding vhost "{vhost}" ...\n', "add_vhost", vhost)
    ctl.good("rabbitmqctl", "-q", "add_user", name, "pw")
    said(ctl, 0, f'Setting permissions for user "{name}" in vhost "{vhost}" ...\n', "set_permissions", "-p", vhost, name,
         ".*", "", ".*")
    said(ctl, 69, f'Setting permissions for user "{name}" in vhost "none" ...\n', "set_permissions", "-p", "none", name,
         ".*", "", ".*", err="Error:\nVirtual host none does not exist\n")
    said(ctl, 0, f'Listing permissions for vhost "{vhost}" ...\nuser\tconfigure\twrite\tread\n{name}\t.*\t\t.*\n',
         "list_permissions", "-p", vhost)
    said(ctl, 0, f'Listing permissions for user "{name}" ...\nvhost\tconfigure\twrite\tread\n{vhost}\t.*\t\t.*\n',
         "list_user_permissions", name)
    said(ctl, 0, f'Clearing permissions for user "{name}" in vhost "{vhost}" ...\n', "clear_permissions", "-p", vhost, name)
    assert vhost in ctl.good("rabbitmqctl", "list_vhosts").splitlines()
    assert f"{vhost}\tfalse" in ctl.good("rabbitmqctl", "list_vhosts", "name", "tracing").splitlines()
    said(ctl, 0, f'Deleting vhost "{vhost}" ...\n', "delete_vhost", vhost)
    said(ctl, 65, f'Deleting vhost "{vhost}" ...\n', "delete_vhost", vhost, err=f"Virtual host '{vhost}' does not exist\n")
    ctl.good("rabbitmqctl", "-q", "delete_user", name)


def test_rabbit_listings(ctl, api, vhost, amqp):
    banner = f"Timeout: 60.0 seconds ...\nListing queues for vhost {vhost} ...\n"
    said(ctl, 0, banner, "list_queues", "-p", vhost)
    said(ctl, 0, "", "-q", "list_queues", "-p", vhost)
    api.put("queues", vhost, "q", body={})
    said(ctl, 0, banner + "name\tmessages\nq\t0\n", "list_queues", "-p", vhost)
    said(ctl, 0, "name\tmessages\tconsumers\nq\t0\t0\n", "list_queues", "-q", "-p", vhost, "name", "messages", "consumers")
    said(ctl, 0, "q\t0\n", "-q", "-s", "list_queues", "-p", vhost)
    assert ctl.good("rabbitmqctl", "-q", "list_queues", "-p", vhost, "pid", "--no-table-headers").startswith("<mqgate@")
    said(ctl, 0, "Timeout: 60.0 seconds ...\nListing queues for vhost none ...\n", "list_queues", "-p", "none")
    code, out, err = ctl.run("rabbitmqctl", "list_queues", "nocol")
    assert (code, out) == (64, "") and err.startswith("Error (argument validation): Info key(s) nocol are not supported")
    assert json.loads(ctl.good("rabbitmqctl", "list_queues", "-p", vhost, "--formatter", "json")) == [
        {"name": "q", "messages": 0}]
    conn = amqp.connect(virtual_host=vhost)
    rows = ctl.rows("rabbitmqctl", "list_connections", "pid", "vhost")
    pid = [row[0] for row in rows if row[1] == vhost][0]
    said(ctl, 0, f"Closing connection {pid}, reason: enough...\n", "close_connection", pid, "enough")
    with pytest.raises(exceptions.ConnectionClosedByBroker) as caught:
        conn.process_data_events(5)
    assert caught.value.reply_text == "CONNECTION_FORCED - enough"
    wait_until(lambda: pid not in ctl.good("rabbitmqctl", "list_connections", "pid"), 5, "gone")
    said(ctl, 0, f"Closing all connections in vhost {vhost}, reason: why...\nClosed 0 connections\n",
         "close_all_connections", "-p", vhost, "why")


def test_rabbit_queues(ctl, api, vhost):
    api.put("queues", vhost, "q", body={})
    said(ctl, 0, f"Purging queue 'q' in vhost '{vhost}' ...\n", "purge_queue", "-p", vhost, "q")
    said(ctl, 69, f"Purging queue 'none' in vhost '{vhost}' ...\n", "purge_queue", "-p", vhost, "none",
         err="Error:\nnot_found\n")
    said(ctl, 0, f"Deleting queue 'q' on vhost '{vhost}' ...\n", "delete_queue", "-p", vhost, "q")
    said(ctl, 64, f"Deleting queue 'q' on vhost '{vhost}' ...\n", "delete_queue", "-p", vhost, "q",
         err="Error:\nQueue not found\n")


@pytest.mark.parametrize("args", [("eval", "1+1."), ("set_policy", "p", ".*", "{}"), ("stop_app",), ("reset",),
                                  ("set_vm_memory_high_watermark", "0.4")])
def test_rabbit_refused(ctl, args):
    code, out, err = ctl.run("rabbitmqctl", *args)
    assert (code, out) == (64, "") and f"'{args[0]}' is not supported by mqgate: " in err


def test_rabbit_unknown(ctl):
    said(ctl, 64, "", "nonsense", err="\nCommand 'nonsense' not found. \n")
    assert ctl.run("rabbitmqctl", "set_permissions", "x")[0] == 64
