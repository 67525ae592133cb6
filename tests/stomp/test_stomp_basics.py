"""CONNECT, SEND, SUBSCRIBE, MESSAGE, ACK, RECEIPT: the way of a message, on each version."""
import pytest

VERSIONS = ["1.0", "1.1", "1.2"]
each_version = pytest.mark.parametrize("version", VERSIONS)


@pytest.mark.parametrize("accept, version", [(None, "1.0"), ("1.0", "1.0"), ("1.1", "1.1"), ("1.0,1.1,1.2", "1.2"),
                                             ("1.1,1.0", "1.1"), ("1.2,9.9", "1.2")])
def test_the_highest_common_version_is_taken(stomp, accept, version):
    assert stomp(accept_version=accept).connected["version"] == version


def test_no_common_version_is_an_error(stomp):
    c = stomp(connect=False)
    c.send("CONNECT", {"accept-version": "2.0", "host": "/", "login": "guest", "passcode": "guest"})
    error = c.error()
    assert error["message"] == "Version mismatch"
    assert "1.0" in error["version"]


def test_the_command_stomp_connects_too(stomp):
    c = stomp(connect=False)
    c.send("STOMP", {"accept-version": "1.2", "host": "/", "login": "guest", "passcode": "guest"})
    connected = c.expect("CONNECTED")
    assert connected["server"] and connected["session"]


def test_a_wrong_password_is_refused(stomp):
    c = stomp(connect=False)
    c.send("CONNECT", {"accept-version": "1.2", "host": "/", "login": "guest", "passcode": "wrong"})
    error = c.error()
    assert error["message"] == "Bad CONNECT"
    assert error.body == b"Access refused for user 'guest'\n"


@each_version
def test_a_message_goes_through_a_queue(stomp, unique, version, on_rabbitmq):
    c = stomp(version)
    queue = f"/queue/{unique('q')}"
    c.subscribe(queue, "s1")
    c.put(queue, b"hello", content_type="text/plain", colour="blue")
    got = c.expect("MESSAGE")
    assert (got.body, got["destination"], got["subscription"]) == (b"hello", queue, "s1")
    assert (got["content-type"], got["colour"], got["content-length"]) == ("text/plain", "blue", "5")
    assert got["message-id"]
    assert "receipt" not in got or on_rabbitmq  # there it is a header like any other
    c.idle()


@each_version
def test_headers_are_escaped_as_the_version_says(stomp, unique, version, on_rabbitmq):
    c = stomp(version)
    queue = f"/queue/{unique('q')}"
    value = {"1.0": "a:b", "1.1": "a:b\nc\\d", "1.2": "a:b\nc\\d\re"}[version]
    if on_rabbitmq and version == "1.0":
        pytest.skip("RabbitMQ escapes in 1.0, too")
    c.subscribe(queue).put(queue, b"x", odd=value)
    assert c.expect("MESSAGE")["odd"] == value


@pytest.mark.parametrize("sender", VERSIONS)
@pytest.mark.parametrize("receiver", VERSIONS)
def test_headers_survive_between_versions(stomp, unique, sender, receiver, on_rabbitmq):
    queue = f"/queue/{unique('q')}"
    if on_rabbitmq and receiver == "1.0":
        pytest.skip("RabbitMQ escapes in 1.0, too")
    value = "a:b" if "1.0" in (sender, receiver) else "a:b\nc\\d"
    got = stomp(receiver).subscribe(queue)
    stomp(sender).put(queue, b"x", odd=value, plain="yes")
    message = got.expect("MESSAGE")
    assert (message["odd"], message["plain"]) == (value, "yes")


def test_bodies_may_hold_nul(stomp, unique):
    c = stomp()
    queue = f"/queue/{unique('q')}"
    c.subscribe(queue).put(queue, b"a\0b\0\0c")
    assert c.expect("MESSAGE").body == b"a\0b\0\0c"


def test_a_body_without_length_ends_at_nul(stomp, unique):
    c = stomp()
    queue = f"/queue/{unique('q')}"
    c.subscribe(queue)
    c.raw(f"SEND\ndestination:{queue}\n\nno length\0\n\n".encode())
    c.raw(f"SEND\r\ndestination:{queue}\r\n\r\ncrlf\0\r\n".encode())
    assert [c.expect("MESSAGE").body for _ in range(2)] == [b"no length", b"crlf"]


