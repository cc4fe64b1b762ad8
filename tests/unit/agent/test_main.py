"""What `hawatch run` refuses, and a plug-in that never ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.agent.test_core import PATIENCE_S, ROOT, Agent, Server

STUCK = """
from hawatch.plugin import Attempt, Options, Probe, Result, up


class StuckOptions(Options):
    stuck: bool = True


class StuckProbe(Probe):
    options_type = StuckOptions

    async def run(self, attempt: Attempt) -> Result:
        while self.options.stuck:
            pass
        return up()
"""
SITE = '[[director]]\nname = "lvs1"\n[[service]]\nname = "web"\naddress = "192.0.2.110"\nport = 80\n'
PROBE = 'probe = {{ type = "{}", interval = "1s", timeout = "500ms" }}\n[[service.server]]\naddress = "127.0.0.2"\n'


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install an outsider's package with a probe that never ends, for the processes of this test."""
    folder = tmp_path / "site"
    metadata = folder / "hawatch_stuck-1.0.dist-info"
    metadata.mkdir(parents=True)
    (folder / "hawatch_stuck.py").write_text(STUCK)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: hawatch-stuck\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[hawatch.probes]\nstuck = hawatch_stuck:StuckProbe\n")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


@pytest.fixture
def agent(tmp_path: Path, package: Path) -> Iterator[Agent]:
    server = Server("127.0.0.2")
    found = Agent(tmp_path, [server])
    try:
        found.wait_up()
        yield found
    finally:
        found.process.kill()
        found.process.wait()
        server.stop()


@pytest.mark.slow
def test_a_plugin_that_never_ends_costs_nothing_but_its_own_process(agent: Agent) -> None:
    before = agent.config.read_text()
    other = '[[service]]\nname = "odd"\naddress = "192.0.2.110"\nport = 81\nforward = "masquerade"\n'
    other += 'probe = { type = "stuck", interval = "100ms", timeout = "50ms" }\n'
    agent.config.write_text(f'{before}\n{other}[[service.server]]\naddress = "127.0.0.2"\n')
    agent.ctl("reload")
    agent.wait(lambda: agent.worker("prober-plugins")["restarts"] >= 1)
    assert agent.worker("prober")["restarts"] == agent.worker("core")["restarts"] == 0
    names = agent.event_names()
    assert "server_down" not in names
    assert set(names[names.index("config_reloaded") + 1 :]) <= {"worker_lost", "worker_restarted"}
    agent.servers[0].stop()
    agent.wait(lambda: agent.states()[agent.servers[0].name] == "down")
    agent.config.write_text(before)
    agent.ctl("reload")
    agent.wait(lambda: [worker["name"] for worker in agent.status()["workers"]] == ["core", "prober", "console"])


def run(tmp_path: Path, text: str, *before: str) -> subprocess.CompletedProcess[str]:
    """Run `hawatch run` on a configuration that is refused."""
    config = tmp_path / "hawatch.toml"
    config.write_text(text)
    command = [*before, sys.executable, "-m", "hawatch.cli.main", "run", "-c", str(config), "--node", "lvs1"]
    command += ["--runtime-dir", str(tmp_path / "run"), "--state-dir", str(tmp_path / "state")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "state").exists()
    return done


@pytest.mark.slow
def test_without_the_permission_for_ipvs_it_ends_before_anything_is_touched(tmp_path: Path) -> None:
    drop = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", "--")
    done = run(tmp_path, SITE + PROBE.format("tcp"), *drop)
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert line.startswith("hawatch run: ")


@pytest.mark.slow
def test_without_the_permission_to_ping_it_ends_before_anything_is_touched(tmp_path: Path) -> None:
    drop = ("setpriv", "--bounding-set=-net_raw,-net_admin", "--inh-caps=-net_raw,-net_admin", "--")
    done = run(tmp_path, SITE + PROBE.format("ping"), *drop)
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_configuration_with_mistakes_is_status_two(tmp_path: Path) -> None:
    done = run(tmp_path, SITE + PROBE.format("nonsense"))
    assert done.returncode == 2
    assert "nonsense" in done.stderr


@pytest.mark.slow
def test_optimised_python_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-O", "-m", "hawatch.cli.main", "run", "-c", tmp_path / "none"],
        cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "python -O" in done.stderr


@pytest.mark.slow
def test_a_key_file_without_keys_is_told_before_anything_is_touched(tmp_path: Path) -> None:
    cluster = f'[cluster]\nquorum = "none"\nkey_file = "{tmp_path}/key"\n'
    nodes = "".join(f'[[director]]\nname = "lvs{n}"\nlinks = ["10.99.0.{n}"]\n' for n in (1, 2))
    group = '[[group]]\nname = "web"\nprefer = "lvs1"\naddresses = [{ address = "192.0.2.1/32", interface = "eth0" }]\n'
    (tmp_path / "key").touch(mode=0o600)
    done = run(tmp_path, cluster + nodes + group)
    assert done.returncode == 2
    assert "no key in it; `hawatch keygen` makes one" in done.stderr
