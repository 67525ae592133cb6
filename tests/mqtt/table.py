"""Writes the table of normative statements and the tests that cover them into protocols/mqtt/mqtt.md, between its marks.

    python3 tests/mqtt/table.py            writes
    python3 tests/mqtt/table.py --check    fails when the file says something else
"""
import ast
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from statements import all_of, clients_of, not_here  # noqa: E402

PAGE = HERE.parents[1] / "protocols/mqtt/mqtt.md"
BEGIN, END = "<!-- statements: begin -->", "<!-- statements: end -->"


def literal(node, names):
    """The strings of an argument of covers(): a literal, or *[row[0] for row in NAME]."""
    if isinstance(node, ast.Constant):
        return [node.value]
    if isinstance(node, ast.Starred):
        rows = names[node.value.generators[0].iter.id]
        return [row.elts[0].value for row in rows.elts]
    raise ValueError(ast.dump(node))


def covered():
    """{statement: [test, ...]}"""
    found = {}
    for path in sorted(HERE.glob("test_*.py")):
        tree = ast.parse(path.read_text())
        names = {n.targets[0].id: n.value for n in tree.body
                 if isinstance(n, ast.Assign) and isinstance(n.targets[0], ast.Name)}
        for f in (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)):
            for d in f.decorator_list:
                if isinstance(d, ast.Call) and getattr(d.func, "id", "") == "covers":
                    for arg in d.args:
                        for statement in literal(arg, names):
                            found.setdefault(statement, set()).add(f.name)
    return found


def order(statement):
    return [int(n) for n in re.findall(r"\d+", statement)]


def open_ones(version, seen):
    return [s for s in all_of(version) if s not in seen and s not in clients_of(version) and s not in not_here(version)]


def table():
    found = covered()
    lines = []
    for version, title in (("3:", "3.1.1"), ("5:", "5.0")):
        rows = sorted((s for s in found if s.startswith(version)), key=order)
        lines += ["", f"**{title}**: {len(rows)} statements", "", "| statement | test |", "|---|---|"]
        lines += [f"| [{s[2:]}] | {', '.join(f'`{t}`' for t in sorted(found[s]))} |" for s in rows]
        seen = {s[2:] for s in rows}
        unknown = seen - set(all_of(version))
        assert not unknown, f"no such statement: {sorted(unknown)}"
        if open_ones(version, seen):
            lines += ["", f"Without a test of their own in {title} ({len(open_ones(version, seen))}): "
                      + ", ".join(f"[{s}]" for s in open_ones(version, seen)) + "."]
        lines += ["", "About what a server may leave out, and this one does not: "
                  + ", ".join(f"[{s}] ({why})" for s, why in not_here(version).items()) + ".", "",
                  f"The client's alone ({len(clients_of(version) - seen)}): "
                  + ", ".join(f"[{s}]" for s in all_of(version) if s in clients_of(version) - seen) + "."]
    return "\n".join(lines) + "\n"


def main():
    page = PAGE.read_text()
    head, rest = page.split(BEGIN)
    tail = rest.split(END)[1]
    wanted = f"{head}{BEGIN}\n{table()}\n{END}{tail}"
    if "--check" in sys.argv:
        sys.exit(f"{PAGE}: python3 tests/mqtt/table.py would change it" if page != wanted else 0)
    PAGE.write_text(wanted)


if __name__ == "__main__":
    main()