@pytest.mark.parametrize("size", [0, 1, 8191, 8192, 100_000, 3_000_000])
@pytest.mark.parametrize("with_length", [True, False])
def test_bodies_of_any_size(stomp, unique, size, with_length):
    c = stomp()
    queue = f"/queue/{unique('q')}"
    body = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    c.subscribe(queue)
    headers = {"destination": queue, "receipt": "r"}
    if with_length:
        headers["content-length"] = str(size)
    c.raw(c.frame("SEND", headers) if not body else
          c.frame("SEND", headers)[:-1] + body + b"\0")
    frames = [c.next(), c.next()]
    message = next(f for f in frames if f.command == "MESSAGE")
    assert message.body == body


def test_repeated_headers_count_with_the_first(stomp, unique):
    c = stomp()
    queue = f"/queue/{unique('q')}"
    c.subscribe(queue)
    c.send("SEND", [("destination", queue), ("destination", "/queue/other"), ("x", "1"), ("x", "2")], b"b")
    message = c.expect("MESSAGE")
    assert message["destination"] == queue and message["x"] == "1"


# -- acknowledgement ---------------------------------------------------------------------------
def ack(c, command, message, **headers):
    """ACK or NACK as the version of the connection has it."""
    which = {"id": message["ack"]} if c.version == "1.2" else {"message-id": message["message-id"]}
    if c.version == "1.1":
        which["subscription"] = message["subscription"]
    c.send(command, {**which, **headers})


@each_version
def test_client_individual_settles_one(stomp, unique, version):
    queue = f"/queue/{unique('q')}"
    c = stomp(version).subscribe(queue, ack="client-individual")
    for body in (b"1", b"2", b"3"):
        c.send("SEND", {"destination": queue}, body)
    got = [c.expect("MESSAGE") for _ in range(3)]
    ack(c, "ACK", got[1], receipt="done")
    c.receipt()
    c.close()
    again = stomp(version).subscribe(queue, ack="client")
    back = [again.expect("MESSAGE") for _ in range(2)]
    assert [m.body for m in back] == [b"1", b"3"]
    assert all(m["redelivered"] == "true" for m in back)


@each_version
def test_client_settles_all_up_to_one(stomp, unique, version):
    queue = f"/queue/{unique('q')}"
    c = stomp(version).subscribe(queue, ack="client")
    for body in (b"1", b"2", b"3"):
        c.send("SEND", {"destination": queue}, body)
    got = [c.expect("MESSAGE") for _ in range(3)]
    ack(c, "ACK", got[1], receipt="done")
    c.receipt()
    c.close()
    again = stomp(version).subscribe(queue)
    assert again.expect("MESSAGE").body == b"3"
    again.idle()


def test_only_1_2_has_the_header_ack(stomp, unique, on_rabbitmq):
    for version in VERSIONS:
        queue = f"/queue/{unique('q')}"
        c = stomp(version).subscribe(queue, ack="client")
        c.send("SEND", {"destination": queue, **({} if on_rabbitmq else {"ack": "forged"})}, b"x")
        message = c.expect("MESSAGE")
        assert ("ack" in message) == (version == "1.2")
        assert message.get("ack") != "forged"


def test_nack_requeues(stomp, unique):
    queue = f"/queue/{unique('q')}"
    c = stomp().subscribe(queue, ack="client-individual")
    c.send("SEND", {"destination": queue}, b"x")
    first = c.expect("MESSAGE")
    assert first["redelivered"] == "false"
    ack(c, "NACK", first)
    second = c.expect("MESSAGE")
    assert second["redelivered"] == "true" and second.body == b"x"


def test_nack_without_requeue_drops(stomp, unique):
    queue = f"/queue/{unique('q')}"
    c = stomp().subscribe(queue, ack="client-individual")
    c.send("SEND", {"destination": queue}, b"x")
    ack(c, "NACK", c.expect("MESSAGE"), requeue="false", receipt="n")
    c.receipt()
    c.idle()


