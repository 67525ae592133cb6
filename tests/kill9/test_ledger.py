"""The ledger itself must be able to say no."""
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from ledger import DEAD, QUEUES, REJECT, STREAM, Ledger, body_of, message_of, route  # noqa: E402

A, B, C = (1, 1, 3), (1, 1, 10), (1, 1, 17)   # three messages of one publisher to one queue
QUEUE = route(1, 3)[2][0]


@pytest.fixture
def ledger():
    made = Ledger()
    made.published[1, 1] = 20
    for message in (A, B, C):
        assert route(*message[1:])[2] == (QUEUE,)
        made.confirm(message)
    return made


def test_all_there(ledger):
    ledger.check_queue(QUEUE, [A, B, C])
    assert ledger.violations == 0


@pytest.mark.parametrize("content,kind", [([A, C], "lost"), ([], "lost"), ([A, B, B, C], "twice"), ([B, A, C], "disorder")])
def test_wrong_content(ledger, content, kind):
    ledger.check_queue(QUEUE, content)
    assert getattr(ledger, kind) > 0 and ledger.notes


def test_acked_may_be_gone_or_not(ledger):
    ledger.settle(QUEUE, B)
    ledger.check_queue(QUEUE, [A, C])
    ledger.check_queue(QUEUE, [A, B, C])
    assert ledger.violations == 0


def test_ack_before_the_confirm(ledger):
    late = (1, 1, 24)
    ledger.settle(QUEUE, late)
    ledger.confirm(late)
    ledger.check_queue(QUEUE, [A, B, C])
    assert ledger.violations == 0


@pytest.mark.parametrize("mark,bad", [(True, 0), (False, 1)])
def test_seen_again(ledger, mark, bad):
    assert ledger.see(QUEUE, body_of(A), False) == A
    ledger.see(QUEUE, body_of(A), mark)
    assert ledger.dup_unmarked == bad


@pytest.mark.parametrize("body", [b"", b"1.1.3", b"x.y.z ", body_of(A)[:-1], body_of(A) + b"x", body_of((1, 1, 500)),
                                  body_of((2, 1, 3))])
def test_foreign(ledger, body):
    assert ledger.see(QUEUE, body, False) is None and ledger.foreign == 1


def test_message_in_a_queue_it_was_not_sent_to(ledger):
    other = next(queue for queue in QUEUES if queue != QUEUE)
    assert ledger.see(other, body_of(A), False) is None and ledger.foreign == 1


def test_what_a_reader_was_shown_stays():
    made = Ledger()
    made.published[1, 1] = 20
    shown = next((1, 1, tag) for tag in range(1, 20) if STREAM in route(1, tag)[2])
    assert made.show(body_of(shown)) == shown
    made.check_queue(STREAM, [shown])
    assert made.violations == 0
    made.check_queue(STREAM, [])
    assert made.lost == 1
    made.forget_stream()
    made.check_queue(STREAM, [])
    assert made.lost == 1


def test_bodies_name_their_message():
    for message in (A, (7, 3, 211), (12, 0, 1)):
        assert message_of(body_of(message)) == message


@pytest.mark.parametrize("here,dead,kind", [(True, False, None), (False, True, None), (False, False, "lost"),
                                            (True, True, "twice")])
def test_rejected_is_in_one_of_two(ledger, here, dead, kind):
    message = next((1, 1, tag) for tag in range(1, 20) if REJECT in route(1, tag)[2])
    ledger.confirm(message)
    ledger.reject(message)
    assert ledger.see(DEAD, body_of(message), False) == message
    ledger.check_dead([message] if here else [], [message] if dead else [])
    assert ledger.violations == (kind is not None) and (kind is None or getattr(ledger, kind) == 1)


def test_dead_without_a_reject(ledger):
    message = next((1, 1, tag) for tag in range(1, 20) if REJECT in route(1, tag)[2])
    assert ledger.see(DEAD, body_of(message), False) is None and ledger.foreign == 1
