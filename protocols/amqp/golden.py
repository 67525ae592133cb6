#!/usr/bin/python3
"""Writes wire_golden.inc: a byte vector of every AMQP 0-9-1 method, by an encoder that is not ours.

usage: golden.py wire_golden.inc                 (needs python3-pika; the result is checked in)
       golden.py --rabbitmq EBIN wire_golden.inc (also lets RabbitMQ's own codec read and write each vector;
                                                 EBIN is the ebin folder of its rabbit_common; needs erl)
       golden.py --corpus tests/corpus           (the same bytes as first inputs for the fuzz targets)

The oracle is pika 1.2 (its spec.py is generated from the protocol's definition, independently of
methods.def). Two methods are younger than it and are laid out by hand below, after the specification's rules.
The values of one vector differ from one another, so that two arguments that changed places cannot go unseen.
"""
import datetime
import decimal
import os
import struct
import subprocess
import sys

import pika.frame
import pika.spec as spec

TABLE = {"product": "pika", "capabilities": {"basic.nack": True, "consumer_cancel_notify": False},
         "max": -7, "big": 1 << 40, "when": datetime.datetime(2026, 11, 21, 3, 14, 15), "none": None,
         "list": ["a", 1, [b"\x00\xff"]], "price": decimal.Decimal("12.345")}
ARGUMENTS = {"x-message-ttl": 60000, "x-dead-letter-exchange": "dlx"}
LONG = b"\x00user\x00pass" + bytes(range(256))
TAG = 0x0102030405060708