def test_prefetch_count_bounds_what_waits(stomp, unique):
    queue = f"/queue/{unique('q')}"
    c = stomp().subscribe(queue, ack="client-individual", prefetch_count="2")
    for n in range(4):
        c.send("SEND", {"destination": queue}, b"%d" % n)
    first, second = c.expect("MESSAGE"), c.expect("MESSAGE")
    c.idle()
    ack(c, "ACK", first)
    assert c.expect("MESSAGE").body == b"2"
    ack(c, "ACK", second)
    assert c.expect("MESSAGE").body == b"3"


@pytest.mark.parametrize("headers", [{"id": "no-such-message"}, {"id": "T_0@@session-1@@99"}, {}])
def test_ack_of_what_does_not_wait_is_an_error(stomp, unique, headers):
    c = stomp().subscribe(f"/queue/{unique('q')}", ack="client")
    c.send("ACK", {**headers, **({"receipt": "bad"} if c.error_ends else {})})
    assert c.error()["receipt-id"] == "bad"


def test_unsubscribe_ends_deliveries(stomp, unique):
    queue = f"/queue/{unique('q')}"
    c = stomp().subscribe(queue, "1")
    c.send("UNSUBSCRIBE", {"id": "1", "receipt": "u"})
    c.receipt()
    c.put(queue, b"kept")
    c.idle()
    assert c.subscribe(queue, "1").expect("MESSAGE").body == b"kept"


@pytest.mark.parametrize("end", ["UNSUBSCRIBE", "DISCONNECT", "vanish"])
def test_what_goes_back_keeps_its_order(stomp, unique, end, on_rabbitmq):
    """With another subscription that waits for it: that gets all, from the first to the last."""
    if on_rabbitmq and end == "UNSUBSCRIBE":
        pytest.skip("RabbitMQ keeps them until the connection ends")
    queue = f"/queue/{unique('q')}"
    c = stomp().subscribe(queue, "1", ack="client-individual")
    for n in range(20):
        c.put(queue, b"%d" % n)
    for _ in range(20):
        c.expect("MESSAGE")
    other = stomp().subscribe(queue)
    if end != "vanish":
        c.send(end, {"id": "1", "receipt": "r"})
        c.receipt()
    c.close()
    back = [other.expect("MESSAGE") for _ in range(20)]
    assert [int(m.body) for m in back] == list(range(20)) and {m["redelivered"] for m in back} == {"true"}


# -- transactions ------------------------------------------------------------------------------
def test_commit_sends_all_and_abort_none(stomp, unique):
    queue = f"/queue/{unique('q')}"
    c = stomp().subscribe(queue)
    for tx in ("a", "b"):
        c.send("BEGIN", {"transaction": tx})
        for n in range(3):
            c.send("SEND", {"destination": queue, "transaction": tx}, f"{tx}{n}".encode())
    c.send("ABORT", {"transaction": "a", "receipt": "r"})
    c.receipt()
    c.idle()
    c.send("COMMIT", {"transaction": "b"})
    assert [c.expect("MESSAGE").body for _ in range(3)] == [b"b0", b"b1", b"b2"]
    c.idle()


def test_an_ack_counts_when_it_is_committed(stomp, unique):
    queue = f"/queue/{unique('q')}"
    c = stomp().subscribe(queue, ack="client-individual")
    for body in (b"1", b"2"):
        c.send("SEND", {"destination": queue}, body)
    first, second = c.expect("MESSAGE"), c.expect("MESSAGE")
    c.send("BEGIN", {"transaction": "t"})
    ack(c, "ACK", first, transaction="t")
    c.send("COMMIT", {"transaction": "t", "receipt": "done"})
    c.receipt()
    c.send("BEGIN", {"transaction": "t"})
    ack(c, "ACK", second, transaction="t")
    c.send("ABORT", {"transaction": "t", "receipt": "done"})
    c.receipt()
    c.close()
    again = stomp().subscribe(queue)
    assert again.expect("MESSAGE").body == b"2"
    again.idle()


@pytest.mark.parametrize("command, headers", [
    ("COMMIT", {"transaction": "none"}), ("ABORT", {"transaction": "none"}), ("BEGIN", {}), ("COMMIT", {}),
    ("SEND", {"transaction": "none", "destination": "/queue/x"})])
def test_unknown_transactions_are_errors(stomp, command, headers):
    c = stomp()
    c.send(command, {**headers, "receipt": "r7"})
    error = c.error()
    assert error["receipt-id"] == "r7" and "transaction" in error["message"].lower()


