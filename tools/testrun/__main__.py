"""./test, after the packages: runs the suites one by one and counts.

It never stops at the first failure: a red suite tells more beside the others. It ends with exactly one
summary line, and with 0 only if something passed and nothing failed.
"""
import argparse
import os
import shutil
import sys
import time

import results
from kinds import Context, Result
from suites import SUITES, TOTAL_LIMIT_S

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NAMED_FAILURES = 30
OUTPUT = os.path.join(ROOT, "build", "test-results")


def choose(names, long):
    if names:
        unknown = set(names) - {suite.name for suite in SUITES}
        if unknown:
            sys.exit(f"no suite {', '.join(sorted(unknown))}; there are: "
                     + " ".join(suite.name for suite in SUITES))
        return [suite for suite in SUITES if suite.name in names]
    return [suite for suite in SUITES if (suite.long if long else suite.short)]


def run_suite(suite, left_s, long):
    folder = os.path.join(OUTPUT, suite.name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    if left_s < 1:
        return Result(failed=[f"{suite.name}: no time left of the {TOTAL_LIMIT_S} s for all"])
    return suite.run(Context(ROOT, folder, min(suite.limit_s, left_s), long))


def report(name, result, seconds):
    print(f"{name:<12} {result.passed:5} passed {len(result.failed):4} failed {len(result.skipped):4} skipped "
          f"{seconds:7.1f} s", flush=True)


def main():
    parser = argparse.ArgumentParser(prog="./test", description="Runs mqgate's tests.")
    parser.add_argument("--long", action="store_true", help="the long suites too; counts go to docs/results.md")
    parser.add_argument("--list", action="store_true", help="name the suites and stop")
    parser.add_argument("names", nargs="*", metavar="suite")
    args = parser.parse_args()
    suites = choose(args.names, args.long)
    if args.list:
        print("\n".join(suite.name for suite in suites))
        return 0
    os.chdir(ROOT)
    started = time.monotonic()
    total, rows = Result(), []
    for suite in suites:
        left_s = float("inf") if args.long else TOTAL_LIMIT_S - (time.monotonic() - started)
        suite_started = time.monotonic()
        print(f"== {suite.name}", flush=True)
        result = run_suite(suite, left_s, args.long)
        rows.append((suite.name, result, time.monotonic() - suite_started))
        report(*rows[-1])
        result.failed = [f"{suite.name}: {name}" for name in result.failed]
        result.skipped = [(f"{suite.name}: {name}", reason) for name, reason in result.skipped]
        total.add(result)
    return summary(rows, total, time.monotonic() - started, args)


def summary(rows, total, seconds, args):
    print(f"\nsuites, {seconds:.0f} s:")
    for row in rows:
        report(*row)
    for name, result, _ in rows:
        for case in result.failed[:NAMED_FAILURES]:
            print(f"FAILED  {case}")
        if len(result.failed) > NAMED_FAILURES:
            print(f"FAILED  {name}: and {len(result.failed) - NAMED_FAILURES} more, see build/test-results/{name}/")
    for name, reason in total.skipped:
        print(f"SKIPPED {name}: {reason}")
    if args.long:
        results.append(ROOT, rows, total, args.names)
    print(f"{total.passed} passed, {len(total.failed)} failed, {len(total.skipped)} skipped", flush=True)
    return 0 if total.passed and not total.failed else 1


if __name__ == "__main__":
    sys.exit(main())