# (clause, class, {argument: value}) in the order of the specification.
VECTORS = [
    ("1.4.2.1", spec.Connection.Start, dict(version_major=0, version_minor=9, server_properties=TABLE,
                                            mechanisms="AMQPLAIN PLAIN", locales="en_US")),
    ("1.4.2.2", spec.Connection.StartOk, dict(client_properties=TABLE, mechanism="PLAIN",
                                              response=b"\x00guest\x00guest", locale="en_GB")),
    ("1.4.2.3", spec.Connection.Secure, dict(challenge=LONG)),
    ("1.4.2.4", spec.Connection.SecureOk, dict(response=LONG)),
    ("1.4.2.5", spec.Connection.Tune, dict(channel_max=2047, frame_max=131072, heartbeat=60)),
    ("1.4.2.6", spec.Connection.TuneOk, dict(channel_max=65535, frame_max=4096, heartbeat=580)),
    ("1.4.2.7", spec.Connection.Open, dict(virtual_host="/vh", capabilities="caps", insist=True)),
    ("1.4.2.8", spec.Connection.OpenOk, dict(known_hosts="a,b")),
    ("1.4.2.9", spec.Connection.Close, dict(reply_code=320, reply_text="CONNECTION_FORCED - bye",
                                            class_id=60, method_id=40)),
    ("1.4.2.10", spec.Connection.CloseOk, {}),
    ("RabbitMQ", spec.Connection.Blocked, dict(reason="low on memory")),
    ("RabbitMQ", spec.Connection.Unblocked, {}),
    ("RabbitMQ", "connection_update_secret", dict(new_secret=b"s\x00cret", reason="refresh")),
    ("RabbitMQ", "connection_update_secret_ok", {}),
    ("1.5.2.1", spec.Channel.Open, dict(out_of_band="oob")),
    ("1.5.2.2", spec.Channel.OpenOk, dict(channel_id=b"channel id")),
    ("1.5.2.3", spec.Channel.Flow, dict(active=True)),
    ("1.5.2.4", spec.Channel.FlowOk, dict(active=False)),
    ("1.5.2.5", spec.Channel.Close, dict(reply_code=404, reply_text="NOT_FOUND - no queue 'x' in vhost '/'",
                                         class_id=50, method_id=10)),
    ("1.5.2.6", spec.Channel.CloseOk, {}),
    ("AMQP 0-8", spec.Access.Request, dict(realm="/data", exclusive=True, passive=False, active=True,
                                           write=False, read=True)),
    ("AMQP 0-8", spec.Access.RequestOk, dict(ticket=101)),
    ("1.6.2.1", spec.Exchange.Declare, dict(ticket=1, exchange="logs", type="topic", passive=False,
                                            durable=True, auto_delete=False, internal=True, nowait=False,
                                            arguments={"alternate-exchange": "ae"})),
    ("1.6.2.1", spec.Exchange.Declare, dict(ticket=2, exchange="", type="", passive=True, durable=False,
                                            auto_delete=True, internal=False, nowait=True, arguments={})),
    ("1.6.2.2", spec.Exchange.DeclareOk, {}),
    ("1.6.2.3", spec.Exchange.Delete, dict(ticket=3, exchange="logs", if_unused=True, nowait=False)),
    ("1.6.2.4", spec.Exchange.DeleteOk, {}),
    ("RabbitMQ", spec.Exchange.Bind, dict(ticket=4, destination="to", source="from", routing_key="a.#",
                                          nowait=True, arguments=ARGUMENTS)),
    ("RabbitMQ", spec.Exchange.BindOk, {}),
    ("RabbitMQ", spec.Exchange.Unbind, dict(ticket=5, destination="to", source="from", routing_key="a.#",
                                            nowait=False, arguments=ARGUMENTS)),
    ("RabbitMQ", spec.Exchange.UnbindOk, {}),
    ("1.7.2.1", spec.Queue.Declare, dict(ticket=6, queue="work", passive=False, durable=True, exclusive=False,
                                         auto_delete=False, nowait=True, arguments=ARGUMENTS)),
    ("1.7.2.1", spec.Queue.Declare, dict(ticket=0, queue="", passive=True, durable=False, exclusive=True,
                                         auto_delete=True, nowait=False, arguments={})),
    ("1.7.2.2", spec.Queue.DeclareOk, dict(queue="amq.gen-1", message_count=70000, consumer_count=3)),
    ("1.7.2.3", spec.Queue.Bind, dict(ticket=7, queue="work", exchange="logs", routing_key="k", nowait=True,
                                      arguments={"x-match": "all"})),
    ("1.7.2.4", spec.Queue.BindOk, {}),
    ("1.7.2.5", spec.Queue.Unbind, dict(ticket=8, queue="work", exchange="logs", routing_key="k",
                                        arguments={"x-match": "any"})),
    ("1.7.2.6", spec.Queue.UnbindOk, {}),
    ("1.7.2.7", spec.Queue.Purge, dict(ticket=9, queue="work", nowait=True)),
    ("1.7.2.8", spec.Queue.PurgeOk, dict(message_count=4294967295)),
    ("1.7.2.9", spec.Queue.Delete, dict(ticket=10, queue="work", if_unused=False, if_empty=True,
                                        nowait=False)),
    ("1.7.2.10", spec.Queue.DeleteOk, dict(message_count=12)),
    ("1.8.3.1", spec.Basic.Qos, dict(prefetch_size=65536, prefetch_count=250, global_qos=True)),
    ("1.8.3.2", spec.Basic.QosOk, {}),
    ("1.8.3.3", spec.Basic.Consume, dict(ticket=11, queue="work", consumer_tag="ctag", no_local=True,
                                         no_ack=False, exclusive=True, nowait=False,
                                         arguments={"x-priority": 10})),
    ("1.8.3.4", spec.Basic.ConsumeOk, dict(consumer_tag="amq.ctag-1")),
    ("1.8.3.5", spec.Basic.Cancel, dict(consumer_tag="ctag", nowait=True)),
    ("1.8.3.6", spec.Basic.CancelOk, dict(consumer_tag="ctag")),
    ("1.8.3.7", spec.Basic.Publish, dict(ticket=0, exchange="logs", routing_key="a.b.c", mandatory=True,
                                         immediate=False)),
    ("1.8.3.7", spec.Basic.Publish, dict(ticket=65535, exchange="", routing_key="r" * 255, mandatory=False,
                                         immediate=True)),
    ("1.8.3.8", spec.Basic.Return, dict(reply_code=312, reply_text="NO_ROUTE", exchange="logs",
                                        routing_key="nowhere")),
    ("1.8.3.9", spec.Basic.Deliver, dict(consumer_tag="ctag", delivery_tag=TAG, redelivered=True,
                                         exchange="logs", routing_key="a.b.c")),
    ("1.8.3.10", spec.Basic.Get, dict(ticket=12, queue="work", no_ack=True)),
    ("1.8.3.11", spec.Basic.GetOk, dict(delivery_tag=TAG, redelivered=False, exchange="logs",
                                        routing_key="a.b", message_count=99)),
    ("1.8.3.12", spec.Basic.GetEmpty, dict(cluster_id="c1")),
    ("1.8.3.13", spec.Basic.Ack, dict(delivery_tag=TAG, multiple=True)),
    ("1.8.3.14", spec.Basic.Reject, dict(delivery_tag=(1 << 64) - 1, requeue=True)),
    ("1.8.3.15", spec.Basic.RecoverAsync, dict(requeue=True)),
    ("1.8.3.16", spec.Basic.Recover, dict(requeue=True)),
    ("1.8.3.17", spec.Basic.RecoverOk, {}),
    ("RabbitMQ", spec.Basic.Nack, dict(delivery_tag=TAG, multiple=True, requeue=False)),
    ("RabbitMQ", spec.Basic.Nack, dict(delivery_tag=1, multiple=False, requeue=True)),
    ("RabbitMQ", spec.Confirm.Select, dict(nowait=True)),
    ("RabbitMQ", spec.Confirm.SelectOk, {}),
    ("1.9.2.1", spec.Tx.Select, {}),
    ("1.9.2.2", spec.Tx.SelectOk, {}),
    ("1.9.2.3", spec.Tx.Commit, {}),
    ("1.9.2.4", spec.Tx.CommitOk, {}),
    ("1.9.2.5", spec.Tx.Rollback, {}),
    ("1.9.2.6", spec.Tx.RollbackOk, {}),
]

