from __future__ import annotations

import pytest

from hawatch.agent.core_admin import (
    OUTCOME,
    Verb,
    apply_changes,
    decide_admin,
    drain_ended,
    find_servers,
)
from hawatch.agent.state import AdminState
from hawatch.errors import RefusedError
from hawatch.model import (
    Admin,
    Destination,
    DestinationKey,
    Family,
    OnAllDown,
    OnFail,
    Plan,
    ServerPlan,
    ServiceKey,
    ServicePlan,
    VirtualService,
)


def service(name: str, *servers: DestinationKey, port: int = 80, sorry: DestinationKey | None = None) -> ServicePlan:
    virtual = VirtualService(ServiceKey(Family.IPV4, "tcp", "192.0.2.110", port))
    plans = tuple(ServerPlan(Destination(key), ()) for key in servers)
    stand_in = ServerPlan(Destination(sorry), ()) if sorry else None
    return ServicePlan(name, "web", virtual, plans, stand_in, OnFail.REMOVE, OnAllDown.EMPTY)


ONE, TWO, SIX = DestinationKey("192.0.2.1", 80), DestinationKey("192.0.2.1", 81), DestinationKey("2001:db8::1", 80)
PLAN = Plan((service("http", ONE, TWO), service("six", SIX)), {})


@pytest.mark.parametrize(
    ("service_name", "server", "found"),
    [
        ("http", "192.0.2.1:80", [("http", ONE)]),
        ("http", "192.0.2.1", [("http", ONE), ("http", TWO)]),
        ("http", "all", [("http", ONE), ("http", TWO)]),
        ("all", "all", [("http", ONE), ("http", TWO), ("six", SIX)]),
        ("all", "2001:db8::1", [("six", SIX)]),
        ("six", "[2001:db8::1]", [("six", SIX)]),
        ("six", "[2001:db8::1]:80", [("six", SIX)]),
    ],
)
def test_whom_a_command_means(service_name: str, server: str, found: list[tuple[str, DestinationKey]]) -> None:
    assert [(one.name, key) for one, key in find_servers(PLAN, service_name, server)] == found


@pytest.mark.parametrize(
    ("service_name", "server", "reason"),
    [
        ("mail", "all", 'there is no service "mail"; known services: http, six'),
        ("six", "192.0.2.1", 'there is no server "192.0.2.1" in service "six"; known servers: [2001:db8::1]:80'),
        ("all", "x", 'there is no server "x" in any service; known servers: 192.0.2.1:80, 192.0.2.1:81, '),
    ],
)
def test_unknown_names_list_the_known_ones(service_name: str, server: str, reason: str) -> None:
    with pytest.raises(RefusedError) as refusal:
        find_servers(PLAN, service_name, server)
    assert str(refusal.value).startswith(reason)


@pytest.mark.parametrize("verb", Verb)
@pytest.mark.parametrize("before", Admin)
def test_every_word_after_every_other(verb: Verb, before: Admin) -> None:
    state = AdminState()
    state.set("six", str(SIX), before)
    servers = find_servers(PLAN, "six", "all")
    if (verb, before) not in OUTCOME:
        assert (verb, before) == (Verb.DRAIN, Admin.DISABLED)
        with pytest.raises(RefusedError, match="disabled already"):
            decide_admin(verb, servers, state)
        return
    changes, events = decide_admin(verb, servers, state)
    after = apply_changes(state, changes)
    assert after.of("six", str(SIX)) is OUTCOME[verb, before]
    assert state.of("six", str(SIX)) is before
    changed = OUTCOME[verb, before] is not before
    assert (len(changes), len(events)) == ((1, 1) if changed else (0, 0))


def test_draining_several_leaves_a_disabled_one_alone() -> None:
    state = AdminState()
    state.set("http", str(ONE), Admin.DISABLED)
    changes, events = decide_admin(Verb.DRAIN, find_servers(PLAN, "http", "all"), state)
    assert [(change.server, change.admin) for change in changes] == [(TWO, Admin.DRAINED)]
    assert [(event.name, event.server) for event in events] == [("server_drained", str(TWO))]


def test_a_sorry_server_is_meant_only_where_it_is_named() -> None:
    plan = Plan((service("http", ONE, sorry=SIX),), {})
    assert [key for _, key in find_servers(plan, "http", "all")] == [ONE]
    assert [key for _, key in find_servers(plan, "all", "2001:db8::1")] == [SIX]
    with pytest.raises(RefusedError, match=r"known servers: 192.0.2.1:80, \[2001:db8::1\]:80"):
        find_servers(plan, "http", "x")


def test_why_a_drain_is_waited_for_no_more() -> None:
    state = AdminState()
    for name in ("web", "www"):
        state.set(name, str(ONE), Admin.DRAINED)
    waited = [(service("web", ONE), ONE)]
    assert drain_ended(waited, Plan((service("web", TWO, ONE),), {}), state) == ""
    assert drain_ended(waited, Plan((service("www", ONE),), {}), state) == ""
    gone = "web 192.0.2.1:80 is in the configuration no more"
    for plan in (service("web", TWO), service("web", ONE, port=81)):
        assert drain_ended(waited, Plan((plan,), {}), state) == gone
    assert (
        drain_ended(waited, Plan((service("web", ONE),), {}), AdminState()) == "web 192.0.2.1:80 is no longer drained"
    )
    with_sorry = service("web", TWO, sorry=ONE)
    assert drain_ended([(with_sorry, ONE)], Plan((with_sorry,), {}), state) == ""
