"""Runs the peers' own suites against RabbitMQ (librdkafka's: Apache Kafka) and against the gateway; prints one row per suite.

    python3 tests/peers [--broker reference,mqgate] [--list] [suite ...]

Each run has a network namespace of its own (the suites know only port 5672), a broker of its own in it, a scratch
folder and a time limit. Below a row stands what fails here and passes on the reference; then the exit code is 1.
The reference's results are kept in ~/.cache/mqgate/peers and used again with --reuse.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "lib")]

from mqtest import broker as brokers  # noqa: E402
from sources import PEERS, Unreachable, source_of  # noqa: E402
from rdkafka import Rdkafka  # noqa: E402
from suites import FAILED, PASSED, SKIPPED, Bunny, Kombu, Pika, PyAmqp, RabbitmqC, StompPy  # noqa: E402

SUITES = {suite.name: suite for suite in (Pika(), PyAmqp(), Kombu(), RabbitmqC(), Bunny(), StompPy(), Rdkafka())}
TITLES = {"rabbitmq": "RabbitMQ", "kafka": "Apache Kafka"}
MOST_NAMES = 40


def namespace_command():
    """Runs what follows in a network namespace of its own with loopback up; it is gone when that ends."""
    unshare = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--net"]
    return [*unshare, "--", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]


def run_inside(suite, broker_name, source, scratch):
    """In the namespace: broker, accounts, suite; the results go to a file."""
    source = suite.prepare(source, scratch)
    broker = suite.broker(broker_name, source)
    try:
        broker.start()
        suite.before(broker)
        broker.write_ctl_wrapper(scratch / "bin")
        env = {**os.environ, "PATH": f"{scratch / 'bin'}:{os.environ['PATH']}", "HOME": str(scratch)}
        results = suite.run(source, scratch, broker, env)
        note = "" if broker.alive() else "the broker died"
    except brokers.BrokerError as error:
        results, note = {"(broker)": FAILED}, str(error)[:2000]
    finally:
        shutil.copy(broker.log_path, scratch / "broker.log")
        broker.close()
    apart = {test: suite.reason_apart(test) for test in results if suite.reason_apart(test)}
    (scratch / "results.json").write_text(json.dumps({"results": results, "apart": apart, "note": note}))


def run_suite(suite, broker_name, source, keep_logs):
    """A run in a process and namespace of its own; returns (results, apart, note)."""
    scratch = Path(tempfile.mkdtemp(prefix=f"peers-{suite.name}-{broker_name}-"))
    command = [*namespace_command(), sys.executable, str(HERE), "--inside", suite.name, broker_name, str(source),
               str(scratch)]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=suite.limit_s * 2 + 120)
        got = json.loads((scratch / "results.json").read_text())
        return got["results"], got["apart"], got["note"]
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        output = "" if isinstance(error, subprocess.TimeoutExpired) else done.stdout[-2000:]
        return {"(run)": FAILED}, {}, f"{error!r} {output}"
    finally:
        if keep_logs:
            print(f"  logs: {scratch}")
        else:
            shutil.rmtree(scratch, ignore_errors=True)


def counts(results, apart):
    count = Counter(outcome for test, outcome in results.items() if test not in apart)
    return f"{count[PASSED]}/{count[FAILED]}/{count[SKIPPED]}"


def kept_results(suite, fresh=None):
    """The reference's results of this version of the suite, from an earlier run, or written by this one."""
    path = PEERS / f"{suite.reference}-{suite.package}_{suite.version}.json"
    if fresh is not None:
        path.write_text(json.dumps(fresh))
    return tuple(json.loads(path.read_text())) if path.exists() else None


def judge(suite, source, args):
    """All runs of one suite: the row, and the names that fail here only."""
    runs = {}
    for name in args.brokers:
        kept = kept_results(suite) if name == "reference" and args.reuse else None
        which = suite.reference if name == "reference" else name
        runs[name] = kept or run_suite(suite, which, source, args.logs)
        if name == "reference" and not kept:
            kept_results(suite, runs[name])
    row = [suite.name, suite.version] + [counts(*runs[name][:2]) if name in runs else "-"
                                        for name in ("reference", "mqgate")]
    notes = [f"  {name}: {run[2]}" for name, run in runs.items() if run[2]]
    apart = next(iter(runs.values()))[1]
    for why in sorted(set(apart.values())):
        names = sorted(test for test in apart if apart[test] == why)
        notes.append(f"  apart ({len(names)}), {why}: {', '.join(names)}")
    ours, theirs = (runs.get(name, ({}, {}, ""))[0] for name in ("mqgate", "reference"))
    only_here = sorted(test for test, outcome in theirs.items() if test not in apart
                       and outcome == PASSED and "mqgate" in runs and ours.get(test, FAILED) != PASSED)
    both = sorted(test for test, outcome in theirs.items() if outcome == FAILED and test not in apart)
    notes += [f"  fails on {TITLES[suite.reference]}{' too' if ours.get(test) == FAILED else ''}: {test}" for test in both]
    return row, notes, only_here


def missing_reason(suite, args):
    """The suite's own reason includes its reference's, where that is not RabbitMQ."""
    reasons = [brokers.Gateway.missing] * ("mqgate" in args.brokers)
    reasons += [brokers.RabbitMQ.missing] * ("reference" in args.brokers and suite.reference == "rabbitmq")
    return next((why for reason in [*reasons, suite.missing] if (why := reason())), "")


def main():
    parser = argparse.ArgumentParser(prog="tests/peers", description="the peers' own suites, the reference's counts beside ours")
    parser.add_argument("suites", nargs="*", metavar="suite", help=f"of: {' '.join(SUITES)}")
    parser.add_argument("--broker", default="reference,mqgate", help="one or both (default)")
    parser.add_argument("--reuse", action="store_true", help="take the reference's results from an earlier run")
    parser.add_argument("--logs", action="store_true", help="keep each run's logs and say where they are")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--inside", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        name, broker_name, source, scratch = args.inside
        run_inside(SUITES[name], broker_name, Path(source), Path(scratch))
        return 0
    if args.list:
        print("\n".join(SUITES))
        return 0
    args.brokers = args.broker.split(",")
    unknown = [name for name in args.suites if name not in SUITES] + [b for b in args.brokers if b not in ("reference", "mqgate")]
    if unknown:
        parser.error(f"unknown: {' '.join(unknown)}")
    print(f"{'suite':<12} {'version':<18} {'reference p/f/s':<16} mqgate p/f/s")
    bad, skipped, ran = [], 0, 0
    for name in args.suites or SUITES:
        suite = SUITES[name]
        try:
            why = missing_reason(suite, args)
            if why:
                raise Unreachable(why)
            source = source_of(suite.name, suite.package, suite.version, suite.pypi)
        except Unreachable as why:
            skipped += 1
            print(f"{suite.name:<12} {suite.version:<18} skipped: {why}", flush=True)
            continue
        ran += 1
        row, notes, only_here = judge(suite, source, args)
        print(f"{row[0]:<12} {row[1]:<18} {row[2]:<16} {row[3]}", flush=True)
        print("".join(note + "\n" for note in notes), end="", flush=True)
        bad += [suite.name] if only_here else []
        print("".join(f"  fails here and passes on {TITLES[suite.reference]}: {test}\n" for test in only_here[:MOST_NAMES]), end="")
        if len(only_here) > MOST_NAMES:
            print(f"  ... and {len(only_here) - MOST_NAMES} more of {suite.name}")
    print(f"{ran - len(bad)} passed, {len(bad)} failed, {skipped} skipped")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
