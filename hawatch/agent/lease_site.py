"""What a node of the cluster starts from: its place in the configuration, and the keys."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hawatch.cluster import keys
from hawatch.cluster.membership import GroupSettings, Member, Membership, QuorumMode, digest_of
from hawatch.errors import ConfigError

if TYPE_CHECKING:
    from hawatch.config.schema import Config


def membership_of(config: Config, node: str) -> Membership:
    """Return the cluster as `node` sees it."""
    members = [Member(each.name, each.links) for each in config.director]
    members += [Member(each.name, each.links, votes_only=True) for each in config.witness]
    groups = tuple(
        GroupSettings(
            each.name, each.prefer, each.failback == "auto",
            digest_of(vip.address.partition("/")[0] for vip in each.addresses),
        )
        for each in config.group
    )  # fmt: skip
    cluster = config.cluster
    return Membership(cluster.name, node, tuple(members), groups, cluster.parameters, QuorumMode(cluster.quorum))


def read_keys(config: Config) -> keys.KeyRing:
    """Return the keys of the cluster; raise ConfigError when the file is not there or is not a key file."""
    path = Path(config.cluster.key_file)
    try:
        with path.open("rb") as file:
            text = file.read(keys.FILE_BYTES_MAX + 1).decode("utf-8", "replace")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; `hawatch keygen` makes one") from error
    return keys.parse(text, str(path))
