"""What the checks share: the files of the tree, and C code without its comments and strings.

A tree is asked through git, new files included, ignored ones not; a folder without git (the tests of the
checks use some) is simply walked.
"""
import os
import re
import subprocess
import sys

TOKEN = re.compile(r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'""", re.S)


def files(root, *endings):
    if os.path.exists(os.path.join(root, ".git")):
        names = subprocess.run(["git", "-C", root, "ls-files", "-co", "--exclude-standard"],
                               check=True, capture_output=True, text=True).stdout.splitlines()
    else:
        names = [os.path.relpath(os.path.join(folder, name), root)
                 for folder, _, found in os.walk(root) for name in found]
    return sorted(name for name in set(names)
                  if name.endswith(endings or "") and os.path.isfile(os.path.join(root, name)))


def text(root, name):
    with open(os.path.join(root, name), errors="replace") as file:
        return file.read()


def code(root, name, strings=False):
    """The lines of a C file with comments (and strings, unless wanted) blanked, line numbers kept."""
    def blank(match):
        token = match.group()
        if token[0] == "/":
            return re.sub(r"[^\n]", " ", token)
        return token if strings else token[0] + " " * (len(token) - 2) + token[-1]
    return TOKEN.sub(blank, text(root, name)).split("\n")


def allowed(line, rule):
    """A line may say, with a reason: lint:allow RULE reason"""
    return re.search(rf"lint:allow {re.escape(rule)} \w", line) is not None


def finish(findings):
    """Prints what was found, and is the exit code."""
    for finding in findings:
        print(finding)
    return 1 if findings else 0


def root_argument():
    return sys.argv[1] if len(sys.argv) > 1 else "."
