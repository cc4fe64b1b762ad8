"""Addresses that would go from one shared group to another at once, and so could have two owners meanwhile.

Theory of operation. Nodes vote on groups, by their names. While directors have different files, one could own an
address in the group that had it, and another one in the group that is to have it. So such a change takes two steps, and
what would do both is refused: by a reload, and by a start, which knows the former file's groups from a file of ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from hawatch.agent.words_file import read_words, write_words
from hawatch.config.diff import groups_of_addresses, unsafe_moves
from hawatch.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from hawatch.agent.settings import Settings
    from hawatch.config.schema import Group

GROUPS_FILE = "groups"
"""In the state directory: each shared group with its addresses, as "web=192.168.1.110,192.168.1.111"."""
SHOWN_MAX = 5


def refuse_moves(before: Mapping[str, str], groups: Iterable[Group], advice: str) -> None:
    """Raise ConfigError where addresses go from group to group; `advice` says what to do instead."""
    moves = unsafe_moves(before, groups_of_addresses(groups))
    if moves:
        more = f"; and {len(moves) - SHOWN_MAX} more" if len(moves) > SHOWN_MAX else ""
        raise ConfigError(f"{'; '.join(moves[:SHOWN_MAX])}{more}: two directors could own it meanwhile; {advice}")


def refuse_moves_since_last_start(settings: Settings) -> None:
    """Raise ConfigError where an address has gone from group to group since this node accepted a configuration."""
    if settings.config.leased:
        path = groups_file(settings)
        advice = (
            "first start every director with a file that does not name it, then add it and reload them; if all"
            f" directors are stopped, remove {path} and start"
        )
        refuse_moves(known_groups(path), settings.config.group, advice)


def remember_groups(settings: Settings) -> None:
    """Keep for the next start what this one accepted. Waits for the disk; where it fails, nothing is refused then."""
    path = groups_file(settings)
    if settings.config.leased:
        words = [f"{group.name}={','.join(sorted(groups_of_addresses([group])))}" for group in settings.config.group]
        if read_words(path) != set(words) and write_words(path, words):
            with suppress(OSError):  # what is there is out of date, and would refuse what is right
                path.unlink()


def known_groups(path: Path) -> dict[str, str]:
    """Return the group of each address by the last configuration that was accepted; nothing where that is not known."""
    pairs = (word.partition("=") for word in read_words(path))
    return {address: group for group, _, addresses in pairs for address in addresses.split(",") if address}


def groups_file(settings: Settings) -> Path:
    """Return where this is kept."""
    return settings.places.state_dir / GROUPS_FILE
