"""The works of the bench as data: what is sent, who takes part, what each of them promises, and the targets."""

from dataclasses import dataclass, field

NOTHING, PAGE_CACHE, FSYNC = "none", "page cache", "fsync"


@dataclass(frozen=True)
class Entry:
    """One contender in one row."""
    server: str  # kind of the server
    name: str  # how it appears in the table, and what targets refer to
    promise: str
    load: tuple = ()  # options of amqpload beyond the row's


@dataclass(frozen=True)
class Target:
    """stage 'now' is what the first release must reach, 'final' what the design was made for."""
    stage: str
    kind: str  # cpu_ratio, rate_ratio, cpu_us, p99_ratio, p99_over_fdatasync_us, disk_ratio, memory_ratio, rss_kib, rate
    value: float
    peer: str = ""  # name of an entry
    ours: str = "mqgate"  # name of the entry that is judged


@dataclass(frozen=True)
class Row:
    work: str
    name: str
    unit: str  # message, delivery or connection: what CPU is counted by
    load: tuple
    entries: tuple
    targets: tuple = field(default=())
    is_idle: bool = False  # W8: a fresh server each time, memory is what counts
    is_bare: bool = False  # a fresh server without any load
    is_fresh: bool = False  # a fresh server each time for the load
    reps: int = 0  # at most so many repetitions of what takes long; 0: all


def _rabbit(name, promise, *load):
    return (Entry("rabbitmq", name, promise, load), Entry("rabbitmq_nowait", name, promise, load))


OURS = "mqgate"
CLASSIC = "RabbitMQ classic"
QUORUM = "RabbitMQ quorum"
TRANSIENT = _rabbit(CLASSIC, NOTHING) + (Entry("mqgate", OURS, NOTHING),)
DURABLE = (_rabbit(CLASSIC, PAGE_CACHE) + _rabbit(QUORUM, FSYNC, "--queue-arg", "x-queue-type=quorum")
           + (Entry("mqgate", OURS, FSYNC),))
SAFE = ("--durable", "--persistent")
ACKED = ("--prefetch", "1000", "--ack-every", "100")


def _w1():
    sizes = (("100 B", 100, 20000, 20), ("1 KiB", 1024, 20000, 12), ("10 KiB", 10240, 2000, 5))
    for name, size, lag, ratio in sizes:
        load = ("--size", str(size), "--lag", str(lag))
        targets = [Target("final", "cpu_ratio", ratio, CLASSIC)]
        if size == 100:
            targets = [Target("now", "cpu_ratio", 10, CLASSIC), *targets,
                       Target("final", "rate_ratio", 8, CLASSIC), Target("final", "cpu_us", 0.7)]
        yield Row("W1", f"transient {name}, prefetch 1000", "message", load + ACKED, TRANSIENT, tuple(targets))
        yield Row("W1", f"transient {name}, auto-ack", "message", load + ("--ack-every", "0"), TRANSIENT)


def _w2():
    for window in (1, 100, 1000):
        load = ("--size", "100", "--confirm", str(window), "--lag", "20000", *SAFE, *ACKED)
        targets = [Target("final", "cpu_ratio", 25, QUORUM)]
        if window == 1:
            load += ("--latency",)
            targets.append(Target("final", "p99_over_fdatasync_us", 200))
        if window == 1000:
            targets = [Target("now", "cpu_ratio", 12, QUORUM), Target("now", "rate_ratio", 4, QUORUM), *targets,
                       Target("final", "rate_ratio", 10, QUORUM), Target("final", "cpu_us", 1.0)]
        yield Row("W2", f"durable 100 B, confirms, window {window}", "message", load, DURABLE, tuple(targets))


def _w3():
    for n in (10, 100):
        load = ("--fanout", str(n), "--consumers", "10", "--lag", "1000", *ACKED)
        yield Row("W3", f"fan-out 1->{n}, transient 100 B", "delivery", load + ("--size", "100"), TRANSIENT,
                  (Target("final", "cpu_ratio", 20, CLASSIC), Target("final", "cpu_us", 0.35)))
        yield Row("W3", f"fan-out 1->{n}, durable 1 KiB, confirms, window 1000", "delivery",
                  load + ("--size", "1024", "--confirm", "1000", *SAFE), DURABLE,
                  (Target("final", "cpu_ratio", 20, QUORUM), Target("final", "disk_ratio", 1.5)))


def _streams():
    stream = ("--queue-arg", "x-queue-type=stream")
    entries = _rabbit("RabbitMQ stream", PAGE_CACHE, *stream) + (Entry("mqgate", OURS, FSYNC, stream),)
    for name, size, lag in (("100 B", 100, 20000), ("10 KiB", 10240, 2000)):
        load = ("--size", str(size), "--confirm", "1000", "--lag", str(lag), *SAFE, *ACKED)
        yield Row("WS", f"stream {name}, confirms, window 1000", "message", load, entries)


def _w12():
    for rate in (10000, 50000):
        load = ("--size", "100", "--confirm", "10000", "--rate", str(rate), "--latency", *SAFE, *ACKED)
        yield Row("W12", f"durable 100 B, confirms, at {rate // 1000}k/s", "message", load, DURABLE,
                  (Target("final", "p99_ratio", 5, QUORUM),))


