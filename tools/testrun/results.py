"""The counts of a long run, appended to docs/results.md: numbers without date, commit and machine say little."""
import os
import platform
import subprocess
import time

HEAD = """# Results

What `./test --long` counted, newest last. Each run says when, on which commit, and on which machine.
"""


def machine():
    model = "unknown processor"
    try:
        with open("/proc/cpuinfo") as info:
            model = next(line.split(":", 1)[1].strip() for line in info if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {model}, {memory:.0f} GiB, Linux {platform.release()}"


def commit(root):
    def git(*argv):
        return subprocess.run(["git", "-C", root, *argv], capture_output=True, text=True).stdout.strip()
    changed = " with changes" if git("status", "--porcelain", "--untracked-files=no") else ""
    return (git("rev-parse", "--short", "HEAD") or "no commit") + changed


def append(root, rows, total, names):
    path = os.path.join(root, "docs", "results.md")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    fresh = not os.path.exists(path)
    with open(path, "a") as page:
        if fresh:
            page.write(HEAD)
        page.write(f"\n## {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}, {commit(root)}\n\n")
        page.write(f"{machine()}\n\n")
        if names:
            page.write("Only the suites that were named.\n\n")
        page.write("| suite | passed | failed | skipped | seconds |\n|---|---|---|---|---|\n")
        for name, result, seconds in rows:
            page.write(f"| {name} | {result.passed} | {len(result.failed)} | {len(result.skipped)} "
                       f"| {seconds:.0f} |\n")
        page.write(f"| **all** | {total.passed} | {len(total.failed)} | {len(total.skipped)} "
                   f"| {sum(row[2] for row in rows):.0f} |\n")
        for title, names in (("failed", total.failed), ("skipped", [f"{n} ({w})" for n, w in total.skipped])):
            if names:
                page.write(f"\n{title}:\n" + "".join(f"- {name}\n" for name in names))
