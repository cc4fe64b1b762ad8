"""Who is in the cluster, as this node sees it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from hawatch.cluster.parameters import LeaseParameters
from hawatch.cluster.wire import identifier


class QuorumMode(StrEnum):
    """What an owner needs beside itself."""

    WITNESS = "witness"
    """A majority of directors and witnesses: never two owners."""
    GATEWAY = "gateway"
    """Two directors and a gateway that answers pings: best effort."""
    NONE = "none"
    """Two directors and nothing else: best effort."""


@dataclass(frozen=True, slots=True)
class Member:
    """A node and its addresses, one a link, in the same order on every node."""

    name: str
    links: tuple[str, ...]
    votes_only: bool = False
    """A witness."""


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """What the lease needs to know of a group."""

    name: str
    prefer: str = ""
    failback: bool = True
    """Give it back to the preferred director once that is as fit."""
    addresses: int = 0
    """Tells its addresses from others: see `digest_of`."""


@dataclass(frozen=True, slots=True)
class FormerRun:
    """What a node's former processes may have promised by, and to whom; kept on disk."""

    members: int
    """`Membership.digest` of the list that it told others."""
    lease_ns: int
    """The longest lease that can still be out."""
    settled: bool
    """That list had taken effect."""


@dataclass(frozen=True, slots=True)
class Membership:
    """The cluster and this node's place in it."""

    cluster: str
    node: str
    members: tuple[Member, ...]
    groups: tuple[GroupSettings, ...]
    parameters: LeaseParameters
    quorum: QuorumMode = QuorumMode.WITNESS

    def __post_init__(self) -> None:
        names = [member.name for member in self.members]
        assert self.node in names, self.node
        assert len(set(names)) == len(names), names

    @property
    def me(self) -> Member:
        """This node."""
        return next(member for member in self.members if member.name == self.node)

    @property
    def peers(self) -> tuple[Member, ...]:
        """All other nodes."""
        return tuple(member for member in self.members if member.name != self.node)

    @property
    def majority(self) -> int:
        """Grants that make an owner, where a majority does."""
        return len(self.members) // 2 + 1

    @property
    def digest(self) -> int:
        """Return the identifier of the list of members and of what makes a quorum: nodes compare it."""
        roles = sorted(f"{member.name} {'votes' if member.votes_only else 'directs'}" for member in self.members)
        return identifier("\n".join([str(self.quorum), *roles]))

    @property
    def names(self) -> dict[int, str]:
        """Names of the nodes by identifier."""
        return {identifier(member.name): member.name for member in self.members}


def digest_of(addresses: Iterable[str]) -> int:
    """Return 32 bits that tell one set of addresses from another: what a group has by two directors' files."""
    return identifier("\n".join(sorted(addresses))) >> 32
