#!/usr/bin/python3
"""Exactly once under kill -9: eos.py --rounds N [--seed S] [--java].

An idempotent producer numbers records into `in` (two partitions). A transactional copier reads them with read_committed and writes
each number to `out`, with its position, in transactions of which some are rolled back. Meanwhile the gateway is killed, N
times, at random moments. At the end the ledger must say:

  in   every number whose delivery was reported, none twice
  out  every number of `in`, none twice, for a reader with read_committed

With --java the copier is Apache Kafka's own client (programs/Copier.java), which ends transactions as KIP-890 has it.

Whoever loses his gateway goes on as the client library says: tries again, rolls back, or begins anew with the same id. Each such
beginning is told with its reason. One reason is no fault of the gateway: librdkafka ends a transaction by EndTxn(abort) although its
AddPartitionsToTxn may never have come (the gateway died with it), and is told INVALID_TXN_STATE where the transaction before
was committed, as by Apache Kafka (kafka.md). So that answer is a fault to a commit, or once a partition was registered.
"""
import argparse
import logging
import random
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition  # noqa: E402
from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402

from test_transactions import Node  # noqa: E402

PARTITIONS = 2
CALL_S = 20
DRAIN_S = 120
NOTES_KEPT = 400


class Notes(logging.Handler):
    """What the client library says of its transactions, the last of it."""

    def __init__(self):
        super().__init__()
        self.lines = deque(maxlen=NOTES_KEPT)
        self.registered = False  # a partition, since forget()

    def emit(self, record):
        text = record.getMessage()
        self.registered = self.registered or "registered with transaction" in text
        self.lines.append(f"{time.strftime('%H:%M:%S', time.localtime(record.created))} {text}")

    def forget(self):
        self.registered = False

    def logger(self):
        made = logging.Logger("eos")
        made.addHandler(self)
        return made


class Writer(threading.Thread):
    """Numbers 0, 1, 2... into `in`; remembers which were reported as delivered."""

    def __init__(self, node):
        super().__init__()
        self.producer = Producer(node.settings(enable_idempotence=True, linger_ms=2))
        self.sent, self.delivered, self.refused = 0, set(), []
        self.stopping = threading.Event()

    def run(self):
        while not self.stopping.is_set():
            for _ in range(10):
                self.producer.produce("in", f"{self.sent}".encode(), partition=self.sent % PARTITIONS,
                                      on_delivery=self.report(self.sent))
                self.sent += 1
            self.producer.poll(0)
            self.stopping.wait(0.01)  # a load that the copier can follow on a slow machine
        if self.producer.flush(DRAIN_S) != 0:
            self.refused.append("records that were never reported")

    def report(self, number):
        def delivered(error, _message):
            if error is None:
                self.delivered.add(number)
            else:
                self.refused.append(f"{number}: {error}")
        return delivered


class Copier(threading.Thread):
    """Reads `in`, writes `out`, in transactions."""

    def __init__(self, node, rng):
        super().__init__()
        self.node, self.rng = node, rng
        self.goal = None  # how many records `in` has, once nothing more comes
        self.commits = self.rollbacks = self.lives = 0
        self.trouble = None
        self.ends, self.faults = [], []  # why lives ended; those of which the gateway is to blame
        self.notes, self.ending = Notes(), ""
        self.done = threading.Event()
        self.stopping = threading.Event()

    def run(self):
        while not self.stopping.is_set() and not self.done.is_set():
            try:
                self.live()
            except KafkaException as failed:
                self.note_end(failed)  # and on with a new producer of the same id, from the committed positions
            except Exception as error:  # a bug of this program
                self.trouble = error
                return

    def note_end(self, failed):
        """The producer was asked for what it still had to say (live())."""
        why = f"{time.strftime('%H:%M:%S')} {self.ending or 'working'}: {failed.args[0]} registered={self.notes.registered}"
        self.ends.append(why)
        if failed.args[0].code() == KafkaError.INVALID_TXN_STATE and (self.ending != "abort" or self.notes.registered):
            self.faults.append("\n    ".join([why, *self.notes.lines]))

    def finish(self, goal):
        self.goal = goal
        finished = self.done.wait(DRAIN_S)
        self.stopping.set()
        self.join(DRAIN_S)
        return finished

    def live(self):
        self.lives += 1
        self.ending = ""
        producer = Producer({**self.node.settings(), "transactional.id": "copier", "debug": "eos", "log_level": 7},
                            logger=self.notes.logger())
        consumer = Consumer({**self.node.settings(isolation_level="read_committed"), "group.id": "copier",
                             "auto.offset.reset": "earliest", "enable.auto.commit": False})
        try:
            producer.init_transactions(CALL_S)
            wanted = [TopicPartition("in", p) for p in range(PARTITIONS)]
            at = {}
            for found in consumer.committed(wanted, CALL_S):
                if found.error is not None:
                    raise KafkaException(found.error)
                at[found.partition] = max(found.offset, 0)
            consumer.assign([TopicPartition("in", p, offset) for p, offset in at.items()])
            while not self.stopping.is_set():
                self.turn(producer, consumer, at)
        finally:
            consumer.close()
            self.listen(producer)

    @staticmethod
    def listen(producer):
        """Its notes come by poll(), which tells of its end, too."""
        try:
            producer.poll(0)
        except KafkaException:
            pass

    def turn(self, producer, consumer, at):
        messages = [m for m in consumer.consume(self.rng.randrange(1, 200), 0.1) if m.error() is None]
        if not messages:
            self.look_done(consumer, at)
            return
        self.listen(producer)
        self.notes.forget()
        producer.begin_transaction()
        after = dict(at)
        for message in messages:
            producer.produce("out", message.value(), partition=self.rng.randrange(PARTITIONS))
            after[message.partition()] = message.offset() + 1
        if self.rng.random() < 0.15:
            self.ending = "abort"
            producer.abort_transaction(CALL_S)
            self.ending = ""
            self.rollbacks += 1
            for p, offset in at.items():
                consumer.seek(TopicPartition("in", p, offset))
            return
        producer.send_offsets_to_transaction([TopicPartition("in", p, o) for p, o in after.items()],
                                             consumer.consumer_group_metadata(), CALL_S)
        self.ending = "commit"
        self.commit(producer)
        self.ending = ""
        at.update(after)

    def commit(self, producer):
        deadline = time.monotonic() + DRAIN_S
        while True:
            try:
                producer.commit_transaction(CALL_S)
                self.commits += 1
                return
            except KafkaException as failed:
                if not failed.args[0].retriable() or time.monotonic() > deadline:
                    raise

    def look_done(self, consumer, at):
        if self.goal is None:
            return
        ends = [consumer.get_watermark_offsets(TopicPartition("in", p), CALL_S)[1] for p in at]
        if sum(at.values()) >= sum(ends):
            self.done.set()
            self.stopping.set()


