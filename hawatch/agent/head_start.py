"""A head start: what needs no look is in the kernel's table before the rest of the agent has been imported.

Theory of operation
-------------------
To load what reads and checks a configuration, and the event loop, takes several times as long as to fill the kernel's
table. So an agent leaves, in its state directory, those services of the configuration it accepted that have servers
without a check. The next start does for these what the core's first decision will do, before it imports anything
else: it reads the kernel's table, decides without verdicts, and applies the difference. All that follows is as without
a head start; the file is read and checked in full, and the core finds its first decision carried out.

It is taken only where a full start would accept the configuration again: the same version of hawatch, the same file
byte by byte, the same node, the files it names untouched, nothing from plug-ins. Otherwise the same is done once the
file has been read and checked, still before the event loop is imported. On any failure there is none and not a word of
it: the full start that follows tells what is wrong.
"""

from __future__ import annotations

import contextlib
import os
import socket
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from hawatch import __version__
from hawatch.actions.ipvs import Ipvs, check_capabilities
from hawatch.agent.places import Places
from hawatch.agent.runtime import check_may_give, lock_runtime, lock_state
from hawatch.agent.state import AdminState, follow_renames, read_admin
from hawatch.decoding import UNDECODABLE
from hawatch.errors import HawatchError
from hawatch.health.decide import Inputs, decide
from hawatch.health.table import diff
from hawatch.model import Plan, ServicePlan

if TYPE_CHECKING:  # what these import is what a head start is ahead of
    from hawatch.agent.kernel import Kernel
    from hawatch.agent.settings import Settings

SIZE_LIMIT = 64 << 20
CHECKSUM_BYTES = 4

Stamp = tuple[int, int, int, int]


class HeadStart(msgspec.Struct, frozen=True, array_like=True):
    """What one agent leaves to the next start."""

    version: str
    node_wanted: str
    host: str
    content: bytes
    """Of the configuration file."""
    files: dict[str, Stamp]
    """The other files that it names, as they were."""
    raw: bool
    """Its probes or its VIPs need raw sockets."""
    group: str
    """Whose members may use the ctl socket, beside the agent's own; "" for nobody's."""
    services: tuple[ServicePlan, ...]


def take_head_start(
    places: Places,
    node_wanted: str,
    open_kernel: Callable[[], Kernel] = Ipvs.open,
    lacking: Callable[[Plan], list[str]] = check_capabilities,
) -> int | None:
    """Bring the kernel's table to where the last accepted configuration has it; return how many changes that took.

    `lacking` tells what a plan needs and the kernel lacks. None where there was no head start.
    """
    try:
        left = _recall(places, node_wanted)
        return None if left is None else _carry_out(left, places, open_kernel, lacking)
    except (HawatchError, OSError, *UNDECODABLE):
        return None


def get_ahead(
    settings: Settings,
    content: bytes,
    open_kernel: Callable[[], Kernel] = Ipvs.open,
    lacking: Callable[[Plan], list[str]] = check_capabilities,
) -> int | None:
    """Do the same by a configuration that is new and was just accepted, before what is left is imported."""
    try:
        left = _head_start(settings, content)
        return None if left is None else _carry_out(left, settings.places, open_kernel, lacking)
    except (HawatchError, OSError, *UNDECODABLE):
        return None


def _carry_out(
    left: HeadStart, places: Places, open_kernel: Callable[[], Kernel], lacking: Callable[[Plan], list[str]]
) -> int | None:
    """Fill the table; return the number of changes, or None where a full start would refuse."""
    if left.raw and not _may_use_raw_sockets():
        return None
    check_may_give(left.group)
    plan = Plan(left.services, {})
    if lacking(plan):
        return None
    with _locked(places):
        return _fill(plan, places, open_kernel)


def remember(settings: Settings, content: bytes) -> None:
    """Leave what the next start may do at once; nothing where that would not help. The state's lock must be held."""
    path = settings.places.head_start_file
    with contextlib.suppress(OSError):  # then there is none the next time, or one that does not fit
        left = _head_start(settings, content)
        if left is None:
            path.unlink(missing_ok=True)
            return
        data = msgspec.msgpack.encode(left)
        data = zlib.crc32(data).to_bytes(CHECKSUM_BYTES, "big") + data
        if path.exists() and path.read_bytes() == data:
            return
        scratch = path.with_name(path.name + ".new")
        scratch.write_bytes(data)
        scratch.replace(path)


def _head_start(settings: Settings, content: bytes) -> HeadStart | None:
    """Return what is to be left; None where there is nothing to do ahead, or something that may change unnoticed."""
    from hawatch.config.files import secret_files

    plan, config = settings.plan, settings.config
    of_owner = {group.name for group in config.group if config.leased and group.ipvs == "owner"}
    services = tuple(
        service
        for service in plan.services
        if service.group not in of_owner and not all(server.checks for server in service.servers)
    )
    if not services or not content or any(check.plugin for check in plan.checks.values()):
        return None
    return HeadStart(
        version=__version__,
        node_wanted=settings.node_wanted,
        host=socket.gethostname(),
        content=content,
        files={name: _stamp(name) for _, name in secret_files(config)},
        raw=config.leased or bool(config.group) or any(check.type == "ping" for check in plan.checks.values()),
        group=config.control.group,
        services=services,
    )


def _recall(places: Places, node_wanted: str) -> HeadStart | None:
    """Return what was left, if everything is as it was then."""
    with places.head_start_file.open("rb") as file:
        data = file.read(SIZE_LIMIT)
    if zlib.crc32(data[CHECKSUM_BYTES:]) != int.from_bytes(data[:CHECKSUM_BYTES], "big"):
        return None
    found = msgspec.msgpack.decode(data[CHECKSUM_BYTES:], type=HeadStart)
    same = (
        (found.version, found.node_wanted, found.host) == (__version__, node_wanted, socket.gethostname())
        and places.config_file.stat().st_size == len(found.content)
        and places.config_file.read_bytes() == found.content
        and all(_stamp(name) == stamp for name, stamp in found.files.items())
    )
    return found if same else None


def _fill(plan: Plan, places: Places, open_kernel: Callable[[], Kernel]) -> int:
    """Decide as the core will at first, and apply it."""
    try:
        admin, _ = follow_renames(read_admin(places.admin_file), plan)
    except FileNotFoundError:
        admin = AdminState()
    with contextlib.closing(open_kernel()) as kernel:
        table = kernel.read_counted().table
        wanted = decide(plan, Inputs(kernel=table, admin=admin.entries()), {}).wanted
        changes = diff({key: table[key] for key in wanted if key in table}, wanted)
        if changes:
            kernel.apply(changes)  # what is refused is tried again by the core, which tells of it
        return len(changes)


@contextlib.contextmanager
def _locked(places: Places) -> Iterator[None]:
    """Make sure that no other agent runs here meanwhile."""
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, lock_runtime(places))
        stack.callback(os.close, lock_state(places))
        yield


def _stamp(name: str) -> Stamp:
    """Return what tells a file that was changed."""
    status = Path(name).stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns


def _may_use_raw_sockets() -> bool:
    from hawatch.agent.process import Capability, permitted_capabilities

    return Capability.NET_RAW in permitted_capabilities()
