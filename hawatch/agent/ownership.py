"""Who owns the groups: the seam where leased ownership plugs in.

A single director owns every group for good: there is nobody to share them with, so there is no lease.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import trio

from hawatch.agent.settings import Settings
from hawatch.errors import RefusedError
from hawatch.model import Event

Emit = Callable[[Iterable[Event]], None]
StatusPart = dict[str, object]
CountServers = Callable[[], tuple[int, int, int]]
"""Returns how many real servers are up, have a verdict, and are looked at."""


class Ownership(Protocol):
    """What the core asks of whoever decides on ownership."""

    async def run(self, emit: Emit, changed: Callable[[], None]) -> None:
        """Keep what is owned, until cancelled; call `changed` when `owned` has."""

    def owned(self) -> frozenset[str]:
        """Return the names of the groups that this director owns now."""

    def owners(self) -> Mapping[str, str]:
        """Return each group's owner, as far as this director knows; "" for one that nobody is known to own."""

    def set_settings(self, settings: Settings) -> None:
        """Go on by a new configuration."""

    def watch_servers(self, count: CountServers) -> None:
        """Count the real servers with this, whenever that matters."""

    def tell_lateness(self, tell: Callable[[int], None]) -> None:
        """Tell of each turn with a time of its own how many nanoseconds late it was."""

    def status(self) -> Mapping[str, object]:
        """Return the keys `quorum`, `directors` and `groups` of the status."""

    def warnings(self) -> list[str]:
        """Return what is wrong with the groups' addresses, a sentence each."""

    def differing_after(self, settings: Settings) -> list[str]:
        """Return a sentence for each director with other addresses, now and by a configuration that is to come."""

    async def switchover(self, group: str, to: str) -> StatusPart:
        """Move ownership, and return what came of it; raise RefusedError with the reason why not."""

    async def takeover(self, group: str) -> StatusPart:
        """Own a group without a majority; raise RefusedError with the reason why not."""

    async def giveaway(self) -> StatusPart:
        """Give everything away; raise RefusedError with the reason why not."""

    async def resume(self) -> StatusPart:
        """End a giveaway; raise RefusedError with the reason why not."""

    async def stop(self) -> None:
        """Let go of everything in good order, at the agent's end."""


class Vips(Protocol):
    """What keeps a single director's addresses up."""

    async def run(self) -> None:
        """Keep the addresses of all groups up until cancelled; they stay up then."""

    def set_settings(self, settings: Settings) -> None:
        """Go on by a new configuration."""

    def problem(self, group: str) -> str:
        """Return what is wrong with a group's addresses, "" for nothing."""

    def problems(self) -> list[str]:
        """Return what is wrong, a sentence each."""


MakeVips = Callable[[Settings, Emit], Vips]


def has_vips(settings: Settings) -> bool:
    """Tell whether a single director has anything to do for addresses: its groups', or what a lease has left behind."""
    return bool(settings.config.group) or settings.places.boot_file.exists()


class SingleOwnership:
    """A director without another one; `make_vips` makes what keeps its addresses up, where something is to."""

    def __init__(self, settings: Settings, make_vips: MakeVips | None = None) -> None:
        self._settings = settings
        self._make_vips = make_vips
        self._vips: Vips | None = None
        self._changed = trio.Event()

    async def run(self, emit: Emit, changed: Callable[[], None]) -> None:
        """Keep the addresses up; who owns them never changes."""
        while self._make_vips is None or not has_vips(self._settings):
            await self._changed.wait()
            self._changed = trio.Event()
        self._vips = self._make_vips(self._settings, emit)
        await self._vips.run()

    def owned(self) -> frozenset[str]:
        """Return every group."""
        return frozenset(group.name for group in self._settings.config.group)

    def owners(self) -> Mapping[str, str]:
        """Name this director for every group."""
        return {group.name: self._settings.node for group in self._settings.config.group}

    def set_settings(self, settings: Settings) -> None:
        """Own the groups of a new configuration."""
        self._settings = settings
        self._changed.set()
        if self._vips is not None:
            self._vips.set_settings(settings)

    def watch_servers(self, count: CountServers) -> None:
        """Do nothing: there is nobody fitter."""

    def tell_lateness(self, tell: Callable[[int], None]) -> None:
        """There are no such turns."""

    def status(self) -> Mapping[str, object]:
        """Say that everything is owned, and why."""
        reason = "a single director owns every group, without a lease"
        groups = [
            {
                "name": group.name,
                "state": "owner",
                "owner": self._settings.node,
                "epoch": 0,
                "gate": "none",
                "addresses": [vip.address for vip in group.addresses],
                "reason": (self._vips.problem(group.name) if self._vips is not None else "") or reason,
            }
            for group in self._settings.config.group
        ]
        quorum = {"mode": "none", "held": True, "acceptors": 0, "reachable": 0, "reason": reason}
        return {"quorum": quorum, "directors": [], "groups": groups}

    def warnings(self) -> list[str]:
        """Return what is wrong with the addresses, a sentence each."""
        return self._vips.problems() if self._vips is not None else []

    def differing_after(self, _settings: Settings) -> list[str]:
        """There is no other director."""
        return []

    async def switchover(self, group: str, to: str) -> StatusPart:
        """Refuse: nobody could take it."""
        raise self._refusal("there is no other to switch over to")

    async def takeover(self, group: str) -> StatusPart:
        """Refuse: it owns everything."""
        raise self._refusal("it owns every group already")

    async def giveaway(self) -> StatusPart:
        """Refuse: nobody could take it."""
        raise self._refusal("there is no other to give to")

    async def resume(self) -> StatusPart:
        """Refuse: it never gave anything away."""
        raise self._refusal("nothing was given away")

    async def stop(self) -> None:
        """Do nothing: addresses and the kernel's table stay, and it goes on forwarding."""

    def _refusal(self, why: str) -> RefusedError:
        return RefusedError(f"{self._settings.node} is a single director: {why}")


OwnershipSource = Callable[[Settings, bool, Callable[[bool], None]], Ownership]
"""Given the settings, whether everything was given away, and what keeps on disk that it is."""


def own_alone(settings: Settings, _paused: bool, _remember: Callable[[bool], None]) -> Ownership:  # noqa: FBT001
    """Return the ownership of a single director whose addresses somebody else brings up."""
    return SingleOwnership(settings)
