"""The kernel's IPVS table: read, changed and counted by generic netlink.

Synchronous: the kernel answers within the call. One verdict's change takes well under a millisecond; reading a big
table is the caller's to do in a thread, through an `Ipvs` of that thread's own.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from hawatch.actions.ipvs_codec import (
    CMD_GET_CONFIG,
    CMD_GET_DEST,
    CMD_GET_SERVICE,
    FAMILY_NAME,
    VERSION,
    Counts,
    decode_destination,
    decode_service,
    decode_timeouts,
    encode_change,
    encode_service_key,
    encode_timeouts,
)
from hawatch.actions.netlink import NETLINK_GENERIC, NetlinkSocket, resolve_generic_family
from hawatch.actions.netlink_codec import generic
from hawatch.errors import KernelError
from hawatch.health.table import Change, DeleteDestination, DeleteService, describe
from hawatch.model import Destination, DestinationKey, IpvsTimeouts, Plan, ServiceKey, TableEntry, VirtualService

NO_IPVS = "this kernel has no IPVS: load it with `modprobe ip_vs`, or boot a kernel that has it"
NO_PERMISSION = "programming IPVS needs the capability CAP_NET_ADMIN: run as root, or as systemd's unit does"
MODULES_FOLDER = Path("/lib/modules")


@dataclass(frozen=True, slots=True)
class Failure:
    """A change that the kernel did not take."""

    change: Change
    errno: int
    reason: str


@dataclass(frozen=True, slots=True)
class Reading:
    """The whole table with what the kernel counts, read at one time."""

    table: dict[ServiceKey, TableEntry] = field(default_factory=dict)
    services: dict[ServiceKey, Counts] = field(default_factory=dict)
    destinations: dict[ServiceKey, dict[DestinationKey, Counts]] = field(default_factory=dict)


class Ipvs:
    """The IPVS table of the network namespace in which it was opened."""

    def __init__(self, netlink: NetlinkSocket, family: int) -> None:
        self._netlink = netlink
        self._family = family

    @classmethod
    def open(cls) -> Self:
        """Connect to the kernel's IPVS; raise KernelError with one sentence when it has none, or forbids it."""
        netlink = NetlinkSocket(NETLINK_GENERIC)
        try:
            family = resolve_generic_family(netlink, FAMILY_NAME)
            ipvs = cls(netlink, family)
            ipvs.read_timeouts()
        except KernelError as error:
            netlink.close()
            if error.errno in (errno.ENOENT, errno.EOPNOTSUPP):
                raise KernelError(NO_IPVS, error.errno) from error
            if error.errno in (errno.EPERM, errno.EACCES):
                raise KernelError(NO_PERMISSION, error.errno) from error
            raise
        return ipvs

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the table stays."""
        self._netlink.close()

    @property
    def requests(self) -> int:
        """Requests sent to the kernel so far, of every kind."""
        return self._netlink.requests

    def read(self) -> dict[ServiceKey, TableEntry]:
        """Read the whole table. Raises KernelError."""
        return self.read_counted().table

    def read_counted(self) -> Reading:
        """Read the whole table with what is counted: the kernel tells both at once. Raises KernelError."""
        found = Reading()
        for service, counts in self._read_services():
            pairs = self._read_destinations(service.key)
            found.table[service.key] = TableEntry(service, {one.key: one for one, _ in pairs})
            found.services[service.key] = counts
            found.destinations[service.key] = {one.key: counts for one, counts in pairs}
        return found

    def read_counts(self, services: Iterable[ServiceKey]) -> dict[ServiceKey, dict[DestinationKey, Counts]]:
        """Read what the kernel counts of the destinations of some services; one that is gone is left out."""
        found = {}
        for key in services:
            try:
                found[key] = {one.key: counts for one, counts in self._read_destinations(key)}
            except KernelError as error:
                if error.errno not in (errno.ESRCH, errno.ENOENT):
                    raise
        return found

    def apply(self, changes: Sequence[Change]) -> tuple[Failure, ...]:
        """Make changes in their order, many to a packet; return those that the kernel did not take.

        Removing what is gone already is no failure. Raises KernelError when the kernel cannot be spoken to at all.
        """
        refusals = self._netlink.send_all([encode_change(self._family, change) for change in changes])
        failures = []
        for refusal in refusals:
            change = changes[refusal.index]
            gone = isinstance(change, DeleteService | DeleteDestination)
            if gone and refusal.errno in (errno.ENOENT, errno.ESRCH):
                continue
            failures.append(Failure(change, refusal.errno, _failure_reason(change, refusal.errno, refusal.text)))
        return tuple(failures)

    def read_timeouts(self) -> IpvsTimeouts:
        """Return the connection timeouts in force."""
        replies = self._netlink.request(generic(self._family, CMD_GET_CONFIG, VERSION))
        if not replies:
            raise KernelError("IPVS did not tell its timeouts", errno.ENODATA)
        return decode_timeouts(replies[0])

    def set_timeouts(self, timeouts: IpvsTimeouts) -> bool:
        """Set the timeouts that are not 0, if they differ from those in force; tell whether they did."""
        now = self.read_timeouts()
        pairs = ((timeouts.tcp_s, now.tcp_s), (timeouts.tcpfin_s, now.tcpfin_s), (timeouts.udp_s, now.udp_s))
        if all(wanted in (0, present) for wanted, present in pairs):
            return False
        self._netlink.request(encode_timeouts(self._family, timeouts))
        return True

    def _read_services(self) -> list[tuple[VirtualService, Counts]]:
        replies = self._netlink.dump(generic(self._family, CMD_GET_SERVICE, VERSION))
        return [found for one in replies if (found := decode_service(one)) is not None]

    def _read_destinations(self, key: ServiceKey) -> list[tuple[Destination, Counts]]:
        wanted = generic(self._family, CMD_GET_DEST, VERSION, encode_service_key(key))
        return [decode_destination(one, key.family) for one in self._netlink.dump(wanted)]


_HINTS = {
    errno.ENOENT: "the kernel lacks the scheduler or persistence engine, or the service is gone",
    errno.ESRCH: "the service is gone",
    errno.EEXIST: "somebody else made it meanwhile",
    errno.EPERM: NO_PERMISSION,
}


def _failure_reason(change: Change, number: int, text: str) -> str:
    hint = _HINTS.get(number, "")
    return f"{describe(change)}, and the kernel refused the change: {text}" + (f" ({hint})" if hint else "")


def missing_modules(plan: Plan, present: Collection[str] | None) -> list[str]:
    """Return a sentence for each scheduler or engine that a plan needs and the kernel lacks.

    `present` are the kernel's modules, loaded, loadable or built in; None: not known, and nothing is said.
    """
    if present is None:
        return []
    needed: dict[str, str] = {}
    for service in plan.services:
        virtual = service.virtual
        needed.setdefault(f"ip_vs_{virtual.scheduler}", f"scheduler {virtual.scheduler} of service {service.name}")
        if virtual.persistence_engine:
            module = f"ip_vs_pe_{virtual.persistence_engine}"
            needed.setdefault(module, f"persistence engine {virtual.persistence_engine} of service {service.name}")
    return [f"the {what} needs the kernel module {module}, which is not there" for module, what in needed.items()
            if module not in present]  # fmt: skip


def kernel_modules(folder: Path = MODULES_FOLDER, loaded: Path = Path("/sys/module")) -> frozenset[str] | None:
    """Return the names of the IPVS modules that are loaded, loadable or built in; None when that cannot be told."""
    tree = folder / os.uname().release
    names: set[str] = set()
    known = False
    for listing in ("modules.dep", "modules.builtin"):
        try:
            lines = (tree / listing).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        known = True
        names |= {line.split(":")[0].rsplit("/", 1)[-1].split(".")[0].replace("-", "_") for line in lines}
    if not known:
        return None
    with contextlib.suppress(OSError):
        names |= {entry.name for entry in loaded.iterdir()}
    return frozenset(name for name in names if name.startswith("ip_vs"))


def check_capabilities(plan: Plan) -> list[str]:
    """Return a sentence for everything that a plan needs and this kernel lacks. Touches nothing."""
    return missing_modules(plan, kernel_modules())
