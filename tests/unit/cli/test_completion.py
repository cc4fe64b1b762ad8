from __future__ import annotations

import subprocess
import sys

import pytest

from hawatch.cli.main import main


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_script_knows_every_ctl_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in ("ctl", "status", "drain", "switchover", "reload", "check", "--runtime-dir", "--wait"):
        assert word in script


def test_bash_takes_the_script_and_completes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    asked = 'COMP_WORDS=(hawatch ctl dr); COMP_CWORD=2; _shtab_hawatch; echo "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", f"{script}\n{asked}"], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split() == ["drain"]
    assert done.stderr == ""


def test_the_agent_does_without_it() -> None:
    code = "import sys, hawatch.agent.main; sys.exit('shtab' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
