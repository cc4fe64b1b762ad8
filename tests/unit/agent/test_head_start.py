"""A head start: it does what the core's first decision does, and only where nothing has changed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hawatch.agent import head_start
from hawatch.agent.head_start import get_ahead, remember, take_head_start
from hawatch.agent.places import Places
from hawatch.agent.process import Capability
from hawatch.agent.runtime import lock_state
from hawatch.agent.settings import load_settings
from hawatch.agent.state import AdminState, save_admin
from hawatch.health.decide import Inputs, decide
from hawatch.model import Admin, Table
from tests.unit.agent.fake_kernel import FileKernel

TEXT = """
[[director]]
name = "lvs1"
[[service]]
name = "dns"
address = "192.0.2.1"
port = 53
protocol = "udp"
server = [{ address = "192.0.2.11", weight = 3 }, { address = "192.0.2.12" }]
[[service]]
name = "web"
address = "192.0.2.1"
port = 80
probe = { type = "tcp" }
server = [{ address = "192.0.2.11" }]
"""
GROUP = '[[group]]\nname = "web"\naddresses = [{ address = "192.0.2.1/32", interface = "lo" }]\n'


@pytest.fixture
def places(tmp_path: Path) -> Places:
    found = Places(tmp_path / "hawatch.toml", tmp_path / "run", tmp_path / "state")
    found.config_file.write_text(TEXT)
    found.state_dir.mkdir()
    return found


def leave(places: Places) -> None:
    """Be the agent that accepted the configuration."""
    remember(load_settings(places, "lvs1"), places.config_file.read_bytes())


def take(places: Places, node: str = "lvs1") -> int | None:
    """Be the next start."""
    return take_head_start(places, node, lambda: FileKernel(places.state_dir), lambda _plan: [])


def table(places: Places) -> Table:
    return FileKernel(places.state_dir).read()


def weights(places: Places) -> dict[str, int]:
    """Return the weights of all destinations in the kernel."""
    found = [one for entry in table(places).values() for one in entry.destinations.values()]
    return {str(one.key): one.weight for one in found}


def test_what_needs_no_look_is_in_the_kernel_and_is_what_the_core_wants(places: Places) -> None:
    leave(places)
    assert take(places) == 3
    assert weights(places) == {"192.0.2.11:53": 3, "192.0.2.12:53": 1}
    plan = load_settings(places, "lvs1").plan
    wanted = decide(plan, Inputs(kernel=table(places)), {}, {"dns"}).wanted
    assert wanted == table(places), "the core finds its first decision carried out"


def test_a_second_start_sends_the_kernel_no_change(places: Places) -> None:
    leave(places)
    take(places)
    sent = FileKernel(places.state_dir).changes()
    assert take(places) == 0
    assert FileKernel(places.state_dir).changes() == sent


def test_what_an_administrator_said_counts(places: Places) -> None:
    leave(places)
    admin = AdminState()
    admin.set("dns", "192.0.2.11:53", Admin.DRAINED)
    admin.set("dns", "192.0.2.12:53", Admin.DISABLED)
    save_admin(places.admin_file, admin.to_file())
    take(places)
    assert weights(places) == {"192.0.2.11:53": 0}


def test_a_broken_word_of_the_administrator_is_left_to_the_core(places: Places) -> None:
    leave(places)
    places.admin_file.write_text("broken")
    assert take(places) is None
    assert places.admin_file.read_text() == "broken", "the core tells of it"


def other_content(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    places.config_file.write_text(TEXT.replace("weight = 3", "weight = 4"))


def other_version(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_start, "__version__", "other")


def other_host(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "other")


def torn(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    os.truncate(places.head_start_file, places.head_start_file.stat().st_size // 2)


def flipped(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytearray(places.head_start_file.read_bytes())
    data[-1] ^= 1
    places.head_start_file.write_bytes(data)


def emptied(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    places.head_start_file.write_bytes(b"")


def no_configuration(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    places.config_file.unlink()


def other_secret(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    (places.state_dir / "token").write_text("another")


def no_group(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> None:
        raise KeyError(name)

    monkeypatch.setattr("grp.getgrnam", unknown)


def no_raw_sockets(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hawatch.agent.process.permitted_capabilities", lambda: {Capability.NET_ADMIN})


@pytest.mark.parametrize(
    "change",
    [
        other_content,
        other_version,
        other_host,
        torn,
        flipped,
        emptied,
        no_configuration,
        other_secret,
        no_group,
        no_raw_sockets,
    ],
)
def test_there_is_none_in_any_doubt(
    places: Places, monkeypatch: pytest.MonkeyPatch, change: Callable[[Places, pytest.MonkeyPatch], None]
) -> None:
    token = places.state_dir / "token"
    token.write_text("0123456789abcdef0123456789abcdef")
    token.chmod(0o600)
    user = f'[console.user.alice]\ntoken_file = "{token}"\n[control]\ngroup = "daemon"\n' + GROUP
    places.config_file.write_text(TEXT + user)
    leave(places)
    change(places, monkeypatch)
    assert take(places) is None
    assert table(places) == {}
    monkeypatch.undo()
    token.write_text("0123456789abcdef0123456789abcdef")
    places.config_file.write_text(TEXT + user)
    leave(places)
    assert take(places) == 3, "it was the change alone"


def test_another_node_or_an_agent_that_runs_or_a_kernel_that_lacks_something(places: Places) -> None:
    leave(places)
    assert take(places, "lvs2") is None
    assert take_head_start(places, "lvs1", lambda: FileKernel(places.state_dir), lambda _plan: ["no wlc"]) is None
    lock = lock_state(places)
    assert take(places) is None
    os.close(lock)
    assert take(places) == 3


def test_nothing_is_left_where_every_server_has_a_check(places: Places) -> None:
    leave(places)
    assert places.head_start_file.exists()
    places.config_file.write_text(TEXT[: TEXT.index("[[service]]")] + TEXT[TEXT.rindex("[[service]]") :])
    leave(places)
    assert not places.head_start_file.exists()


def ahead(places: Places, lacking: list[str]) -> int | None:
    """Be a start with a configuration that nobody has seen."""
    settings, content = load_settings(places, "lvs1"), places.config_file.read_bytes()
    return get_ahead(settings, content, lambda: FileKernel(places.state_dir), lambda _plan: lacking)


def test_a_configuration_that_is_new_gets_as_far_once_it_is_accepted(places: Places) -> None:
    assert take(places) is None
    assert ahead(places, ["no wlc"]) is None
    assert table(places) == {}
    assert ahead(places, []) == 3
    assert weights(places) == {"192.0.2.11:53": 3, "192.0.2.12:53": 1}
    assert ahead(places, []) == 0


@pytest.mark.parametrize("words", ["broken", '{"version": 99, "of": "another release"}'])
def test_a_configuration_that_is_new_leaves_a_broken_word_of_the_administrator_to_the_core(
    places: Places, words: str
) -> None:
    places.admin_file.write_text(words)
    assert ahead(places, []) is None
    assert places.admin_file.read_text() == words


def test_a_secret_that_is_gone_is_no_mistake_of_what_is_left_behind(places: Places) -> None:
    secret = places.state_dir / "token"
    secret.write_text("a")
    secret.chmod(0o600)
    places.config_file.write_text(TEXT + f'[console.user.alice]\ntoken_file = "{secret}"\n')
    settings, content = load_settings(places, "lvs1"), places.config_file.read_bytes()
    secret.unlink()
    remember(settings, content)
    assert not places.head_start_file.exists()


def test_it_imports_nothing_that_it_is_ahead_of() -> None:
    code = "import sys, hawatch.agent.head_start; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"pydantic", "trio", "tomli", "importlib.metadata", "asyncio"} & set(loaded)


@pytest.mark.kernel
def test_a_real_kernel_takes_it_and_a_second_start_finds_nothing_to_do(places: Places) -> None:
    subprocess.run(["ipvsadm", "-C"], check=True)
    try:
        leave(places)
        assert take_head_start(places, "lvs1") == 3
        listing = subprocess.run(["ipvsadm", "-Ln"], check=True, capture_output=True, text=True).stdout
        assert "192.0.2.11:53" in listing
        assert take_head_start(places, "lvs1") == 0
    finally:
        subprocess.run(["ipvsadm", "-C"], check=True)
