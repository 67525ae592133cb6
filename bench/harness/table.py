"""Medians, ratios and verdicts. A verdict is a statement, never a failure: speed is not asserted."""

from statistics import median

from .works import OURS

GENERATOR_BOUND = 0.9  # of its core


def quantile(values, fraction):
    values = sorted(values)
    return values[min(len(values) - 1, int(fraction * len(values)))]


def _values(results, key):
    return [r[key] for r in results if "failed" not in r and key in r]


def _latency(results, key):
    return [r["confirm"][key] for r in results if "confirm" in r]


def summarize(results):
    """One contender's repetitions as medians."""
    good = [r for r in results if "failed" not in r]
    summary = {"runs": len(results), "failed": [r["failed"] for r in results if "failed" in r],
               "correct": all(r["correct"] for r in good)}
    for key in ("rate", "cpu_us", "disk_ratio", "rss_kib", "rss_mib"):
        if values := _values(good, key):
            summary[key] = median(values)
            summary[key + "_all"] = values
    for key in ("p50_us", "p99_us"):
        if values := _latency(good, key):
            summary[key] = median(values)
    if good and "own_cpu_s" in good[0]:
        summary["generator"] = median(r["own_cpu_s"] / r["seconds"] for r in good)
    return summary


def best_of(summaries):
    """Of variants of one contender the one with the lower CPU; None if none ran."""
    ran = [s for s in summaries if "cpu_us" in s]
    return min(ran, key=lambda s: s["cpu_us"]) if ran else None


def describe(target):
    return _describe(target) + (f" ({target.ours})" if target.ours != OURS else "")


def _describe(target):
    return {
        "cpu_ratio": f"CPU <= {target.peer} / {target.value:g}",
        "rate_ratio": f"rate >= {target.value:g}x {target.peer}",
        "p99_ratio": f"p99 <= {target.peer} / {target.value:g}",
        "memory_ratio": f"memory <= {target.peer} / {target.value:g}",
        "cpu_us": f"CPU <= {target.value:g} us",
        "p99_over_fdatasync_us": f"p99 <= fdatasync's p99 + {target.value:g} us",
        "disk_ratio": f"disk <= {target.value:g}x bodies",
        "rss_kib": f"<= {target.value:g} KiB each",
        "rate": f">= {target.value:g}/s",
    }[target.kind]


def judge(target, ours, peer, fdatasync_p99_us):
    """(what was got, whether the target is met, or why that cannot be said)."""
    if ours is None:
        return "", "mqgate did not run"
    if target.peer and peer is None:
        return "", f"{target.peer} did not run"
    if target.kind == "cpu_ratio":
        got = peer["cpu_us"] / ours["cpu_us"] if ours["cpu_us"] else float("inf")
        return f"/ {got:.1f}", got >= target.value
    if target.kind == "memory_ratio":
        got = peer["rss_mib"] / ours["rss_mib"]
        return f"/ {got:.1f}", got >= target.value
    if target.kind == "p99_ratio":
        got = peer["p99_us"] / ours["p99_us"]
        return f"/ {got:.1f}", got >= target.value
    if target.kind == "rate_ratio":
        got = ours["rate"] / peer["rate"]
        return f"{got:.1f}x", got >= target.value
    if target.kind == "rate":
        return f"{ours['rate']:.0f}/s", ours["rate"] >= target.value
    if target.kind == "p99_over_fdatasync_us":
        over = ours["p99_us"] - fdatasync_p99_us
        return f"{over:+.0f} us", over <= target.value
    return f"{ours[target.kind]:.2f}", ours[target.kind] <= target.value


def _verdict(value):
    return {True: "met", False: "MISSED"}.get(value, value)


def cpu_digits(summary):
    return 2 if summary["cpu_us"] >= 0.5 else 3


