"""Kinds of suites: each is a function that makes a function, from a run's context to its Result.

A kind never raises for a failing test: what goes wrong is a failed case with a name, so that a suite that
could not even be built is counted, and the run goes on to the next one.
"""
import json
import os
import re
import shlex
import xml.etree.ElementTree as xml
from dataclasses import dataclass, field
from typing import Callable

from process import run_limited

SUMMARY_LINE = re.compile(r"^(\d+) passed, (\d+) failed, (\d+) skipped\b")
PYTHON = "/usr/bin/python3"
TAIL_LINES = 60


@dataclass
class Result:
    passed: int = 0
    failed: list = field(default_factory=list)   # names
    skipped: list = field(default_factory=list)  # (name, reason)

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped


@dataclass
class Build:
    """A build folder and what makes it different; brought up to date by the suites that stand on it."""
    folder: str
    options: dict = field(default_factory=dict)
    cc: str = None

    def environment(self):
        """What a test needs to find these binaries; they find their modules beside them."""
        return {"MQGATE_BUILD": self.folder, "TSAN_OPTIONS": "halt_on_error=1 second_deadlock_stack=1"}

    def patience(self):
        """How much longer than usual a test may take here."""
        return {"address,undefined": 2, "thread": 5}.get(self.options.get("b_sanitize"), 1)


@dataclass
class Suite:
    name: str
    limit_s: int
    run: Callable
    short: bool = True
    long: bool = True


@dataclass
class Context:
    """What a running suite gets: where it leaves its files, until when it may run, which run this is."""
    root: str
    folder: str
    limit_s: float
    long: bool

    def path(self, name):
        return os.path.join(self.folder, name)

    def here(self, name):
        return os.path.exists(os.path.join(self.root, name))


def tail(path, lines=TAIL_LINES):
    try:
        with open(path, errors="replace") as log:
            return "".join("    " + line for line in log.readlines()[-lines:])
    except OSError as error:
        return f"    (no log: {error})\n"


def complaints(path):
    """What a compiler or linker said; a build that goes on after errors leaves them anywhere in its log."""
    with open(path, errors="replace") as log:
        lines = [line for line in log if re.search(r"\b(ERROR|error|warning|undefined reference)\b|^FAILED", line)]
    return "".join("    " + line[:300].rstrip() + "\n" for line in lines[:TAIL_LINES])


def failed(name, log):
    print(f"  FAILED {name}\n{complaints(log) or tail(log)}", flush=True)
    return Result(failed=[name])


def _step(ctx, name, argv, env=None):
    """One command of a suite; None when it went well, else the Result to give up with."""
    log = ctx.path(name + ".log")
    outcome = run_limited(argv, log, ctx, env)
    return None if outcome == 0 else failed(f"{name}: {outcome_text(outcome)}", log)


def outcome_text(outcome):
    return "time limit" if outcome is None else f"exit code {outcome}"


# --- meson ---------------------------------------------------------------------------------------------
def bring_up(ctx, build):
    """Configures the folder, or brings an old one to these options, and builds; None when it went well."""
    if build is None:
        return None
    argv = [f"-D{key}={value}" for key, value in {"tests": "true", **build.options}.items()]
    verb = "configure" if ctx.here(os.path.join(build.folder, "build.ninja")) else "setup"
    return (_step(ctx, "setup", ["meson", verb, build.folder, *argv], {"CC": build.cc} if build.cc else None)
            or _step(ctx, "build", ["ninja", "-k0", "-C", build.folder]))


def build_only(build):
    """Compiles everything; warnings are errors. Counts as one test."""
    def run(ctx):
        return bring_up(ctx, build) or Result(passed=1)
    return run


def meson(build):
    """Builds, then runs every test that the build knows; those of the suite 'long' in the long run only."""
    def run(ctx):
        bad = bring_up(ctx, build)
        return bad or meson_test(ctx, build)
    return run


