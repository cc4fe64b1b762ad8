from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hawatch.cli.main import main

TEXT = """
[cluster]
key_file = "{keys}"
port = {port}
[[director]]
name = "a"
links = ["127.78.0.1"]
[[director]]
name = "b"
links = ["127.78.0.2"]
[[witness]]
name = "w"
links = ["127.78.0.3"]
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    keys = tmp_path / "keys"
    assert main(["keygen", str(keys)]) == 0
    path = tmp_path / "hawatch.toml"
    path.write_text(TEXT.format(keys=keys, port=20_000 + os.getpid() % 20_000))
    return path


def words(config: Path, command: str, node: str) -> list[str]:
    places = ["--runtime-dir", str(config.parent / "run"), "--state-dir", str(config.parent / "state")]
    return [command, "-c", str(config), "--node", node, *places]


@pytest.mark.slow
def test_it_runs_until_told_to_stop(config: Path) -> None:
    command = [sys.executable, "-m", "hawatch.cli.main", *words(config, "witness", "w")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "hawatch witness: w answers\n"
        try:
            assert os.sched_getscheduler(process.pid) == (os.SCHED_RR if os.geteuid() == 0 else os.SCHED_OTHER)
            process.send_signal(signal.SIGHUP)
            assert any("keys read again" in process.stdout.readline() for _ in range(3))
            second = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
            assert second.returncode == 1
            assert "stop it, or give this one its own" in second.stderr
            process.terminate()
            assert process.wait(10) == 0
        finally:
            process.kill()
    assert int((config.parent / "state" / "boot").read_text()) > 0


def test_each_node_runs_what_it_is(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(config, "witness", "a")) == 2
    assert "a is no [[witness]]: a director runs `hawatch run`" in capsys.readouterr().err
    assert main(words(config, "run", "w")) == 2
    assert "w is a witness: run `hawatch witness`" in capsys.readouterr().err
    assert not (config.parent / "run").exists()
