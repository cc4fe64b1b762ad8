"""A node's place in the configuration, and the keys that it finds there."""

from __future__ import annotations

from pathlib import Path

import pytest

from hawatch.agent.lease_site import membership_of, read_keys
from hawatch.cli.main import main
from hawatch.cluster.keys import FILE_BYTES_MAX
from hawatch.cluster.membership import GroupSettings, Member, Membership, QuorumMode, digest_of
from hawatch.cluster.parameters import PROFILES
from hawatch.config.load import load_text
from hawatch.errors import ConfigError
from tests.unit.config.fakes import PAIR

MORE = '[[group]]\nname = "mail"\naddresses = [{ address = "192.168.1.111/32", interface = "eth0" }]\n'
CONFIG = PAIR.replace("[cluster]", '[cluster]\nname = "site"\nprofile = "vm"').replace(
    'prefer = "lvs1"', 'prefer = "lvs2"\nfailback = "manual"'
)


def test_a_node_sees_members_groups_and_durations() -> None:
    members = (
        Member("lvs1", ("10.99.0.1", "192.168.1.5")),
        Member("lvs2", ("10.99.0.2", "192.168.1.6")),
        Member("rs1", ("10.99.0.3", "192.168.1.1"), votes_only=True),
    )
    web, mail = digest_of(["192.168.1.110"]), digest_of(["192.168.1.111"])
    groups = (GroupSettings("web", "lvs2", failback=False, addresses=web), GroupSettings("mail", addresses=mail))
    assert 0 <= web != mail < 1 << 32
    found = membership_of(load_text(CONFIG + MORE), "lvs2")
    assert found == Membership("site", "lvs2", members, groups, PROFILES["vm"], QuorumMode.WITNESS)
    assert found.majority == 2


def test_the_keys_are_those_of_the_file(tmp_path: Path) -> None:
    key = tmp_path / "keys"
    config = load_text(CONFIG.replace("/etc/hawatch/cluster.key", str(key)))
    with pytest.raises(
        ConfigError, match=r"keys: cannot be read: No such file or directory; `hawatch keygen` makes one"
    ):
        read_keys(config)
    assert main(["keygen", str(key)]) == 0
    assert read_keys(config).active == 1
    key.write_bytes(b"#" * (FILE_BYTES_MAX + 1))
    with pytest.raises(ConfigError, match="keys"):
        read_keys(config)
    key.write_bytes(b"active = \xff\n")
    with pytest.raises(ConfigError, match="keys"):
        read_keys(config)
