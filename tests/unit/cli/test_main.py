"""What all commands have in common: how they end where standard output is not what it should be."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HAWATCH = str(Path(sys.executable).with_name("hawatch"))


def said(words: str, redirection: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command by the shell, for its redirections."""
    script = f'exec "$0" {words} {redirection}'
    return subprocess.run(
        ["sh", "-c", script, HAWATCH], capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.parametrize("words", ["schema", "probe --list", "check --help"])
def test_an_output_that_cannot_be_written_is_told_in_a_sentence(words: str) -> None:
    found = said(words, ">/dev/full")
    assert "Traceback" not in found.stderr
    if "help" not in words:
        command = words.split()[0]
        assert found.returncode == 1
        assert found.stderr == f"hawatch {command}: the output cannot be written: No space left on device\n"


@pytest.mark.parametrize("redirection", [">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_command_without_an_output_does_its_work(redirection: str, tmp_path: Path) -> None:
    assert said("schema", redirection).returncode == 0
    found = said(f"ctl --runtime-dir {tmp_path} status", redirection)
    assert found.returncode == 3
    assert found.stderr == ("" if "2" in redirection else f"hawatch ctl: no agent answers at {tmp_path}/ctl.sock: "
                            "No such file or directory\n")  # fmt: skip


def test_characters_that_the_terminal_does_not_have_end_no_command(tmp_path: Path) -> None:
    file = tmp_path / "ä.toml"
    file.write_text('[[director]]\nname = "lvs1"\n')
    found = said(f"check -c {file}", "", PYTHONIOENCODING="ascii:strict")
    assert (found.returncode, found.stderr) == (0, found.stderr)
    assert "\\xe4.toml: valid" in found.stdout
