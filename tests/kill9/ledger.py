"""What was promised, what was seen, and whether the two agree.

A message's identity is (round, publisher, tag): tag is the publisher's confirm number, so that the queues it went
to, its size and its bytes all follow from the identity, and the ledger stores only sets. The rules:

- a confirmed message is in each of its queues after a restart, unless we sent an ack for it there;
- it is there once; whoever sees a message in a queue where it was delivered before must see redelivered=true;
- one publisher's messages come out of a queue in the order they were published;
- nothing is there that was never published, and each body is whole;
- a confirmed message that was rejected is in its queue or has gone to the dead ones: in one of the two, never both;
- a stream holds what was confirmed to its publishers and what was shown to a reader: once, in order, for good.
"""
import collections

REJECT, DEAD = "k9.reject", "k9.dead"   # what is rejected in the one goes to the other
QUEUES = ("k9.plain", "k9.second", "k9.left", "k9.right", "k9.quorum", REJECT, DEAD)
STREAM = "k9.stream"
FANOUT = "k9.fanout"
PATTERN = bytes(range(256)) * 512


def route(publisher: int, tag: int):
    """Where message `tag` of a publisher goes: (exchange, routing key, queues)."""
    turn = (tag + publisher) % 7
    if turn < 2:
        return FANOUT, "", ("k9.left", "k9.right", STREAM)
    queue = ("k9.plain", "k9.second", "k9.quorum", "k9.plain", REJECT)[turn - 2]
    return "", queue, (queue,)


def body_of(message) -> bytes:
    round_no, publisher, tag = message
    size = 60_000 if tag % 211 == 0 else (tag * 7919 + publisher * 31) % 1500
    return b"%d.%d.%d " % message + PATTERN[:size]


def message_of(body: bytes):
    """The identity that a body claims; None when the body is not whole."""
    try:
        message = tuple(int(part) for part in body[:body.index(b" ")].split(b"."))
        return message if body == body_of(message) else None
    except ValueError:
        return None


class Ledger:
    def __init__(self):
        self.published = {}                               # (round, publisher) -> highest tag sent
        self.expected = {queue: set() for queue in (*QUEUES, STREAM)}   # confirmed, and no ack sent
        self.delivered = {queue: set() for queue in QUEUES}
        self.settled = {queue: set() for queue in (*QUEUES, STREAM)}
        self.sure = set()        # confirmed, of those that may be rejected
        self.rejected = set()    # a reject was sent, and no ack in either of the two queues
        self.confirmed = self.lost = self.dup_unmarked = self.twice = self.disorder = self.foreign = 0
        self.notes = []

    # -- what we did --------------------------------------------------------------------------
    def confirm(self, message):
        self.confirmed += 1
        for queue in route(*message[1:])[2]:
            if queue == REJECT:
                self.sure.add(message)
            if message not in self.settled[queue]:
                self.expected[queue].add(message)

    def settle(self, queue, message):
        """An ack is about to be sent: from now on the message may be gone or not."""
        self.settled[queue].add(message)
        self.expected[queue].discard(message)
        self.rejected.discard(message)

    def reject(self, message):
        """A reject is about to be sent: from now on the message may be here or with the dead."""
        self.settle(REJECT, message)
        self.rejected.add(message)

    # -- what we saw --------------------------------------------------------------------------
    def known(self, queue, body):
        """The message of a body that may be in this queue; None, and noted, when it may not."""
        message = message_of(body)
        if message is None or message[2] > self.published.get(message[:2], 0) or not self.may_be_in(queue, message):
            self.foreign += 1
            self.note("foreign", queue, body[:40])
            return None
        return message

    def may_be_in(self, queue, message):
        if queue == DEAD:
            return message in self.rejected or message in self.settled[REJECT]
        return queue in route(*message[1:])[2]

    def see(self, queue, body, redelivered):
        """A delivery; returns its message, or None when it is not one of ours."""
        message = self.known(queue, body)
        if message is None:
            return None
        if message in self.delivered[queue] and not redelivered:
            self.dup_unmarked += 1
            self.note("dup_unmarked", queue, message)
        self.delivered[queue].add(message)
        return message

    def show(self, body):
        """A reader of the stream was shown this: it may never be taken back. Returns its message."""
        message = self.known(STREAM, body)
        if message:
            self.expected[STREAM].add(message)
        return message

    def forget_stream(self):
        """The stream was deleted."""
        self.settled[STREAM] |= self.expected[STREAM]
        self.expected[STREAM] = set()

    def check_queue(self, queue, content):
        """The whole content of a queue after a restart, in order: a list of messages."""
        count = collections.Counter(content)
        for message in self.expected[queue] - count.keys():
            self.lost += 1
            self.note("lost", queue, message)
        for message, copies in count.items():
            if copies > 1:
                self.twice += 1
                self.note("twice", queue, message)
        if queue == DEAD:   # in the order of the rejects
            return
        last = {}
        for round_no, publisher, tag in content:
            if tag < last.get((round_no, publisher), 0):
                self.disorder += 1
                self.note("disorder", queue, (round_no, publisher, tag))
            last[round_no, publisher] = tag

    def check_dead(self, here, dead):
        """The whole content of the queue of rejects and of that of the dead."""
        here, dead = set(here), set(dead)
        for message in self.rejected & self.sure - here - dead:
            self.lost += 1
            self.note("lost on the way to the dead", message)
        for message in here & dead:
            self.twice += 1
            self.note("rejected, and in both queues", message)

    def note(self, what, *details):
        if len(self.notes) < 50:
            self.notes.append(f"{what}: {' '.join(str(part) for part in details)}")

    @property
    def violations(self):
        return self.lost + self.dup_unmarked + self.twice + self.disorder + self.foreign

    def summary(self):
        return (f"confirmed={self.confirmed} lost={self.lost} dup_unmarked={self.dup_unmarked} "
                f"twice={self.twice} disorder={self.disorder} foreign={self.foreign}")
