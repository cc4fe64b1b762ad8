"""IPVS connection synchronisation: the kernel's threads that tell connections to another director, and hear of them.

Both run on both directors all the time. A director that forwards nothing has nothing to tell, so there is no need to
exchange the roles at a takeover; ending a master would take the kernel several seconds, during which a takeover had
to wait.

Numbers are from linux/ip_vs.h: IPVS_CMD_NEW_DAEMON, IPVS_CMD_ATTR_DAEMON, IPVS_DAEMON_ATTR_.
"""

from __future__ import annotations

import errno

from hawatch.actions.ipvs_codec import CMD_NEW_DAEMON, FAMILY_NAME, VERSION
from hawatch.actions.netlink import NETLINK_GENERIC, NetlinkSocket, resolve_generic_family
from hawatch.actions.netlink_codec import (
    attribute_string,
    attribute_u32,
    generic,
    nested,
)
from hawatch.errors import KernelError

ATTR_DAEMON = 3
DAEMON_STATE, DAEMON_INTERFACE, DAEMON_SYNC_ID = 1, 2, 3
MASTER, BACKUP = 1, 2


def start_sync(interface: str, sync_id: int) -> list[str]:
    """Start both threads where they do not run yet; return what the kernel refused, a sentence each."""
    try:
        netlink = NetlinkSocket(NETLINK_GENERIC)
    except KernelError as error:
        return [str(error)]
    problems = []
    try:
        family = resolve_generic_family(netlink, FAMILY_NAME)
        for state, name in ((MASTER, "master"), (BACKUP, "backup")):
            daemon = nested(
                ATTR_DAEMON,
                attribute_u32(DAEMON_STATE, state),
                attribute_string(DAEMON_INTERFACE, interface),
                attribute_u32(DAEMON_SYNC_ID, sync_id),
            )
            try:
                netlink.request(generic(family, CMD_NEW_DAEMON, VERSION, daemon))
            except KernelError as error:
                if error.errno != errno.EEXIST:
                    problems.append(f"connection synchronisation ({name}) on {interface}: {error}")
    except KernelError as error:
        problems.append(f"connection synchronisation on {interface}: {error}")
    finally:
        netlink.close()
    return problems
