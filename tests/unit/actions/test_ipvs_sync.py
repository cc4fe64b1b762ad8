"""Connection synchronisation in the real kernel, in a namespace of its own: it forbids services of mixed families."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from hawatch.actions.ipvs_codec import CMD_GET_DAEMON, FAMILY_NAME, VERSION
from hawatch.actions.ipvs_sync import (
    ATTR_DAEMON,
    BACKUP,
    DAEMON_INTERFACE,
    DAEMON_STATE,
    DAEMON_SYNC_ID,
    MASTER,
    start_sync,
)
from hawatch.actions.netlink import NETLINK_GENERIC, NetlinkSocket, resolve_generic_family
from hawatch.actions.netlink_codec import GENERIC, generic, parse_attributes, to_int, to_text
from tests.lab.netns import call_in_namespace

pytestmark = [pytest.mark.kernel, pytest.mark.slow]


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"hwsync{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    subprocess.run(["ip", "-n", name, "link", "set", "lo", "up", "multicast", "on"], check=True)
    yield name
    subprocess.run(["ip", "netns", "delete", name], check=True)


def read_sync() -> dict[int, tuple[str, int]]:
    """Return interface and number of each thread that runs, by `MASTER` and `BACKUP`."""
    netlink = NetlinkSocket(NETLINK_GENERIC)
    try:
        family = resolve_generic_family(netlink, FAMILY_NAME)
        found = {}
        for reply in netlink.dump(generic(family, CMD_GET_DAEMON, VERSION)):
            daemon = parse_attributes(reply.body, GENERIC.size).get(ATTR_DAEMON)
            if daemon is not None:
                parts = parse_attributes(daemon)
                number = to_int(parts.get(DAEMON_SYNC_ID, b"\0\0\0\0"))
                found[to_int(parts[DAEMON_STATE])] = (to_text(parts.get(DAEMON_INTERFACE, b"\0")), number)
        return found
    finally:
        netlink.close()


def test_both_threads_run_and_starting_them_again_is_nothing(namespace: str) -> None:
    def work() -> None:
        problems = start_sync("none9", 8)
        assert len(problems) == 2
        assert all("on none9" in problem for problem in problems)
        assert read_sync() == {}
        assert start_sync("lo", 7) == []
        assert read_sync() == {MASTER: ("lo", 7), BACKUP: ("lo", 7)}
        assert start_sync("lo", 7) == []

    call_in_namespace(namespace, work)
