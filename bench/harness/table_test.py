#!/usr/bin/python3
"""Medians and verdicts on made-up results."""

import io
import sys
import unittest
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness import table, works  # noqa: E402


def result(cpu_us, rate, **more):
    return {"cpu_us": cpu_us, "rate": rate, "correct": True, "own_cpu_s": 1.0, "seconds": 2.0, **more}


ROW = works.Row("W1", "row", "message", (), works.TRANSIENT,
                (works.Target("now", "cpu_ratio", 10, works.CLASSIC),
                 works.Target("now", "rate_ratio", 4, works.CLASSIC),
                 works.Target("final", "cpu_us", 0.7)))


def report(ours, *variants):
    results = {("mqgate", "mqgate"): ours} if ours else {}
    for server, found in zip(("rabbitmq", "rabbitmq_nowait"), variants):
        results[works.CLASSIC, server] = found
    return table.Report(SimpleNamespace(results={"pinned": {"row": results}}, rows=[ROW], about=[], notes=[],
                                        fdatasync_us={"pinned": [100.0, 200.0]},
                                        fdatasync_cpu_us={"pinned": [40.0]}))


def verdicts(found):
    [(_, _, judged)] = found.columns["pinned"]["rows"]
    return [verdict for _, _, verdict in judged]


class Table(unittest.TestCase):
    def test_medians_decide(self):
        found = report([result(1.0, 100), result(0.5, 400), result(0.6, 300)], [result(6.1, 75)])
        self.assertEqual(verdicts(found), [True, True, True])

    def test_a_miss_is_a_miss(self):
        found = report([result(0.8, 100)], [result(7.9, 26)])
        self.assertEqual(verdicts(found), [False, False, False])

    def test_lower_cpu_of_the_variants_is_taken(self):
        found = report([result(0.7, 100)], [result(20, 10)], [result(6, 10)])
        self.assertEqual(verdicts(found), [False, True, True])

    def test_who_did_not_run_is_named(self):
        self.assertEqual(verdicts(report([result(1, 1)])), [f"{works.CLASSIC} did not run"] * 2 + [False])
        self.assertEqual(verdicts(report(None, [result(1, 1)])), ["mqgate did not run"] * 3)

    def test_loss_and_failure_are_not_correct(self):
        self.assertTrue(report([result(1, 1)]).is_correct())
        self.assertFalse(report([result(1, 1), dict(result(1, 1), correct=False)]).is_correct())
        self.assertFalse(report([result(1, 1), {"failed": "it died"}]).is_correct())

    def test_failure_is_printed(self):
        out = io.StringIO()
        report([{"failed": "it died"}], [result(1, 1)]).print(out)
        self.assertIn("mqgate: FAILED: it died", out.getvalue())

    def test_each_target_of_the_bench_can_be_judged(self):
        ours = {"cpu_us": 1, "rate": 1, "p99_us": 1, "disk_ratio": 1, "rss_kib": 1}
        for row in works.AMQP:
            for target in row.targets:
                self.assertIn(table.judge(target, ours, dict(ours), 1.0)[1], (True, False))
                self.assertTrue(table.describe(target))


if __name__ == "__main__":
    unittest.main()