class JavaCopier:
    """The same, in a process of its own."""

    def __init__(self, node, rng):
        from mqtest import cache
        jars = cache.maven_tree("org.apache.kafka:kafka-streams:4.1.0", "org.slf4j:slf4j-nop:1.7.36")
        self.command = ["java", "-cp", str(jars), str(Path(__file__).parent / "programs" / "Copier.java"),
                        node.settings()["bootstrap.servers"], str(rng.randrange(1 << 30))]
        self.process = self.trouble = None
        self.commits = self.rollbacks = self.lives = 0
        self.ends, self.faults = [], []

    def start(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def finish(self, _goal):
        try:
            out, _ = self.process.communicate("", DRAIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            return False
        if self.process.returncode == 0:
            self.commits, self.rollbacks, self.lives = map(int, out.split())
        return self.process.returncode == 0


def read_all(node, topic):
    consumer = node.consumer("auditor", isolation_level="read_committed")
    consumer.assign([TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
    numbers, ended, deadline = Counter(), set(), time.monotonic() + DRAIN_S
    while len(ended) < PARTITIONS:
        if time.monotonic() > deadline:
            raise TimeoutError(f"no end of {topic}")
        for message in consumer.consume(1000, 0.5):
            if message.error():
                ended.add(message.partition())
            else:
                numbers[int(message.value())] += 1
    consumer.close()
    return numbers


def audit(name, numbers, must, may):
    faults = [f"{name}: {sum(1 for n in numbers.values() if n > 1)} numbers twice"] * any(n > 1 for n in numbers.values())
    lost = must - set(numbers)
    if lost:
        faults.append(f"{name}: {len(lost)} numbers lost, {sorted(lost)[:5]}...")
    if set(numbers) - may:
        faults.append(f"{name}: {len(set(numbers) - may)} numbers that nobody wrote")
    return faults


def run(rounds, seed, kind=Copier):
    rng = random.Random(seed)
    node = Node()
    try:
        admin = AdminClient(node.settings())
        for made in admin.create_topics([NewTopic(t, PARTITIONS, 1) for t in ("in", "out")]).values():
            made.result(CALL_S)
        writer, copier = Writer(node), kind(node, random.Random(rng.random()))
        writer.start()
        copier.start()
        for _ in range(rounds):
            if copier.faults:
                break
            time.sleep(rng.uniform(0.3, 1.5))  # the load runs meanwhile: the moment of the kill is what is random
            node.gateway.kill9()
            node.gateway.start()
        writer.stopping.set()
        writer.join(DRAIN_S)
        finished = copier.finish(writer.sent)
        came, copied = read_all(node, "in"), read_all(node, "out")
        faults = audit("in", came, writer.delivered, set(range(writer.sent))) + audit("out", copied, set(came), set(came))
        faults += [f"refused: {text}" for text in writer.refused[:5]]
        faults += [] if finished else ["the copier did not come to the end"]
        faults += [f"copier: {copier.trouble!r}"] if copier.trouble else []
        faults += [f"copier: {text}" for text in copier.faults]
        print(f"eos: seed={seed} kills={rounds} sent={writer.sent} delivered={len(writer.delivered)} in={len(came)} "
              f"out={len(copied)} commits={copier.commits} rollbacks={copier.rollbacks} lives={copier.lives} "
              f"faults={len(faults)}")
        for why in copier.ends:
            print("  a life ended: " + why)
        for fault in faults:
            print("  " + fault)
        if faults or copier.ends:
            print(node.gateway.log_text(60000))
        node.gateway.check_log()
        return not faults
    finally:
        node.gateway.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--java", action="store_true")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.randrange(1 << 30)
    sys.exit(0 if run(options.rounds, seed, JavaCopier if options.java else Copier) else 1)


if __name__ == "__main__":
    main()
