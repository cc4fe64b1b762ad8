"""A group's programs: how they are called, and that one which fails or hangs holds up nobody for long."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio

from hawatch.actions.group_notify import make_calls, make_environment, notify_group
from hawatch.actions.outgoing import Happening, SendError
from tests.unit.actions.test_outgoing import outgoing
from tests.unit.actions.test_program import program

PROGRAMS = {"owner": ("/master", "-x"), "standby": ("/backup",), "conflict": ()}


def change(name, **rest):
    event = Happening("notice", name, "2026-01-01T00:00:00Z", "warning", "lvs1", "lvs2\nis dead", "web", **rest)
    return outgoing(event, key="k")


@pytest.mark.parametrize(
    ("event", "calls"),
    [
        ("takeover", [("/master", "-x"), ("/every", "a", "GROUP", "web", "MASTER", "0")]),
        ("release", [("/backup",), ("/every", "a", "GROUP", "web", "BACKUP", "0")]),
        ("lease_lost", [("/backup",), ("/every", "a", "GROUP", "web", "BACKUP", "0")]),
        ("vip_conflict", [("/every", "a", "GROUP", "web", "FAULT", "0")]),
    ],
)
def test_called_as_keepalived_calls(event, calls):
    assert make_calls(change(event), PROGRAMS, ("/every", "a")) == calls
    assert make_calls(change(event), PROGRAMS, ()) == calls[:-1]


def test_environment():
    environment = make_environment(replace(change("takeover", numbers={"epoch": 4}), twice=True, cluster="epn"))
    assert environment["HAWATCH_STATE"] == "owner"
    assert environment["HAWATCH_EPOCH"] == "4"
    assert "\n" not in environment["HAWATCH_REASON"]
    assert environment["HAWATCH_POSSIBLY_TWICE"] == "1"
    assert "MON_GROUP" not in environment


async def test_run_in_order_though_one_fails(tmp_path):
    log = tmp_path / "log"
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    failing = program(tmp_path / "a", f"echo $HAWATCH_EVENT >> {log}; exit 3")
    every = program(tmp_path / "b", f'echo "$@" >> {log}')
    with pytest.raises(SendError, match="status 3") as caught:
        await notify_group(change("takeover"), {"owner": (failing,)}, (every, "x"), 10)
    assert caught.value.for_good
    assert log.read_text() == "takeover\nx GROUP web MASTER 0\n"


async def test_one_that_hangs_is_killed(tmp_path):
    with trio.fail_after(5), pytest.raises(SendError, match="was killed") as caught:
        await notify_group(change("release"), {"standby": (program(tmp_path, "sleep 1000"),)}, (), 0.3)
    assert caught.value.for_good
