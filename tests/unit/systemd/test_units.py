"""The units are accepted by systemd itself and keep their promise of a small attack surface."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = sorted((Path(__file__).resolve().parents[3] / "systemd").glob("*.service"))
EXPOSURE_MAX = 2.5


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, check=False, capture_output=True, text=True, timeout=60)


def exposure(unit: Path) -> float:
    """Return the overall exposure level that systemd-analyze finds without running the unit."""
    answer = run("systemd-analyze", "security", "--offline=true", str(unit))
    level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", answer.stdout)
    assert level, answer.stdout + answer.stderr
    return float(level[1])


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_exposure_is_small(unit: Path) -> None:
    assert exposure(unit) <= EXPOSURE_MAX


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_accepts_every_line(unit: Path, tmp_path: Path) -> None:
    """The program's place is replaced by one that exists: verify wants to see it."""
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/usr/bin/hawatch", shutil.which("true") or "/bin/true"))
    answer = run("systemd-analyze", "verify", "--man=no", str(copy))
    complaints = [line for line in answer.stderr.splitlines() if unit.name in line]
    assert (answer.returncode, complaints) == (0, [])


def test_a_bare_unit_is_found_wanting(tmp_path: Path) -> None:
    bare = tmp_path / "bare.service"
    bare.write_text("[Service]\nExecStart=/bin/true\nNoSuchKey=1\n")
    assert exposure(bare) > EXPOSURE_MAX
    assert "NoSuchKey" in run("systemd-analyze", "verify", "--man=no", str(bare)).stderr