# Content headers: (body size, {property: value}).
CONTENTS = [
    (0, {}),
    (100, dict(delivery_mode=2)),
    (5, dict(content_type="text/plain", delivery_mode=1)),
    (1 << 33, dict(content_type="application/json", content_encoding="utf-8", headers=TABLE, delivery_mode=2,
                   priority=5, correlation_id="corr", reply_to="amq.rabbitmq.reply-to", expiration="60000",
                   message_id="m-1", timestamp=1795231655, type="order", user_id="guest", app_id="shop",
                   cluster_id="c")),
    (7, dict(headers={}, message_id="")),
    (1, dict(content_encoding="gzip", priority=255, reply_to="q", message_id="id", type="t", app_id="a")),
    (2, dict(headers={"k": "v"}, correlation_id="c" * 255, expiration="1", timestamp=(1 << 64) - 1,
             user_id="u", cluster_id="x")),
]


def by_hand(name, values):
    """What pika 1.2 does not know: (10, 70) longstr new-secret, shortstr reason; (10, 71) none."""
    if name == "connection_update_secret_ok":
        return struct.pack(">HH", 10, 71)
    secret, reason = values["new_secret"], values["reason"].encode()
    return struct.pack(">HHI", 10, 70, len(secret)) + secret + struct.pack("B", len(reason)) + reason


def c_name(method):
    """Basic.GetOk -> basic_get_ok."""
    if isinstance(method, str):
        return method
    klass, name = method.NAME.split(".")
    return klass.lower() + "".join("_" + x.lower() if x.isupper() else x for x in "." + name).replace(".", "")


