"""The suites of ./test: one row each, in the order in which they run.

A row says what runs, how long it may take, and whether it belongs to the short run. To add a suite, add a
row. The kinds of suites (meson, pytest_folder, command, build_only) are in kinds.py.
"""
from kinds import Suite, build_only, command, meson, pytest_folder

RELEASE = {}
ASAN = {"b_sanitize": "address,undefined", "faults": "true", "bench": "false", "optimization": "1"}
TSAN = {"b_sanitize": "thread", "bench": "false", "optimization": "1"}
CLANG = {"optimization": "0", "debug": "false"}
STATIC = {"static_modules": "true", "tests": "false", "bench": "false", "optimization": "0", "debug": "false"}

# The short run ends before this, whatever its suites would like.
TOTAL_LIMIT_S = 20 * 60

SUITES = [
    #     name         limit_s  what runs                                              in the short run too?
    Suite("release",       420, meson("build", RELEASE)),
    Suite("asan",          480, meson("build-asan", ASAN)),
    Suite("clang",         240, build_only("build-clang", CLANG, cc="clang")),
    Suite("lint",          240, command("tools/lint")),
    Suite("lint-test",      60, command("tools/lint_test")),
    Suite("tools",          60, pytest_folder("tools/testrun")),
    Suite("clients",       300, pytest_folder("tests/clients")),
    Suite("hostile",       240, pytest_folder("tests/hostile")),
    Suite("hostile-asan",  300, pytest_folder("tests/hostile", build="build-asan")),
    Suite("scenarios",     240, pytest_folder("tests/scenarios")),
    Suite("kill9",         180, command("/usr/bin/python3 tests/kill9 --rounds 10"), long=False),
    Suite("kill9-100",    1500, command("/usr/bin/python3 tests/kill9 --rounds 100"), short=False),
    Suite("static",        240, build_only("build-static", STATIC), short=False),
    Suite("tsan",          900, meson("build-tsan", TSAN), short=False),
    Suite("peers",        2400, command("tests/peers/run"), short=False),
]
