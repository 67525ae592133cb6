"""stomp.py, unmodified: patterns_stomppy.py HOST PORT QUEUE; prints "ok NAME" per pattern."""
import queue
import sys

import stomp

HOST, PORT, NAME = sys.argv[1], int(sys.argv[2]), sys.argv[3]


class Sink(stomp.ConnectionListener):
    def __init__(self):
        self.messages, self.receipts, self.errors = queue.Queue(), queue.Queue(), queue.Queue()

    def on_message(self, frame):
        self.messages.put(frame)

    def on_receipt(self, frame):
        self.receipts.put(frame)

    def on_error(self, frame):
        self.errors.put(frame)


def connect(kind, passcode="guest", **kw):
    c, sink = kind([(HOST, PORT)], **kw), Sink()
    c.set_listener("", sink)
    c.connect("guest", passcode, wait=True)
    return c, sink


for label, kind in (("1.0", stomp.Connection10), ("1.1", stomp.Connection11), ("1.2", stomp.Connection12)):
    c, sink = connect(kind)
    where = f"/queue/{NAME}-{label}"
    c.subscribe(where, id="1", ack="client", receipt="s")
    assert sink.receipts.get(timeout=60).headers["receipt-id"] == "s"
    for n in range(10):
        c.send(where, f"body {n}", n=str(n), receipt=f"r{n}", persistent="true")
    for n in range(10):
        assert sink.receipts.get(timeout=60).headers["receipt-id"] == f"r{n}"
        frame = sink.messages.get(timeout=60)
        assert (frame.body, frame.headers["n"]) == (f"body {n}", str(n)), frame.body
        if label == "1.0":
            c.ack(frame.headers["message-id"])
        elif label == "1.1":
            c.ack(frame.headers["message-id"], "1")
        else:
            c.ack(frame.headers["ack"])
    print("ok work_queue", label)
    tx = c.begin()
    c.send(where, "in a transaction", transaction=tx)
    c.commit(tx)
    assert sink.messages.get(timeout=60).body == "in a transaction"
    print("ok transaction", label)
    c.disconnect()
    print("ok disconnect", label)

c, sink = connect(stomp.Connection12, heartbeats=(1000, 1000))
c.send("/nothing/there", "x")
assert sink.errors.get(timeout=60).headers["message"] == "Unknown destination"
print("ok errors")
