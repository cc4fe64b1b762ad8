"""What a node of the cluster starts from: its place in the configuration, the keys, and a boot number."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from hawatch.agent.words_file import read_words, write_words
from hawatch.cluster import keys
from hawatch.cluster.membership import FormerRun, GroupSettings, Member, Membership, QuorumMode
from hawatch.cluster.parameters import LEASE_NS_MAX
from hawatch.errors import ConfigError

if TYPE_CHECKING:
    from hawatch.config.schema import Config

BOOT_DIGITS_MAX = 20
BOOT_MAX = 1 << 61
RUN_FILE = "members"
"""In the state directory: what the next process must know of this one's list of members and lease."""
RUN_CHARACTERS_MAX = 100
SETTLED = "settled"


def membership_of(config: Config, node: str) -> Membership:
    """Return the cluster as `node` sees it."""
    members = [Member(each.name, each.links) for each in config.director]
    members += [Member(each.name, each.links, votes_only=True) for each in config.witness]
    groups = tuple(GroupSettings(each.name, each.prefer, each.failback == "auto") for each in config.group)
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


def read_pins(path: Path) -> frozenset[str]:
    """Return the groups that an administrator gave to this director; none where the file cannot be read."""
    return read_words(path)


def write_pins(path: Path, groups: tuple[str, ...]) -> str:
    """Keep them; return a sentence if that cannot be done, else ""."""
    problem = write_words(path, groups)
    return f"{problem}: after a restart groups fall back to their preferred director" if problem else ""


def read_run(path: Path) -> FormerRun | None:
    """Return what a former process of this node kept; None at the first start, or where the file cannot be read."""
    try:
        words = path.read_text("ascii")[:RUN_CHARACTERS_MAX].split()
        return FormerRun(int(words[0]), min(max(0, int(words[1])), LEASE_NS_MAX), settled=words[2] == SETTLED)
    except (OSError, ValueError, IndexError):
        return None


def write_run(path: Path, run: FormerRun) -> str:
    """Keep it; return a sentence if that cannot be done, else "". Never waits for the disk."""
    scratch = path.with_name(path.name + ".new")
    try:
        scratch.write_text(f"{run.members} {run.lease_ns} {SETTLED if run.settled else 'changing'}\n", "ascii")
        os.replace(scratch, path)
    except OSError as error:
        return f"{path} cannot be written ({error.strerror}): stop all nodes before you change the members or the lease"
    return ""


def next_boot(path: Path, wall_ns: int) -> tuple[int, str]:
    """Return a number higher than at every earlier start, and a sentence if it could not be kept, else "".

    The wall clock makes it higher even where the file is lost; the file, where the clock went back.
    """
    try:
        last = int(path.read_text("ascii")[:BOOT_DIGITS_MAX])
    except (OSError, ValueError):
        last = 0
    boot = min(max(wall_ns, last + 1, 1), BOOT_MAX)
    scratch = path.with_name(path.name + ".new")
    try:
        scratch.write_text(f"{boot}\n", "ascii")
        os.replace(scratch, path)
    except OSError as error:
        return boot, f"{path} cannot be written ({error.strerror}): keep the machine's clock right until it can"
    return boot, ""