def meson_test(ctx, build):
    argv = ["meson", "test", "-C", build.folder, "--no-rebuild", "--print-errorlogs", f"-t{build.patience()}"]
    argv += [] if ctx.long else ["--no-suite", "long"]
    log = ctx.path("test.log")
    records = os.path.join(ctx.root, build.folder, "meson-logs", "testlog.json")
    if os.path.exists(records):
        os.unlink(records)
    result = judge(run_limited(argv, log, ctx), "meson test", log, read_meson_log, records)
    if result.passed == 0 and not result.failed:
        result.failed.append("no tests")
    return result


def judge(outcome, name, log, read, source):
    """The counts that read() finds, with a failure added where the exit code tells of one that they do not."""
    result = read(source)
    if outcome != 0:
        print(tail(log), flush=True)
        if not result.failed:
            result.failed.append(f"{name}: {outcome_text(outcome)}")
    return result


def read_meson_log(path):
    result = Result()
    try:
        with open(path) as lines:
            for line in lines:
                row = json.loads(line)
                if row["result"] in ("OK", "EXPECTEDFAIL"):
                    result.passed += 1
                elif row["result"] == "SKIP":
                    result.skipped.append((row["name"], last_words(row)))
                else:
                    result.failed.append(f"{row['name']}: {row['result']}")
    except OSError:
        pass
    return result


def last_words(row):
    words = (row.get("stderr") or row.get("stdout") or "").strip().splitlines()
    return words[-1] if words else "it gave no reason"


# --- pytest --------------------------------------------------------------------------------------------
def pytest_folder(folder, on=None, never_long=False):
    """The tests of a folder, with the binaries of a build in MQGATE_BUILD."""
    def run(ctx):
        if not ctx.here(folder):
            return missing(folder)
        bad = bring_up(ctx, on)
        if bad:
            return bad
        junit, log = ctx.path("junit.xml"), ctx.path("test.log")
        argv = [PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={junit}",
                "--durations=5", "--timeout=120", *(["-m", "not long"] if never_long or not ctx.long else []), folder]
        outcome = run_limited(argv, log, ctx, on and on.environment())
        return judge(outcome, f"pytest {folder}", log, read_junit, junit)
    return run


def read_junit(path):
    result = Result()
    try:
        cases = xml.parse(path).iter("testcase")
    except (OSError, xml.ParseError):
        return result
    for case in cases:
        name = f"{case.get('classname')}::{case.get('name')}"
        skip = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            result.failed.append(name)
        elif skip is not None:
            result.skipped.append((name, skip.get("message") or "it gave no reason"))
        else:
            result.passed += 1
    return result


# --- commands ------------------------------------------------------------------------------------------
def missing(path):
    return Result(failed=[f"{path} is not there"])


def command(line, on=None):
    """A program. Its exit code counts as one test, or its last line 'N passed, N failed, N skipped' does."""
    def run(ctx):
        argv = shlex.split(line)
        program = argv[1] if argv[0] == PYTHON else argv[0]
        if not ctx.here(program):
            return missing(program)
        bad = bring_up(ctx, on)
        if bad:
            return bad
        log = ctx.path("test.log")
        outcome = run_limited(argv, log, ctx, on and on.environment())
        result = judge(outcome, line, log, lambda path: read_summary(path, line), log)
        if not result.passed and not result.failed and not result.skipped:
            result.passed = 1
        return result
    return run


def read_summary(log, name):
    with open(log, errors="replace") as text:
        lines = [line for line in text.read().splitlines() if line.strip()]
    match = SUMMARY_LINE.match(lines[-1]) if lines else None
    if not match:
        return Result()
    passed, bad, skipped = (int(group) for group in match.groups())
    reasons = [line for line in lines if re.search(r"^SKIPPED |\bskipped: ", line)]
    reasons += ["it gave no reason"] * (skipped - len(reasons))
    return Result(passed, [f"{name}: one of its tests"] * bad, [(name, why) for why in reasons[:skipped]])