def _cells(entry, summary):
    cells = ["", "", ""]
    if "generator" in summary:
        cells = [f"{summary['rate']:,.0f}/s", f"{summary['cpu_us']:.{cpu_digits(summary)}f} us",
                 f"{100 * summary['generator']:.0f}%"]
    extra = []
    if "p50_us" in summary:
        extra.append(f"p50 {summary['p50_us']:.0f} p99 {summary['p99_us']:.0f} us")
    if summary.get("disk_ratio", 0) > 0.005:
        extra.append(f"disk {summary['disk_ratio']:.2f}x bodies")
    if "rss_kib" in summary:
        extra.append(f"{summary['rss_kib']:.1f} KiB each")
    if "rss_mib" in summary:
        extra.append(f"RSS {summary['rss_mib']:.0f} MiB")
    if summary.get("generator", 0) > GENERATOR_BOUND:
        extra.append("generator-bound")
    if not summary["correct"]:
        extra.append("COUNTS OR CHECKSUMS WRONG")
    if summary["failed"]:
        extra.append(f"{len(summary['failed'])} of {summary['runs']} failed")
    return [entry.name, entry.promise, *cells, ", ".join(extra)]


class Report:
    """Everything a session found, printed or as data."""

    def __init__(self, session):
        self.session = session
        self.columns = {name: self._column(name) for name in session.results}

    def _column(self, name):
        times = self.session.fdatasync_us[name]
        column = {"fdatasync_p50_us": quantile(times, 0.5), "fdatasync_p99_us": quantile(times, 0.99),
                  "fdatasync_cpu_us": median(self.session.fdatasync_cpu_us[name]), "rows": []}
        for row in self.session.rows:
            found = self.session.results[name].get(row.name, {})
            summaries = {key: summarize(results) for key, results in found.items()}
            names = {key[0] for key in summaries}
            named = {n: best_of([s for key, s in summaries.items() if key[0] == n]) for n in names}
            verdicts = [(t, *judge(t, named.get(t.ours), named.get(t.peer), column["fdatasync_p99_us"]))
                        for t in row.targets]
            column["rows"].append((row, summaries, verdicts))
        return column

    def is_correct(self):
        """No count, order or checksum was wrong, and nothing failed."""
        rows = [row for column in self.columns.values() for row in column["rows"]]
        found = [summary for _, summaries, _ in rows for summary in summaries.values()]
        return all(s["correct"] and not s["failed"] for s in found)

    def print(self, out):
        for line in self.session.about + self.session.notes:
            print(f"# {line}", file=out)
        for name, column in self.columns.items():
            where = "server and generator on a core each; this one gates" if name == "pinned" else "free on all cores"
            print(f"\n== {name}: {where}; bare 4 KiB fdatasync p50 {column['fdatasync_p50_us']:.0f} us, "
                  f"p99 {column['fdatasync_p99_us']:.0f} us, CPU {column['fdatasync_cpu_us']:.0f} us ==", file=out)
            for row, summaries, verdicts in column["rows"]:
                self._print_row(row, summaries, verdicts, out)

    @staticmethod
    def _print_row(row, summaries, verdicts, out):
        print(f"\n{row.work}  {row.name}  (CPU per {row.unit})", file=out)
        lines = [("", "promise", "rate", "server CPU", "generator", "")]
        for entry in row.entries:
            summary = summaries.get((entry.name, entry.server))
            if summary is None:
                continue
            if "rate" not in summary:
                print(f"    {entry.name}: FAILED: {summary['failed'][0]}", file=out)
                continue
            lines.append(_cells(entry, summary))
        for cells in lines if len(lines) > 1 else []:
            name, promise, rate, cpu, generator, extra = cells
            print(f"    {name:<20} {promise:<11} {rate:>14} {cpu:>11} {generator:>10}  {extra}".rstrip(), file=out)
        for target, got, verdict in verdicts:
            print(f"    target {target.stage:<6} {describe(target):<38} {got:>10}  {_verdict(verdict)}", file=out)

    def data(self):
        columns = {}
        for name, column in self.columns.items():
            rows = [{"work": row.work, "name": row.name, "unit": row.unit,
                     "entries": [{"name": e.name, "server": e.server, "promise": e.promise,
                                  **summaries[e.name, e.server]}
                                 for e in row.entries if (e.name, e.server) in summaries],
                     "targets": [{"stage": t.stage, "text": describe(t), "got": got, "verdict": _verdict(v)}
                                 for t, got, v in verdicts]}
                    for row, summaries, verdicts in column["rows"]]
            columns[name] = {**column, "rows": rows}
        return {"about": self.session.about, "notes": self.session.notes, "columns": columns}