# -- receipts, disconnect, heart-beats -----------------------------------------------------------
def test_every_frame_has_its_receipt_in_order(stomp, unique, on_rabbitmq):
    if on_rabbitmq:
        pytest.skip("RabbitMQ closes at DISCONNECT before every RECEIPT has left")
    queue = f"/queue/{unique('q')}"
    c = stomp()
    frames = [("SUBSCRIBE", {"destination": queue, "id": "1", "ack": "client"}),
              ("SEND", {"destination": queue, "persistent": "true"}), ("BEGIN", {"transaction": "t"}),
              ("SEND", {"destination": queue, "transaction": "t"}), ("COMMIT", {"transaction": "t"}),
              ("BEGIN", {"transaction": "t"}), ("ABORT", {"transaction": "t"}),
              ("UNSUBSCRIBE", {"id": "1"}), ("DISCONNECT", {})]
    for n, (command, headers) in enumerate(frames):
        c.send(command, {**headers, "receipt": f"r{n}"})
    got = []
    while len(got) < len(frames):
        frame = c.next()
        if frame.command == "RECEIPT":
            got.append(frame["receipt-id"])
        else:
            assert frame.command == "MESSAGE", frame
    assert got == [f"r{n}" for n in range(len(frames))]
    c.ended()


def test_nothing_behind_a_disconnect_is_handled(stomp, unique, on_rabbitmq):
    if on_rabbitmq:
        pytest.skip("RabbitMQ closes at DISCONNECT before every RECEIPT has left")
    queue, late = f"/queue/{unique('q')}", f"/queue/{unique('late')}"
    c = stomp()
    sends = b"".join(c.frame("SEND", {"destination": queue, "persistent": "true", "receipt": str(n)}, b"x") for n in range(50))
    c.raw(sends + c.frame("DISCONNECT", {"receipt": "bye"}) + 50 * c.frame("SEND", {"destination": late}, b"y"))
    assert [c.receipt()["receipt-id"] for _ in range(51)] == [str(n) for n in range(50)] + ["bye"]
    c.ended()
    stomp().subscribe(late).idle()


@each_version
@pytest.mark.parametrize("command", ["ACK", "NACK"])
def test_acks_have_receipts(stomp, unique, version, command):
    queue = f"/queue/{unique('q')}"
    c = stomp(version).subscribe(queue, ack="client-individual").put(queue, b"1").put(queue, b"2")
    for n, message in enumerate([c.expect("MESSAGE"), c.expect("MESSAGE")]):
        ack(c, command, message, receipt=f"r:{n}" if version != "1.0" else f"r{n}", requeue="false")
    assert [c.receipt()["receipt-id"].replace(":", "") for _ in range(2)] == ["r0", "r1"]


def test_a_wrong_length_is_not_made_right(stomp, unique):
    """content-length counts bytes, not letters; blanks around it are forgiven."""
    queue = f"/queue/{unique('q')}"
    c = stomp().subscribe(queue)
    c.raw(f"SEND\ndestination:{queue}\ncontent-length: 4 \n\ngr\u00fc\0\n\r\n\n".encode())
    c.raw(f"SEND\ndestination:{queue}\ncontent-length:0\n\n\0".encode())
    assert [c.expect("MESSAGE").body for _ in range(2)] == ["gr\u00fc".encode(), b""]


def test_heart_beats_go_both_ways(stomp):
    c = stomp(heart_beat="2000,2000")
    assert c.connected["heart-beat"] == "2000,2000"
    with pytest.raises(TimeoutError):
        c.next(2.8)
    assert c.beats >= 1
    c.ended()  # we are silent: the server loses patience


def test_no_heart_beats_unless_asked_for(stomp):
    assert stomp().connected["heart-beat"] == "0,0"


@pytest.mark.parametrize("command", ["SEND", "SUBSCRIBE", "ACK", "BEGIN", "NOTHING"])
def test_connect_comes_first(stomp, command):
    c = stomp(connect=False)
    c.send(command, {"destination": "/queue/x", "id": "1", "receipt": "z"})
    c.error()


def test_an_unknown_command_is_an_error(stomp):
    c = stomp()
    c.send("FOO", {"receipt": "z"})
    assert c.error()["message"] == "Bad command"
