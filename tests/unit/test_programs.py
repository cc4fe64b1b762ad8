"""What a program inherits of the agent's precedence."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hawatch.programs import make_ordinary


@pytest.mark.parametrize(("ours", "theirs"), [("-900", "0"), ("0", "0"), ("300", "300")])
def test_a_program_is_not_spared_when_memory_runs_out(ours: str, theirs: str, tmp_path: Path) -> None:
    """Not with the kernel's own files: to be spared takes a privilege that a test need not have."""
    for process in ("self", "77"):
        (tmp_path / process).mkdir()
        (tmp_path / process / "oom_score_adj").write_text(f"{ours}\n")
    make_ordinary(77, tmp_path)
    assert (tmp_path / "77" / "oom_score_adj").read_text().strip() == theirs


def test_a_program_that_has_ended_is_no_error() -> None:
    program = subprocess.Popen(["true"])
    program.wait()
    make_ordinary(program.pid)