def _w8():
    yield Row("W8", "10k idle connections", "connection", ("--idle", "10000"), TRANSIENT,
              (Target("final", "rss_kib", 8), Target("final", "rate", 10000)), is_idle=True)


def _stomp():
    """The queue is made by the generator as the protocol makes it: durable, of RabbitMQ's default type."""
    transient = _rabbit(CLASSIC, NOTHING) + (Entry("mqgate", OURS, NOTHING),)
    durable = _rabbit(CLASSIC, PAGE_CACHE) + (Entry("mqgate", OURS, FSYNC),)
    ratio = (Target("now", "cpu_ratio", 10, CLASSIC),)
    for name, size, lag in (("100 B", "100", "20000"), ("10 KiB", "10240", "2000")):
        load = ("--size", size, "--lag", lag)
        yield Row("S1", f"transient {name}, ack:auto", "message", load, transient, ratio)
        yield Row("S1", f"transient {name}, ack:client, prefetch 1000", "message", load + ACKED, transient, ratio)
    for window in ("100", "1000"):
        yield Row("S2", f"persistent 100 B, receipts, window {window}", "message",
                  ("--size", "100", "--lag", "20000", "--persistent", "--confirm", window, *ACKED), durable, ratio)


STOMP = tuple(_stomp())
MOSQUITTO = "Mosquitto"


def _mosquitto(promise):
    return (Entry("mosquitto", MOSQUITTO, NOTHING), Entry("mqgate", OURS, promise))


def _w4():
    for name, size in (("100 B", 100), ("1 KiB", 1024)):
        targets = (Target("now", "cpu_ratio", 6, MOSQUITTO), Target("final", "cpu_ratio", 10, MOSQUITTO),
                   Target("final", "cpu_us", 0.6)) if size == 100 else ()
        yield Row("W4", f"QoS 0, {name}, 1:1", "message", ("--qos", "0", "--size", str(size)), _mosquitto(NOTHING), targets)
    yield Row("W4", "QoS 0, 100 B, fan-out 1->100", "delivery", ("--qos", "0", "--fanout", "100", "--lag", "500"),
              _mosquitto(NOTHING), (Target("now", "cpu_ratio", 10, MOSQUITTO), Target("final", "cpu_ratio", 20, MOSQUITTO)))


def _w5():
    for qos in (1, 2):
        targets = [Target("final", "cpu_ratio", 8, MOSQUITTO), Target("final", "cpu_us", 1.5)]
        if qos == 1:
            targets = [Target("now", "cpu_ratio", 5, MOSQUITTO), *targets]
        yield Row("W5", f"QoS {qos}, 100 B, durable session, window 1000", "message",
                  ("--qos", str(qos), "--durable", "--window", "1000"), _mosquitto(FSYNC), tuple(targets))


MQTT = (*_w4(), *_w5())
KAFKA = "Kafka"
OURS_OS = "mqgate flush=os"


def _kafka(peer_promise, peer_name, *peer_load):
    return (Entry("kafka", peer_name, peer_promise, peer_load), Entry("mqgate_os", OURS_OS, PAGE_CACHE),
            Entry("mqgate", OURS, FSYNC))


def _k1():
    """Produced and consumed at once: a message was taken, stored and given to a consumer."""
    for batch_name, batch, ratio in (("16 KiB", 16384, 3), ("1 MiB", 1048576, 1.5)):
        for name, size in (("100 B", 100), ("1 KiB", 1024)):
            yield Row("K1", f"{name} in batches of {batch_name}", "message", ("--size", str(size), "--batch", str(batch)),
                      _kafka(PAGE_CACHE, KAFKA),
                      (Target("final", "cpu_ratio", ratio, KAFKA, OURS_OS), Target("final", "rate_ratio", 1, KAFKA),
                       Target("final", "memory_ratio", 10, KAFKA)))


def _k2():
    """Who syncs each batch into its partition's file, and who syncs one journal."""
    synced = "Kafka flush.messages=1"
    yield Row("K2", "1,000 partitions, 100 B in batches of 16 KiB", "message",
              ("--size", "100", "--batch", "16384", "--partitions", "1000", "--producers", "4", "--warmup", "4"),
              (Entry("kafka", synced, FSYNC, ("--config", "flush.messages=1")), *_kafka(PAGE_CACHE, KAFKA)),
              (Target("final", "rate_ratio", 10, synced), Target("final", "memory_ratio", 10, KAFKA)), is_fresh=True, reps=3)


def _k3():
    yield Row("K3", "expired polls: 1,000 consumers, 10,000 partitions", "poll",
              ("--role", "polls", "--size", "100", "--partitions", "10000", "--consumers", "1000", "--seconds", "10"),
              (Entry("kafka", KAFKA, NOTHING), Entry("mqgate", OURS, NOTHING)), (Target("final", "cpu_us", 15),), is_fresh=True, reps=2)


def _k0():
    yield Row("K0", "memory without load", "server", (), _kafka(PAGE_CACHE, KAFKA),
              (Target("final", "memory_ratio", 10, KAFKA),), is_bare=True, reps=2)


KAFKA_ROWS = (*_k0(), *_k1(), *_k2(), *_k3())
AMQP = (*_w1(), *_w2(), *_w3(), *_streams(), *_w8(), *_w12())
PROTOCOLS = {"amqp": AMQP, "kafka": KAFKA_ROWS, "mqtt": MQTT, "stomp": STOMP}
