"""What a program inherits of the agent's precedence."""

from __future__ import annotations

import subprocess
import sys

import pytest

CHILD = """
import os, subprocess, sys
from pathlib import Path
from hawatch.programs import make_ordinary
Path("/proc/self/oom_score_adj").write_text(sys.argv[1])
os.setpriority(os.PRIO_PROCESS, 0, int(sys.argv[2]))
program = subprocess.Popen(["sleep", "60"])
make_ordinary(program.pid)
print(Path(f"/proc/{program.pid}/oom_score_adj").read_text().strip(), os.getpriority(os.PRIO_PROCESS, program.pid))
program.kill()
program.wait()
make_ordinary(program.pid)
"""


@pytest.mark.parametrize(
    ("score", "nice", "inherited"),
    [("-900", "-10", "0 0"), ("0", "0", "0 0"), ("300", "5", "300 5")],
    ids=["takes precedence", "ordinary", "gives way"],
)
def test_a_program_does_not_inherit_precedence(score: str, nice: str, inherited: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, score, nice], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout.strip(), done.stderr) == (inherited, "")
