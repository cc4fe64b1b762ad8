"""A director's commands carried out in a network namespace, with the kernel's own gate and addresses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hawatch.agent.lease_effects import KernelEffects
from hawatch.agent.places import Places
from hawatch.agent.settings import Settings
from hawatch.config.load import load_text
from hawatch.errors import KernelError
from hawatch.model import Event, Plan
from tests.unit.actions.two_hosts import VIP, TwoHosts, two_hosts

pytestmark = pytest.mark.netns
HEAD = """\
[cluster]
name = "test"
key_file = "/etc/hawatch/cluster.key"
quorum = "none"
[[director]]
name = "lvs1"
links = ["127.0.0.1"]
[[director]]
name = "lvs2"
links = ["127.0.0.2"]
"""


@pytest.fixture
def hosts() -> Iterator[TwoHosts]:
    with two_hosts() as found:
        yield found


def settings_of(state: Path, **groups: str) -> Settings:
    """Return settings of a pair whose groups have one address each, all on eth0."""
    text = HEAD
    for name, address in groups.items():
        row = f'{{ address = "{address}/32", interface = "eth0" }}'
        text += f'[[group]]\nname = "{name}"\naddresses = [{row}]\n'
    return Settings(load_text(text), Plan((), {}), "lvs1", "", Places(state, state, state))


class Unlucky(KernelEffects):
    """Effects whose gate cannot be read as long as another firewall changes it."""

    def _install(self, settings: Settings) -> None:
        raise KernelError("netlink: the table changed 8 times while it was read")


def test_effects_that_cannot_be_made_leave_the_gate_to_the_next_try(hosts: TwoHosts, tmp_path: Path) -> None:
    events: list[Event] = []
    settings = settings_of(tmp_path, web=VIP)

    def play() -> None:
        with pytest.raises(KernelError, match="changed 8 times") as failed:
            Unlucky(settings, events.extend)
        assert failed.traceback  # which keeps the object alive, as a caller's does
        KernelEffects(settings, events.extend).close_sockets()

    hosts.on_a(play)