def payload(method, values):
    if isinstance(method, str):
        return by_hand(method, values)
    instance = method(**{k: v for k, v in values.items()})
    return struct.pack(">I", method.INDEX) + b"".join(instance.encode())


def frame(kind, channel, body):
    return struct.pack(">BHI", kind, channel, len(body)) + body + b"\xce"


def literal(raw):
    """A C string literal, escaped so that no byte runs into the next."""
    if isinstance(raw, str):
        raw = raw.encode()
    text = "".join(chr(b) if 32 <= b < 127 and b not in b'"\\?' else f"\\{b:03o}" for b in raw)
    rows, row = [], ""
    for piece in (text[i:i + 1] for i in range(len(text))):
        if len(row) > 90 and piece == "\\":
            rows.append(row)
            row = ""
        row += piece
        if len(row) > 98 and "\\" not in row[-4:]:
            rows.append(row)
            row = ""
    rows.append(row)
    return '"' + '"\n    "'.join(rows) + '"'


def table_content(value):
    pieces = []
    pika.data.encode_table(pieces, value)
    return b"".join(pieces)[4:]


def field_rows(values):
    for name, value in values.items():
        if isinstance(value, dict):
            yield f"GOLDEN_TABLE({name},\n    {literal(table_content(value))})"
        elif isinstance(value, (str, bytes)):
            text = literal(value)
            yield f"GOLDEN_STR({name},{' ' if len(text) < 60 else chr(10) + '    '}{text})"
        else:
            yield f"GOLDEN_NUM({'global' if name == 'global_qos' else name}, {int(value)}u)"


def method_rows():
    for at, (clause, method, values) in enumerate(VECTORS):
        name, channel = c_name(method), (0x0102 + at) & 0xffff
        body = payload(method, values)
        yield f"/* {clause} */"
        yield (f"GOLDEN_BEGIN(v{at}, {name}, AMQP_{name.upper()}, {channel},\n"
               f"    {literal(frame(1, channel, body))})")
        yield from field_rows(values)
        yield f"GOLDEN_END(v{at}, {name})\n"


def content_rows():
    for at, (size, values) in enumerate(CONTENTS):
        head = pika.frame.Header(at + 1, size, spec.BasicProperties(**values)).marshal()
        yield "/* 4.2.6.1 */"
        yield f"CONTENT_BEGIN(c{at}, {at + 1}, {size}u,\n    {literal(head)})"
        for row in field_rows(values):
            name = row.split("(")[1].split(",")[0]
            yield row.replace("GOLDEN_", "CONTENT_", 1).replace("(", f"({name.upper()}, ", 1).replace(
                ", timestamp,", ", timestamp_s,")
        yield f"CONTENT_END(c{at})\n"


def ask_rabbitmq(ebin):
    """Each vector is read and written again by RabbitMQ; what it writes must be the same bytes."""
    lines = [payload(method, values).hex() for _, method, values in VECTORS]
    props = [b"".join(spec.BasicProperties(**values).encode()).hex() for _, values in CONTENTS]
    program = """
    M = rabbit_framing_amqp_0_9_1,
    lists:foreach(fun(Hex) ->
        Bin = binary:decode_hex(list_to_binary(Hex)),
        <<C:16, I:16, Args/binary>> = Bin,
        Rec = M:decode_method_fields(M:lookup_method_name({C, I}), Args),
        {C, I} = M:method_id(element(1, Rec)),
        case iolist_to_binary(M:encode_method_fields(Rec)) of
            Args -> ok;
            Other -> io:format("~p ~s ~s~n", [element(1, Rec), Hex, binary:encode_hex(Other)]), halt(1)
        end
    end, string:tokens(os:getenv("VECTORS"), " ")),
    lists:foreach(fun(Hex) ->
        Raw = binary:decode_hex(list_to_binary(Hex)),
        Raw = iolist_to_binary(M:encode_properties(M:decode_properties(60, Raw)))
    end, string:tokens(os:getenv("PROPS"), " ")),
    io:format("RabbitMQ agrees~n"), halt(0)."""
    subprocess.run(["erl", "-noinput", "-boot", "start_clean", "-pa", ebin, "-eval", program], check=True,
                   env=dict(os.environ, VECTORS=" ".join(lines), PROPS=" ".join(props)))


