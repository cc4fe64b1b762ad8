"""The start of an agent: what is refused before anything is touched, and what comes before what."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hawatch.agent.places import Places
from hawatch.agent.process import Capability
from hawatch.agent.settings import load_settings, make_settings
from hawatch.agent.start import check_settings
from hawatch.errors import ConfigError, KernelError
from tests.unit.agent.test_head_start import GROUP, TEXT, leave, places

__all__ = ["places"]


def test_vips_without_the_capabilities_for_them_are_refused(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    places.config_file.write_text(TEXT + GROUP)
    monkeypatch.setattr("hawatch.agent.start.permitted_capabilities", lambda: {Capability.NET_ADMIN})
    with pytest.raises(KernelError, match="VIPs need CAP_NET_RAW: run as root"):
        check_settings(load_settings(places, "lvs1"))


def test_a_configuration_that_is_refused_gets_nowhere(places: Places) -> None:
    places.config_file.write_text(TEXT + GROUP.replace("192.0.2.1/32", "192.0.2.300/32"))
    words = ["run", "-c", places.config_file, "--runtime-dir", places.runtime_dir, "--state-dir", places.state_dir]
    program = Path(sys.executable).with_name("hawatch")
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, places.runtime_dir.exists()) == (2, False)
    assert "192.0.2.300/32" in done.stderr


BEFORE = """
import sys
from pathlib import Path
from hawatch.agent import head_start, start
from hawatch.agent.places import Places
def stop(*_):
    print("trio" in sys.modules)
    sys.exit()
head_start._carry_out, start.check_settings = stop, lambda settings: None
start.start_agent(Places(*map(Path, sys.argv[1:])), "lvs1")
"""


@pytest.mark.parametrize("content", [TEXT, TEXT + "# new"])
def test_it_comes_before_the_event_loop(places: Places, content: str) -> None:
    """Of a configuration that is known, and of one that is new."""
    leave(places)
    places.config_file.write_text(content)
    words = [sys.executable, "-c", BEFORE, places.config_file, places.runtime_dir, places.state_dir]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "False", done.stderr


def test_a_password_that_is_gone_keeps_no_director_from_starting(places: Places) -> None:
    alert = '[alert.email.ops]\nto = ["a@b"]\nfrom = "c@d"\nserver = ["mail:25"]\nusername = "u"\n'
    text = f'{TEXT}{alert}password_file = "{places.state_dir}/gone"\ntemplate = "{places.state_dir}/none"\n'
    settings = make_settings(text.encode(), places, "lvs1", starting=True)
    assert [warning.partition(" ")[0] for warning in settings.warnings if "ops" in warning] == [
        "alert.email.ops.password_file:", "alert.email.ops.template:",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="gone: No such file or directory"):  # as a reload does
        make_settings(text.encode(), places, "lvs1")


ACCEPTED = """
import sys
from pathlib import Path
from hawatch.agent import start
from hawatch.agent.places import Places
start.check_settings = lambda settings: sys.exit("; ".join(settings.warnings))
start.start_agent(Places(*map(Path, sys.argv[1:])), "lvs1")
"""


def test_a_start_bears_with_it(places: Places) -> None:
    places.config_file.write_text(f'{TEXT}[console.user.alice]\ntoken_file = "{places.state_dir}/gone"\n')
    words = [sys.executable, "-c", ACCEPTED, places.config_file, places.runtime_dir, places.state_dir]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "console.user.alice.token_file:" in done.stderr
    assert "ConfigError" not in done.stderr


def test_without_the_cluster_s_keys_nothing_starts(places: Places) -> None:
    text = f'[cluster]\nkey_file = "{places.state_dir}/gone"\nquorum = "none"\n' + "".join(
        f'[[director]]\nname = "lvs{number}"\nlinks = ["127.0.0.{number}"]\n' for number in (1, 2)
    )
    with pytest.raises(ConfigError, match="`hawatch keygen` makes one"):
        make_settings(text.encode(), places, "lvs1", starting=True)
