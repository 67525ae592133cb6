"""The runner counts for everybody else, so that its own mistakes would be nobody's: every way to fail is tried."""
import os
import sys
import time

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import kinds  # noqa: E402  (the path comes first)


def context(tmp_path, limit_s=50):
    folder = tmp_path / "results"
    folder.mkdir(exist_ok=True)
    return kinds.Context(str(tmp_path), str(folder), limit_s, False)


def script(tmp_path, text):
    path = tmp_path / "program"
    path.write_text("#!/bin/sh\n" + text + "\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("text, passed, failed, skipped", [
    ("true", 1, 0, 0),
    ("false", 0, 1, 0),
    ("echo '3 passed, 0 failed, 0 skipped'", 3, 0, 0),
    ("echo '3 passed, 2 failed, 0 skipped'; exit 1", 3, 2, 0),
    ("echo '3 passed, 0 failed, 0 skipped'; exit 1", 3, 1, 0),
    ("echo 'SKIPPED why not'; echo '1 passed, 0 failed, 1 skipped'", 1, 0, 1),
    ("echo '0 passed, 0 failed, 2 skipped'", 0, 0, 2),
    ("echo 'bunny  skipped: no source'; echo '3 passed, 0 failed, 1 skipped'", 3, 0, 1),
    ("echo '9 passed, 0 failed, 0 skipped'; echo after", 1, 0, 0),
])
def test_a_command_is_counted(tmp_path, text, passed, failed, skipped):
    result = kinds.command(script(tmp_path, text))(context(tmp_path))
    assert (result.passed, len(result.failed), len(result.skipped)) == (passed, failed, skipped)


def test_a_missing_command_fails(tmp_path):
    assert kinds.command("not/there")(context(tmp_path)).failed == ["not/there is not there"]


def test_a_command_ends_at_its_limit(tmp_path):
    started = time.monotonic()
    result = kinds.command(script(tmp_path, "sleep 60"))(context(tmp_path, limit_s=1))
    assert len(result.failed) == 1 and "time limit" in result.failed[0]
    assert time.monotonic() - started < 50


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return " Z " not in stat.read()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_what_a_command_left_running_is_ended(tmp_path):
    result = kinds.command(script(tmp_path, "sleep 61 & echo $! > pid"))(context(tmp_path))
    assert result.passed == 1
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 40
    while is_running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("text, passed, failed, skipped", [
    ("def test_it(): pass", 1, 0, 0),
    ("def test_it(): assert 0", 0, 1, 0),
    ("import pytest\ndef test_a(): pytest.skip('why')\ndef test_b(): pass", 1, 0, 1),
    ("import nothing_of_this_name", 0, 1, 0),
    ("", 0, 1, 0),
])
def test_a_pytest_folder_is_counted(tmp_path, text, passed, failed, skipped):
    (tmp_path / "suite").mkdir()
    (tmp_path / "suite" / "test_it.py").write_text(text)
    result = kinds.pytest_folder("suite")(context(tmp_path))
    assert (result.passed, len(result.failed), len(result.skipped)) == (passed, failed, skipped)
    assert all(reason.endswith("why") for _, reason in result.skipped)


@pytest.mark.parametrize("tests, passed, failed, skipped", [
    ("test('a', t, args: '0')", 1, 0, 0),
    ("test('a', t, args: '1')\ntest('b', t, args: '0')", 1, 1, 0),
    ("test('a', t, args: '77')\ntest('b', t, args: '0')", 1, 0, 1),
    ("test('a', t, args: '0')\ntest('b', t, args: '1', suite: 'long')", 1, 0, 0),
    ("", 0, 1, 0),
])
def test_a_meson_suite_is_counted(tmp_path, tests, passed, failed, skipped):
    (tmp_path / "t.c").write_text(
        "#include <stdlib.h>\nint main(int n, char **v) { return n > 1 ? atoi(v[1]) : 0; }\n")
    (tmp_path / "meson_options.txt").write_text("option('tests', type: 'boolean', value: true)\n")
    (tmp_path / "meson.build").write_text(f"project('x', 'c')\nt = executable('t', 't.c')\n{tests}\n")
    result = kinds.meson(kinds.Build("b"))(context(tmp_path, 60))
    assert (result.passed, len(result.failed), len(result.skipped)) == (passed, failed, skipped)


def test_a_build_that_breaks_is_a_failure(tmp_path):
    (tmp_path / "t.c").write_text("int main(void) { return x; }\n")
    (tmp_path / "meson_options.txt").write_text("option('tests', type: 'boolean', value: true)\n")
    (tmp_path / "meson.build").write_text("project('x', 'c')\nexecutable('t', 't.c')\n")
    assert len(kinds.build_only(kinds.Build("b"))(context(tmp_path, 60)).failed) == 1
