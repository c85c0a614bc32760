"""What several tests need."""

import os
import sys
from pathlib import Path

import pytest

# Threads that wait for each other actively take minutes where something else runs beside them.
os.environ.setdefault("OMP_NUM_THREADS", "1")

FAKE = """
import json, sys
print("a line that is no record")
print(json.dumps({"event": "ready", "versions": {"fake": "1"}}), flush=True)
for n, line in enumerate(sys.stdin):
    seconds = float(line)
    print(json.dumps({"event": "note"}))
    if seconds < 0:
        print(json.dumps({"event": "error", "error": {"message": "too little"}}), flush=True)
        sys.exit(3)
    print(json.dumps({"event": "run", "whole": seconds, "stages": {"cleaner": seconds / 2},
                      "steps": [seconds, 3 * seconds]}), flush=True)
"""


@pytest.fixture
def fake(tmp_path: Path) -> list[str]:
    """The command of a process that takes as long as each line says, without taking it."""
    script = tmp_path / "fake.py"
    script.write_text(FAKE)
    return [sys.executable, str(script)]
