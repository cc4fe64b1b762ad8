"""The model of acceptors and candidates, through every state that it has: never two open gates; each mutant is caught."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

MODEL = Path(__file__).with_name("lease.pml")
MEMORY_MB = 1500
SMALL = ("-DROUNDS0=2", "-DROUNDS1=1")
MUTANTS = ("AT_GRANT", "NO_SILENCE", "UNORDERED", "ONE_GRANT", "EAGER")


def explore(folder: Path, *defines: str) -> tuple[int, int]:
    """Go through the model's states; return how many errors were found (1 ends the search), and how many states."""
    commands = (
        ("spin", "-a", *defines, str(MODEL)),
        ("gcc", "-w", "-O2", "-DSAFETY", f"-DMEMLIM={MEMORY_MB}", "-DCOLLAPSE", "-DNOREDUCE", "-o", "pan", "pan.c"),
        ("./pan", "-m200000"),
    )
    for command in commands:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "max search depth too small" not in done.stdout
    assert "out of memory" not in done.stdout
    errors = re.search(r"errors: (\d+)", done.stdout)
    states = re.search(r"(\d+) states, stored", done.stdout)
    assert errors is not None
    assert states is not None
    return int(errors[1]), int(states[1])


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_never_two_open_gates_in_any_state(tmp_path: Path) -> None:
    errors, states = explore(tmp_path, *SMALL)
    assert errors == 0
    assert states > 1_000_000


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_missing_rule_has_a_counter_example(mutant: str, tmp_path: Path) -> None:
    assert explore(tmp_path, f"-D{mutant}", *SMALL)[0] == 1


def test_both_own_one_after_the_other(tmp_path: Path) -> None:
    """Else the model would be safe because nothing happens in it."""
    assert explore(tmp_path, "-DREACHABLE", *SMALL)[0] == 1
