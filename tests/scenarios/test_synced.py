"""What a client is told to be safe is on the disk: while no sync comes to its end, no RECEIPT for it leaves."""
import pytest
from mqtest.broker import Gateway, build_dir
from mqtest.stomp import Stomp

HELD = build_dir() / "tests" / "scenarios" / "held_sync.so"
SAFE = {"persistent": "true", "receipt": "safe"}


@pytest.fixture
def gateway():
    made = Gateway(settings={"listeners.stomp": "127.0.0.1:0"})
    made.hold = made.folder / "hold"
    made.wrapper = ["env", f"LD_PRELOAD={HELD}", f"HELD_SYNC={made.hold}"]
    with made.start():
        yield made
        made.hold.unlink(missing_ok=True)


def send(c, **headers):
    c.send("SEND", {"destination": "/queue/q", **headers}, b"x")


def commit(c):
    c.send("BEGIN", {"transaction": "t"})
    send(c, transaction="t", persistent="true")
    c.send("COMMIT", {"transaction": "t", "receipt": "safe"})


FRAMES = {
    "SEND": lambda c: send(c, **SAFE),
    "SEND without length": lambda c: c.raw(b"SEND\ndestination:/queue/q\npersistent:true\nreceipt:safe\n\nx\0"),
    "SEND for later": lambda c: send(c, AMQ_SCHEDULED_DELAY="100000", **SAFE),
    "COMMIT": commit,
    "SUBSCRIBE": lambda c: c.send("SUBSCRIBE", {"destination": "/topic/t", "id": "d", "durable": "true",
                                                "auto-delete": "false", "receipt": "safe"}),
}


@pytest.mark.parametrize("frame", FRAMES)
def test_a_receipt_waits_for_the_disk(gateway, frame):
    with Stomp(gateway.ports["stomp"]).connect() as c, Stomp(gateway.ports["stomp"]).connect() as other:
        other.put("/queue/q", b"made")
        gateway.hold.touch()
        FRAMES[frame](c)
        other.put("/queue/q", b"transient")  # answered, though it was sent behind: nothing of it is on the disk
        c.idle(0.3)
        gateway.hold.unlink()
        assert c.receipt()["receipt-id"] == "safe"


def test_an_acks_receipt_waits_for_the_disk(gateway):
    with Stomp(gateway.ports["stomp"]).connect() as c:
        c.subscribe("/queue/q", ack="client-individual").put("/queue/q", b"x", persistent="true")
        message = c.expect("MESSAGE")
        gateway.hold.touch()
        c.send("ACK", {"id": message["ack"], "receipt": "safe"})
        c.idle(0.3)
        gateway.hold.unlink()
        assert c.receipt()["receipt-id"] == "safe"
