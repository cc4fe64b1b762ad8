"""The addresses of groups as a director looks after them, with a lease or without one."""

from __future__ import annotations

from collections.abc import Callable, Collection

import trio

from hawatch.actions.netlink import NETLINK_ROUTE
from hawatch.actions.notifications import Listener
from hawatch.actions.vip import VipAddress
from hawatch.agent.ownership import Emit
from hawatch.agent.settings import Settings
from hawatch.model import Event, Severity

Vips = dict[str, tuple[VipAddress, ...]]
"""The addresses of each group."""
About = str | tuple[str, str]
"""What a complaint is about: a group by its name, ("interface", its name), or words that are no group's name."""
PAUSE_S = 0.1
"""The addresses are looked at no more often, whatever others do to them."""
TOGETHER_S = 0.005
"""What is taken within so long is put back at once, and not the last of it after the pause."""


def vips_of(settings: Settings) -> Vips:
    """Return the addresses of each group."""
    return {
        group.name: tuple(VipAddress.parse(vip.address, vip.interface, vip.label) for vip in group.addresses)
        for group in settings.config.group
    }


def groups_by_address(vips: Vips) -> dict[str, str]:
    """Return the group of each address."""
    return {one.address: group for group, each in vips.items() for one in each}


class Complaints:
    """What is wrong with addresses and interfaces now; each problem is told once, until it is another one."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._problems: dict[About, str] = {}

    def tell(self, about: About, problem: str, group: str = "") -> None:
        """Say what is wrong with something; "" when nothing is any more."""
        if self._problems.get(about, "") == problem:
            return
        if problem:
            self._problems[about] = problem
            self._emit([Event("vip_failed", problem, Severity.CRITICAL, group)])
        else:
            del self._problems[about]

    def about(self, what: About) -> str:
        """Return what is wrong with something, "" for nothing."""
        return self._problems.get(what, "")

    def standing(self) -> list[str]:
        """Return everything that is wrong now, a sentence each."""
        return list(dict.fromkeys(self._problems.values()))


async def watch_kernel(
    groups: tuple[int, ...], act: Callable[[], None], *, kinds: Collection[int] | None = None
) -> None:
    """Call `act` whenever the kernel tells of a change to one of these rtnetlink groups, until cancelled.

    With `kinds`, messages of other types are passed over.
    """
    listener = Listener(NETLINK_ROUTE, groups)
    try:
        while True:
            await trio.lowlevel.wait_readable(listener)
            drained = listener.drain()
            if drained.lost or any(kinds is None or each.kind in kinds for each in drained.messages):
                act()
    finally:
        listener.close()
