"""Runs one command in a process group of its own, with its output in a file, and ends it at its limit."""
import os
import signal
import subprocess
import time

GRACE_S = 10


def run_limited(argv, log, ctx, env=None):
    """The exit code, or None when the time limit came first. The limit shrinks by what was used."""
    started = time.monotonic()
    with open(log, "wb") as output:
        child = subprocess.Popen(argv, cwd=ctx.root, stdin=subprocess.DEVNULL, stdout=output,
                                 stderr=subprocess.STDOUT, start_new_session=True,
                                 env={**os.environ, **(env or {})})
    try:
        return child.wait(timeout=max(ctx.limit_s, 1))
    except subprocess.TimeoutExpired:
        return None
    finally:
        end_group(child)
        ctx.limit_s -= time.monotonic() - started


def end_group(child):
    """Ends what is left of the group: the command at its limit, or servers that a test forgot."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + GRACE_S
        try:
            os.killpg(child.pid, sign)
            while time.monotonic() < deadline:
                child.poll()
                os.killpg(child.pid, 0)
                time.sleep(0.02)
        except ProcessLookupError:
            return
