"""The administrator's words: whom they mean, and what comes of them."""

from __future__ import annotations

import pytest

from hawatch.agent.core_admin import PAST, Verb, apply_changes, decide_admin, find_servers
from hawatch.agent.state import AdminState
from hawatch.config.load import load_text
from hawatch.config.plan import make_plan
from hawatch.errors import RefusedError
from hawatch.model import Admin, Plan

SITE = """
[[service]]
name = "web"
address = "192.0.2.110"
port = 80
server = [{ address = "192.0.2.1" }, { address = "192.0.2.2" }]
[[service]]
name = "six"
address = "2001:db8::110"
port = 80
server = [{ address = "2001:db8::1" }]
"""


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(load_text(SITE), "")


def names(plan: Plan, service: str, server: str) -> list[str]:
    return [f"{found.name} {key}" for found, key in find_servers(plan, service, server)]


@pytest.mark.parametrize(
    ("service", "server", "found"),
    [
        ("web", "192.0.2.1", ["web 192.0.2.1:80"]),
        ("all", "192.0.2.2:80", ["web 192.0.2.2:80"]),
        ("web", "all", ["web 192.0.2.1:80", "web 192.0.2.2:80"]),
        ("six", "2001:db8::1", ["six [2001:db8::1]:80"]),
        ("six", "[2001:db8::1]", ["six [2001:db8::1]:80"]),
        ("all", "[2001:db8::1]:80", ["six [2001:db8::1]:80"]),
    ],
)
def test_who_is_meant(plan: Plan, service: str, server: str, found: list[str]) -> None:
    assert names(plan, service, server) == found


@pytest.mark.parametrize(
    ("service", "server", "words"),
    [
        ("mail", "all", "known services: web, six"),
        ("web", "192.0.2.9", 'no server "192.0.2.9" in service "web"; known servers: 192.0.2.1:80, 192.0.2.2:80'),
        ("all", "192.0.2.9", "in any service"),
    ],
)
def test_who_is_unknown(plan: Plan, service: str, server: str, words: str) -> None:
    with pytest.raises(RefusedError, match=words.replace("[", r"\[")):
        find_servers(plan, service, server)


@pytest.mark.parametrize(
    ("before", "verb", "after"),
    [
        (Admin.NONE, Verb.DRAIN, Admin.DRAINED),
        (Admin.DRAINED, Verb.DRAIN, None),
        (Admin.DRAINED, Verb.UNDRAIN, Admin.NONE),
        (Admin.DISABLED, Verb.UNDRAIN, None),
        (Admin.DRAINED, Verb.DISABLE, Admin.DISABLED),
        (Admin.DRAINED, Verb.ENABLE, None),
        (Admin.DISABLED, Verb.ENABLE, Admin.NONE),
        (Admin.NONE, Verb.ENABLE, None),
    ],
)
def test_what_comes_of_a_word(plan: Plan, before: Admin, verb: Verb, after: Admin | None) -> None:
    state = AdminState()
    state.set("web", "192.0.2.1:80", before)
    changes, events = decide_admin(verb, find_servers(plan, "web", "192.0.2.1"), state)
    assert [change.admin for change in changes] == ([] if after is None else [after])
    assert [event.name for event in events] == ([] if after is None else [PAST[verb][0]])
    new = apply_changes(state, changes)
    assert new.of("web", "192.0.2.1:80") is (before if after is None else after)
    assert state.of("web", "192.0.2.1:80") is before


def test_to_drain_what_is_disabled_is_refused_unless_others_remain(plan: Plan) -> None:
    state = AdminState()
    state.set("web", "192.0.2.1:80", Admin.DISABLED)
    with pytest.raises(RefusedError, match="disabled already"):
        decide_admin(Verb.DRAIN, find_servers(plan, "web", "192.0.2.1"), state)
    changes, _ = decide_admin(Verb.DRAIN, find_servers(plan, "web", "all"), state)
    assert [str(change.server) for change in changes] == ["192.0.2.2:80"]
