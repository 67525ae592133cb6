"""The table of statements in protocols/mqtt/mqtt.md is the one that the tests make."""
import subprocess
import sys
from pathlib import Path


def test_table_is_fresh():
    subprocess.run([sys.executable, str(Path(__file__).with_name("table.py")), "--check"], check=True)
