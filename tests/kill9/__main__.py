"""kill -9 under load, restart, compare: nothing that was confirmed may be missing.

    python3 tests/kill9 --rounds 10          (or tests/kill9/run --rounds 10)

Each round: publishers with confirms, consumers that ack a part and a definer work on one broker until it is
killed at a random moment; it is started again (now and then it is killed once more while it recovers); every
queue is read whole and compared with the ledger (ledger.py has the rules), and every definition that was
answered for is looked up. What was read is acked in one half of the rounds and left for the next in the other.
kill -9 keeps the page cache: that confirms wait for fdatasync is shown elsewhere, by the store's own tests.
"""
import argparse
import random
import sys
import threading
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "lib")]

from client import PATIENCE_S, Deliveries, Stream, ack_bytes, consumer  # noqa: E402
from ledger import DEAD, FANOUT, QUEUES, REJECT, STREAM, Ledger  # noqa: E402
from load import GONE, Consumer, Definer, Publisher, Rejecter, StreamReader  # noqa: E402
from mqtest import broker as brokers  # noqa: E402
from mqtest import wire  # noqa: E402
from pika import spec  # noqa: E402

STREAM_LONG = 60_000


def declare(broker):
    with wire.Conn(broker, PATIENCE_S).connect() as conn:
        conn.rpc(1, spec.Exchange.Declare(exchange=FANOUT, type="fanout", durable=True), spec.Exchange.DeclareOk)
        for queue in QUEUES:
            args = {"x-queue-type": "quorum", "x-delivery-limit": 1000} if "quorum" in queue else {}
            if queue == REJECT:
                args = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": DEAD}
            elif broker.is_rabbitmq:  # after such a kill its quorum queue may look for a leader for ever
                args = {}
            conn.rpc(1, spec.Queue.Declare(queue=queue, durable=True, arguments=args), spec.Queue.DeclareOk)
        for queue in ("k9.left", "k9.right"):
            conn.rpc(1, spec.Queue.Bind(queue=queue, exchange=FANOUT), spec.Queue.BindOk)
        declare_stream(broker, conn)


def declare_stream(broker, conn):
    args = {} if broker.is_rabbitmq else {"x-queue-type": "stream"}  # it may not find its stream again
    conn.rpc(1, spec.Queue.Declare(queue=STREAM, durable=True, arguments=args), spec.Queue.DeclareOk)
    conn.rpc(1, spec.Queue.Bind(queue=STREAM, exchange=FANOUT), spec.Queue.BindOk)


def load_until_killed(broker, ledger, round_no, rng, args):
    """One round of load and its kill; returns the workers, which have all ended."""
    lock = threading.Lock()
    base = (broker, ledger, lock)
    workers = [Publisher(*base, rng.random(), round_no=round_no, number=n) for n in range(args.publishers)]
    workers.append(Rejecter(*base, rng.random(), queue=REJECT))
    workers += [Consumer(*base, rng.random(), queue=queue) for queue in ("k9.plain", "k9.left", "k9.quorum")]
    if not broker.is_rabbitmq:
        workers.append(StreamReader(*base, rng.random()))
    workers.append(Definer(*base, rng.random(), round_no=round_no))
    for worker in workers:
        worker.start()
    time.sleep(rng.uniform(0.2, args.load_s))
    broker.kill9()
    for worker in workers:
        worker.join(30)
        if worker.is_alive() or worker.error:
            raise RuntimeError(f"{worker} did not end well: {worker.error!r}")
    return workers


def come_back(broker, rng):
    """Starts the broker; in one of three rounds kills it once more while it starts. Returns the time it took."""
    if rng.random() < 0.33 and not broker.is_rabbitmq:
        with open(broker.log_path, "ab") as log:
            broker.proc = broker._spawn(log)
        time.sleep(rng.uniform(0, 0.08))
        broker.kill9()
    started = time.monotonic()
    broker.start()
    return time.monotonic() - started


def ready_count(conn, queue):
    return conn.rpc(1, spec.Queue.Declare(queue=queue, passive=True), spec.Queue.DeclareOk).message_count


def read_whole(broker, ledger, queue, keep):
    """All messages of a queue, in order; acked at the end, or given back."""
    with wire.Conn(broker, PATIENCE_S).connect() as control:
        waiting = ready_count(control, queue)
        conn = consumer(broker, queue, 0)
        stream, deliveries, content, count, tag = Stream(conn), Deliveries(), [], 0, 0
        while count < waiting or ready_count(control, queue):
            for frame in stream.frames(PATIENCE_S):
                got = deliveries.feed(*frame)
                if got:
                    tag, redelivered, body = got
                    count += 1
                    message = ledger.see(queue, body, redelivered)
                    if message:
                        content.append(message)
        if count and not keep:
            for message in content:
                ledger.settle(queue, message)
            conn.send_raw(ack_bytes(tag, multiple=True))
        conn.close()
    return content


def read_stream(broker, ledger):
    """All of the stream from its beginning, compared; deleted and made anew when it has become long."""
    with wire.Conn(broker, PATIENCE_S).connect() as control:
        there = ready_count(control, STREAM)
        conn = consumer(broker, STREAM, 20_000, {"x-stream-offset": "first"})
        stream, deliveries, content, tag = Stream(conn), Deliveries(), [], 0
        while tag < there:
            acked = tag
            for frame in stream.frames(PATIENCE_S):
                got = deliveries.feed(*frame)
                if got:
                    tag = got[0]
                    message = ledger.known(STREAM, got[2])
                    if message:
                        content.append(message)
            if tag > acked:
                conn.send_raw(ack_bytes(tag, multiple=True))
        conn.close()
        ledger.check_queue(STREAM, content)
        if len(content) > STREAM_LONG:
            conn = wire.Conn(broker, PATIENCE_S).connect()
            conn.rpc(1, spec.Queue.Delete(queue=STREAM), spec.Queue.DeleteOk)
            declare_stream(broker, conn)
            conn.close()
            ledger.forget_stream()
    return len(content)