def bad_tables():
    """Tables that must be refused, and one that must not: the depth that is just allowed."""
    for depth in (32, 33, 1000):
        for letter, step in ((b"F", 6), (b"A", 5)):
            parts = [(b"\0" if at == 0 or letter == b"F" else b"") + letter +
                     struct.pack(">I", (depth - 1 - at) * step) for at in range(depth)]
            yield f"nested_{depth}_{letter.decode()}", b"".join(parts)
    yield "many", b"\0V" * 4097
    yield "every_letter", b"".join(b"\1" + letter.encode() + letter.encode() + bytes(size) for letter, size in
                                   dict(t=1, b=1, B=1, s=2, u=2, I=4, i=4, l=8, L=8, f=4, d=8, D=5, T=8, V=0,
                                        S=4, x=4, A=4, F=4).items())
    yield "nan", b"\1ff\x7f\xa0\0\1\1dd\x7f\xf4\0\0\0\0\0\1"
    yield "cut", b"\1aS\0\0\0\4str"
    yield "overhang", b"\1aA\0\0\0\1I\0\0\0\0"


def corpus(top):
    """First inputs: tests/corpus/amqp_{wire,methods,props,table}/NAME."""
    inputs = {}
    for at, (_, method, values) in enumerate(VECTORS):
        body = payload(method, values)
        inputs[f"amqp_methods/{at:02}_{c_name(method)}"] = body
        for name, value in values.items():
            if isinstance(value, dict):
                inputs[f"amqp_table/{at:02}_{c_name(method)}_{name}"] = table_content(value)
    for at, (size, values) in enumerate(CONTENTS):
        head = pika.frame.Header(at, size, spec.BasicProperties(**values)).marshal()
        inputs[f"amqp_props/{at:02}"] = head[7:-1]
        publish = frame(1, at, payload(spec.Basic.Publish, dict(exchange="x", routing_key="k")))
        inputs[f"amqp_wire/publish_{at:02}"] = publish + head + frame(3, at, b"body") + frame(3, at, b"")
    for name, raw in bad_tables():
        inputs[f"amqp_table/{name}"] = raw
        inputs[f"amqp_props/headers_{name}"] = (struct.pack(">HHQHI", 60, 0, 1, 1 << 13, len(raw)) + raw)
    inputs["amqp_wire/header"] = b"AMQP\0\0\x09\1" + frame(8, 0, b"") + frame(1, 0, payload(*VECTORS[1][1:]))
    inputs["amqp_wire/header_1_0"] = b"AMQP\0\1\0\0"
    inputs["amqp_wire/oversize"] = b"\1\0\1\0\0\x10\1"
    inputs["amqp_wire/bad_end"] = frame(3, 1, b"x")[:-1] + b"\xcd"
    inputs["amqp_wire/heartbeat_on_channel"] = frame(8, 1, b"")
    inputs["amqp_props/continuation"] = struct.pack(">HHQHH", 60, 0, 0, 1, 0)
    for name, raw in inputs.items():
        os.makedirs(os.path.dirname(os.path.join(top, name)), exist_ok=True)
        with open(os.path.join(top, name), "wb") as out:
            out.write(raw)


def main():
    if sys.argv[1] == "--corpus":
        corpus(sys.argv[2])
        return
    if sys.argv[1] == "--rabbitmq":
        ask_rabbitmq(sys.argv[2])
    with open(sys.argv[-1], "w", encoding="ascii") as out:
        out.write("/* Generated by golden.py: the bytes are pika 1.2's, not our encoder's. */\n\n")
        out.write("\n".join([*method_rows(), *content_rows()]))


if __name__ == "__main__":
    main()
