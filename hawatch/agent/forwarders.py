"""Who may forward to this director where it is a real server too: the other directors, by their MACs.

Theory of operation. In a group with ``ipvs = "owner"`` the closed gate of a standby lets pass what comes from a
forwarder's MAC: the owner took it from a client, and sends it on to this real server. MACs come from the kernel's
neighbour table: each heartbeat link that runs over a VIP's interface keeps its entry there. It is looked at every
second, so a director whose card was changed is known within that. A MAC stays known while its entry is gone (the
director is down, and sends nothing), until another one is heard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hawatch.actions.neighbours import Neighbours
from hawatch.errors import KernelError

if TYPE_CHECKING:
    from hawatch.agent.settings import Settings

LOOK_EVERY_S = 1.0
Place = tuple[str, str]
"""A link's address, and the interface that it is looked for on."""


def shared_groups(settings: Settings) -> frozenset[str]:
    """Return the groups whose directors may be real servers too."""
    return frozenset(group.name for group in settings.config.group if group.ipvs == "owner")


class Forwarders:
    """Keeps the MACs of the other directors on the interfaces of shared groups' VIPs."""

    def __init__(self) -> None:
        self._neighbours = Neighbours()
        self._wanted: dict[tuple[str, str], tuple[str, ...]] = {}
        """Director and interface, with the director's links."""
        self._macs: dict[Place, str] = {}
        self._failure = ""

    def close(self) -> None:
        """Close the socket."""
        self._neighbours.close()

    def set_settings(self, settings: Settings) -> None:
        """Go by this configuration from now on."""
        shared = shared_groups(settings)
        interfaces = sorted(
            {vip.interface for group in settings.config.group if group.name in shared for vip in group.addresses}
        )
        others = [node for node in settings.config.director if node.name != settings.node]
        self._wanted = {(node.name, interface): node.links for node in others for interface in interfaces}
        places = {(link, interface) for (_, interface), links in self._wanted.items() for link in links}
        self._macs = {place: mac for place, mac in self._macs.items() if place in places}

    def look(self) -> frozenset[str]:
        """Ask the kernel; return all MACs that are known. What fails is a problem, and leaves them as they were."""
        self._failure = ""
        try:
            for (_, interface), links in self._wanted.items():
                for link in links:
                    mac = self._neighbours.mac(link, interface)
                    if mac:
                        self._macs[link, interface] = mac
        except KernelError as error:
            self._failure = f"the kernel does not tell its neighbours' hardware addresses: {error}"
        return frozenset(self._macs.values())

    def problems(self) -> list[str]:
        """Return a sentence for each director that is not known where it would forward from."""
        failure = [self._failure] if self._failure else []
        return failure + [
            f"director {name} was never heard on {interface} by a heartbeat link: what it forwards to this director"
            " as a real server is dropped"
            for (name, interface), links in self._wanted.items()
            if not any((link, interface) in self._macs for link in links)
        ]