def check_definitions(broker, definer, ledger):
    """What was answered for is there, with its arguments and binding; what was deleted is not."""
    with wire.Conn(broker, PATIENCE_S).connect() as conn:
        for name in definer.there:
            try:
                conn.rpc(1, spec.Exchange.Declare(exchange=name, type="topic", durable=True, passive=True),
                         spec.Exchange.DeclareOk)
                conn.rpc(1, spec.Queue.Declare(queue=name, durable=True, arguments={"x-max-length": 10}),
                         spec.Queue.DeclareOk)
                if ready_count(conn, name) != 0:
                    raise wire.Closed("queue", 0, "is not empty")
                conn.publish(1, name, "a.b", b"m", mandatory=True)
                conn.send(1, spec.Basic.Get(queue=name, no_ack=True))
                method, _, _ = conn.read_content()
                if not isinstance(method, spec.Basic.GetOk):
                    raise wire.Closed("binding", 312, "is gone")
            except (wire.Closed, AttributeError) as end:
                ledger.lost += 1
                ledger.note("definition", name, end)
                conn = wire.Conn(broker, PATIENCE_S).connect()
        for name in definer.gone:
            try:
                conn.rpc(1, spec.Queue.Declare(queue=name, passive=True), spec.Queue.DeclareOk)
                ledger.foreign += 1
                ledger.note("deleted queue is back", name)
            except wire.Closed:
                conn.open_channel(1)
        for name in definer.there + definer.unsure:
            conn.rpc(1, spec.Queue.Delete(queue=name), spec.Queue.DeleteOk)
            conn.rpc(1, spec.Exchange.Delete(exchange=name), spec.Exchange.DeleteOk)
    return len(definer.there) + len(definer.gone)


def one_round(broker, ledger, round_no, rng, args):
    before = ledger.confirmed
    workers = load_until_killed(broker, ledger, round_no, rng, args)
    start_s = come_back(broker, rng)
    backlog = sum(len(messages) for messages in ledger.expected.values())
    keep = round_no % 2 == 1 and backlog < 60_000
    drained, contents = 0, {}
    for queue in QUEUES:
        try:
            content = read_whole(broker, ledger, queue, keep)
        except wire.Closed as end:
            if end.code != 404:
                raise
            ledger.note("definition", queue, end)
            content = []
        drained += len(content)
        contents[queue] = content
        ledger.check_queue(queue, content)
    ledger.check_dead(contents[REJECT], contents[DEAD])
    streamed = 0 if broker.is_rabbitmq else read_stream(broker, ledger)
    definitions = check_definitions(broker, workers[-1], ledger)
    published = sum(w.sent for w in workers if isinstance(w, Publisher))
    acked = sum(w.acked for w in workers if isinstance(w, Consumer))
    print(f"round={round_no} published={published} confirmed={ledger.confirmed - before} acked={acked} "
          f"drained={drained} streamed={streamed} kept={int(keep)} definitions={definitions} start_ms={start_s * 1000:.0f} "
          f"lost={ledger.lost} dup_unmarked={ledger.dup_unmarked}", flush=True)


def main():
    parser = argparse.ArgumentParser(prog="tests/kill9", description="kill -9 under load; nothing confirmed is lost")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=None, help="default: a new one each time, printed")
    parser.add_argument("--publishers", type=int, default=3)
    parser.add_argument("--load-s", type=float, default=1.2, help="longest time of load before the kill")
    parser.add_argument("--broker", default=brokers.chosen_name(), choices=sorted(brokers.BROKERS))
    parser.add_argument("--set", action="append", default=[], help="section.key=value for the gateway")
    args = parser.parse_args()
    kind = brokers.BROKERS[args.broker]
    if kind.missing():
        print(f"kill9: {kind.missing()}", file=sys.stderr)
        return 3
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(1 << 32)
    rng, ledger = random.Random(seed), Ledger()
    settings = dict(pair.split("=", 1) for pair in args.set)
    broker = kind(settings) if settings else kind()
    try:
        broker.start()
        declare(broker)
        for round_no in range(1, args.rounds + 1):
            one_round(broker, ledger, round_no, rng, args)
            if ledger.violations:
                break
        stopped_well = broker.stop(60) == 0
        broker.check_log()
    except (*GONE, brokers.BrokerError, RuntimeError) as error:
        time.sleep(0.1)  # a broker that just crashed has its exit code by then
        state = "alive" if broker.alive() else f"exit {broker.proc.returncode if broker.proc else 'none'}"
        print(f"kill9: seed={seed} broker={state}: {error!r}\n{broker.log_text(3000)}", file=sys.stderr)
        traceback.print_exc()
        return 2
    finally:
        broker.close()
    for note in ledger.notes:
        print(f"  {note}")
    print(f"rounds={round_no} seed={seed} {ledger.summary()}")
    return 0 if ledger.violations == 0 and ledger.confirmed > 0 and stopped_well else 1


if __name__ == "__main__":
    sys.exit(main())
