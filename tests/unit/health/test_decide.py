"""What is to be in the table, for every state of servers and word of an administrator."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hawatch.health.decide import Decision, Inputs, Memory, decide, is_enough
from hawatch.model import (
    Admin,
    CheckState,
    Destination,
    DestinationKey,
    Family,
    OnAllDown,
    OnFail,
    Plan,
    ServerPlan,
    ServerState,
    ServiceKey,
    ServicePlan,
    Severity,
    TableEntry,
    Verdict,
    VirtualService,
)

KEY = ServiceKey(Family.IPV4, "tcp", "192.0.2.1", 80)
ONE, TWO, THREE, SORRY = (DestinationKey(f"198.51.100.{n}", 80) for n in (1, 2, 3, 99))
UP, DOWN, UNKNOWN = CheckState.UP, CheckState.DOWN, CheckState.UNKNOWN


def service(**changes: object) -> ServicePlan:
    servers = tuple(ServerPlan(Destination(key, weight=10), (f"check {key}",)) for key in (ONE, TWO, THREE))
    values = {
        "name": "http",
        "group": "",
        "virtual": VirtualService(KEY),
        "servers": servers,
        "sorry": None,
        "on_fail": OnFail.REMOVE,
        "on_all_down": OnAllDown.KEEP_LAST,
    }
    return ServicePlan(**(values | changes))


def with_sorry(**changes: object) -> ServicePlan:
    sorry = ServerPlan(Destination(SORRY), (f"check {SORRY}",))
    return service(sorry=sorry, on_all_down=OnAllDown.SORRY, **changes)


def verdicts(*states: CheckState, sorry: CheckState = UNKNOWN) -> dict[str, Verdict]:
    found = {}
    for key, state in zip((ONE, TWO, THREE, SORRY), (*states, *[UNKNOWN] * (3 - len(states)), sorry), strict=True):
        reason = "HTTP 503, wanted 200" if state is DOWN else ""
        found[f"check {key}"] = Verdict(f"check {key}", state, reason, since_wall_ns=7)
    return found


def run(plan: ServicePlan, memory: Memory | None = None, **inputs: object) -> Decision:
    return decide(Plan((plan,), {}), Inputs(**inputs), memory or {})


def weights(decision: Decision) -> dict[DestinationKey, int]:
    return {key: one.weight for key, one in decision.wanted[KEY].destinations.items()}


def names(decision: Decision) -> list[str]:
    return [event.name for event in decision.events]


def test_cold_start_waits_for_the_first_good_probe():
    decision = run(service(), verdicts=verdicts(UP))
    assert weights(decision) == {ONE: 10}
    assert [one.state for one in decision.servers] == [ServerState.UP, ServerState.UNKNOWN, ServerState.UNKNOWN]
    assert "not in IPVS before its first good probe" in decision.servers[1].reason


def test_a_server_that_cannot_be_probed_says_why():
    decision = run(service(), verdicts=verdicts(UP), hindrances={f"check {TWO}": "no such device"})
    assert [row.reason for row in decision.servers] == [
        "",
        "no such device: not in IPVS before its first good probe",
        "not probed yet: not in IPVS before its first good probe",
    ]
    kernel = {KEY: TableEntry(VirtualService(KEY), {TWO: Destination(TWO)})}
    there = run(service(), verdicts=verdicts(UP), hindrances={f"check {TWO}": "no such device"}, kernel=kernel)
    assert there.servers[1].reason == "no such device: left as the kernel has it"


def test_what_the_kernel_has_stays_until_a_verdict():
    odd = Destination(TWO, weight=3)
    kernel = {KEY: TableEntry(VirtualService(KEY), {TWO: odd})}
    decision = run(service(), verdicts=verdicts(), kernel=kernel)
    assert decision.wanted[KEY].destinations == {TWO: odd}
    assert decision.events == ()
    assert (decision.services[0].state, decision.services[0].reason) == ("up", "1 of 3 servers serve")
    after = run(service(), decision.memory, verdicts=verdicts(UP, DOWN), kernel=kernel)
    assert weights(after) == {ONE: 10}
    assert names(run(service(), verdicts=verdicts(UNKNOWN, UP), kernel=kernel)) == [], "a restart is no news of it"


def test_where_nothing_is_known_of_the_last_to_serve_they_are_those_that_the_kernel_has():
    kernel = {KEY: TableEntry(VirtualService(KEY), {TWO: Destination(TWO, weight=10)})}
    decision = run(service(), verdicts=verdicts(DOWN, DOWN, DOWN), kernel=kernel)
    assert weights(decision) == {TWO: 10}
    assert decision.services[0].reason.endswith(f"; the last to serve stay in the table: {TWO}")


def test_the_last_one_stays_until_the_others_were_looked_at():
    kernel = {KEY: TableEntry(VirtualService(KEY), {TWO: Destination(TWO, weight=3)})}
    held = run(service(), verdicts=verdicts(UNKNOWN, DOWN), kernel=kernel)
    assert weights(held) == {TWO: 3}
    empty = service(on_all_down=OnAllDown.EMPTY)
    assert weights(run(empty, verdicts=verdicts(UNKNOWN, DOWN), kernel=kernel)) == {}
    idle = run(service(), verdicts=verdicts(UNKNOWN, UP), kernel=kernel, weights={f"check {TWO}": 0})
    assert weights(idle) == {TWO: 0}, "it is up, and asks for nothing"
    for word in (Admin.DRAINED, Admin.DISABLED):
        admin = {("http", str(TWO)): word}
        assert weights(run(service(), verdicts=verdicts(UNKNOWN, DOWN), kernel=kernel, admin=admin)) == {}


@pytest.mark.parametrize(
    ("present", "health", "word", "left"),
    [
        (True, UNKNOWN, Admin.NONE, {SORRY: 1}),
        (True, UP, Admin.NONE, {SORRY: 1}),
        (True, DOWN, Admin.NONE, {}),
        (True, UP, Admin.DISABLED, {}),
        (True, UP, Admin.DRAINED, {}),
        (False, UP, Admin.NONE, {}),
    ],
)
def test_the_sorry_server_stays_until_the_servers_were_looked_at_unless_it_may_not(present, health, word, left):
    kernel = {KEY: TableEntry(VirtualService(KEY), {SORRY: Destination(SORRY)} if present else {})}
    admin = {("http", str(SORRY)): word}
    assert weights(run(with_sorry(), verdicts=verdicts(sorry=health), kernel=kernel, admin=admin)) == left


def test_a_server_without_a_check_counts_as_up():
    bare = service(servers=(ServerPlan(Destination(ONE), ()),))
    assert weights(run(bare)) == {ONE: 1}


@pytest.mark.parametrize(
    ("on_fail", "left"),
    [(OnFail.REMOVE, {ONE: 10, THREE: 10}), (OnFail.QUIESCE, {ONE: 10, TWO: 0, THREE: 10})],
)
def test_a_server_that_fails(on_fail, left):
    plan = service(on_fail=on_fail)
    before = run(plan, verdicts=verdicts(UP, UP, UP))
    after = run(plan, before.memory, verdicts=verdicts(UP, DOWN, UP))
    assert weights(after) == left
    assert names(after) == ["server_down"]
    down = after.events[0]
    assert (down.server, down.reason, down.severity) == (str(TWO), "HTTP 503, wanted 200", Severity.WARNING)
    assert (down.service, down.numbers) == ("http", {"weight": 10, "checks": 1})
    again = run(plan, after.memory, verdicts=verdicts(UP, DOWN, UP))
    assert again.events == ()
    back = run(plan, again.memory, verdicts=verdicts(UP, UP, UP))
    assert names(back) == ["server_up"]
    assert (back.events[0].reason, back.events[0].severity) == ("its probes pass again", Severity.INFO)


def test_a_server_that_serves_for_the_first_time():
    bare = service(servers=(ServerPlan(Destination(ONE), ()), ServerPlan(Destination(TWO), (f"check {TWO}",))))
    decision = run(bare, verdicts=verdicts(UNKNOWN, UP))
    assert [(event.name, event.server, event.reason) for event in decision.events] == [
        ("server_up", str(ONE), "it has no probe, so it counts as up"),
        ("server_up", str(TWO), "its first probe passed"),
    ]
    silent = run(bare, verdicts={f"check {TWO}": Verdict(f"check {TWO}", DOWN)})
    assert [event.reason for event in silent.events if event.name == "server_down"] == ["its probe fails"]
    assert silent.servers[1].reason == "its probe fails"


def test_all_checks_of_a_server_must_pass():
    plan = service(servers=(ServerPlan(Destination(ONE), ("a", "b")),))
    found = {"a": Verdict("a", UP), "b": Verdict("b", DOWN, "no greeting in 1 s")}
    decision = run(plan, verdicts=found)
    assert decision.servers[0].state is ServerState.DOWN
    assert decision.servers[0].reason == "no greeting in 1 s"


@pytest.mark.parametrize(
    ("word", "health", "weight", "state"),
    [
        (Admin.DRAINED, UP, 0, ServerState.DRAINING),
        (Admin.DRAINED, DOWN, None, ServerState.DOWN),
        (Admin.DRAINED, UNKNOWN, None, ServerState.DRAINING),
        (Admin.DISABLED, UP, None, ServerState.DISABLED),
        (Admin.DISABLED, DOWN, None, ServerState.DISABLED),
    ],
)
def test_an_administrators_word(word, health, weight, state):
    decision = run(service(), verdicts=verdicts(UP, UP, health), admin={("http", str(THREE)): word})
    assert weights(decision).get(THREE) == weight
    assert decision.servers[2].state is state


@pytest.mark.parametrize(
    ("word", "health", "present", "reason"),
    [
        (Admin.NONE, UP, True, ""),
        (Admin.NONE, DOWN, True, "HTTP 503, wanted 200"),
        (Admin.NONE, UNKNOWN, True, "not probed yet: left as the kernel has it"),
        (Admin.NONE, UNKNOWN, False, "not probed yet: not in IPVS before its first good probe"),
        (Admin.DRAINED, UP, True, "drained by an administrator: no new connections until `hawatch ctl undrain`"),
        (Admin.DRAINED, DOWN, True, "HTTP 503, wanted 200 (and drained by an administrator)"),
        (Admin.DISABLED, UP, True, "disabled by an administrator: `hawatch ctl enable` brings it back"),
    ],
)
def test_what_status_says_of_a_server(word, health, present, reason):
    kernel = {KEY: TableEntry(VirtualService(KEY), {THREE: Destination(THREE)} if present else {})}
    admin = {("http", str(THREE)): word}
    decision = run(service(), verdicts=verdicts(UP, UP, health), admin=admin, kernel=kernel)
    row = decision.servers[2]
    assert (row.service, row.server, row.reason, row.since_wall_ns) == ("http", str(THREE), reason, 7)
    assert (row.weight, row.in_table) == (weights(decision).get(THREE, 0), THREE in weights(decision))
    assert [row.sorry for row in decision.servers] == [False] * 3


def test_a_server_that_was_drained_stays_so_before_it_was_looked_at():
    kernel = {KEY: TableEntry(VirtualService(KEY), {THREE: Destination(THREE, weight=3)})}
    decision = run(service(), verdicts=verdicts(UP), admin={("http", str(THREE)): Admin.DRAINED}, kernel=kernel)
    assert weights(decision) == {ONE: 10, THREE: 0}, "its connections live on"
    row = decision.servers[2]
    assert (row.state, row.weight, row.in_table) == (ServerState.DRAINING, 0, True)


def all_down(plan: ServicePlan, sorry: CheckState = UP) -> Decision:
    """Let ONE fail first, then TWO and THREE at once."""
    memory = run(plan, verdicts=verdicts(UP, UP, UP, sorry=sorry)).memory
    memory = run(plan, memory, verdicts=verdicts(DOWN, UP, UP, sorry=sorry)).memory
    return run(plan, memory, verdicts=verdicts(DOWN, DOWN, DOWN, sorry=sorry))


@pytest.mark.parametrize(
    ("policy", "left"),
    [
        (OnAllDown.KEEP_LAST, {TWO: 10, THREE: 10}),
        (OnAllDown.KEEP_ALL, {ONE: 10, TWO: 10, THREE: 10}),
        (OnAllDown.EMPTY, {}),
    ],
)
def test_all_servers_down(policy, left):
    decision = all_down(service(on_all_down=policy))
    assert weights(decision) == left
    told = [event for event in decision.events if event.name == "service_down"]
    assert [event.severity for event in told] == [Severity.CRITICAL]
    assert "HTTP 503" in told[0].reason
    assert weights(run(service(on_all_down=policy), decision.memory, verdicts=verdicts(DOWN, DOWN, DOWN))) == left
    after = run(service(on_all_down=policy), decision.memory, verdicts=verdicts(UP, DOWN, DOWN))
    assert weights(after) == {ONE: 10}
    assert "service_up" in names(after)


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (OnAllDown.KEEP_LAST, f"the last to serve stay in the table: {TWO}, {THREE}"),
        (OnAllDown.KEEP_ALL, f"all servers stay in the table: {ONE}, {TWO}, {THREE}"),
        (OnAllDown.EMPTY, "it answers nobody, as on_all_down = empty says"),
    ],
)
def test_what_is_said_of_a_service_that_is_down(policy, words):
    decision = all_down(service(on_all_down=policy, group="web"))
    why = ", ".join(f"{key} is down: HTTP 503, wanted 200" for key in (ONE, TWO, THREE))
    reason = f"no server serves ({why}); {words}"
    assert decision.services[0].reason == reason
    event = decision.events[-1]
    assert (event.group, event.service, event.server, event.reason) == ("web", "http", "", reason)
    assert event.numbers == {"servers": 3, "serving": 0}
    stays = " (stays in the table because no server is up)"
    assert [row.reason for row in decision.servers] == [
        "HTTP 503, wanted 200" + (stays if str(key) in words else "") for key in (ONE, TWO, THREE)
    ]


def test_a_sorry_server_is_for_the_policy_of_that_name_only():
    decision = all_down(replace(with_sorry(), on_all_down=OnAllDown.KEEP_ALL))
    assert weights(decision) == {ONE: 10, TWO: 10, THREE: 10}
    assert "sorry" not in decision.services[0].reason


def test_one_that_asked_for_no_weight_stays_with_its_own_and_another_with_what_it_asked_for():
    plan = service(on_all_down=OnAllDown.KEEP_ALL)
    asked = {f"check {ONE}": 0, f"check {TWO}": 3}
    assert weights(run(plan, verdicts=verdicts(DOWN, DOWN, DOWN), weights=asked)) == {ONE: 10, TWO: 3, THREE: 10}
    assert weights(run(plan, verdicts=verdicts(UP, DOWN, DOWN), weights=asked)) == {ONE: 0, TWO: 3, THREE: 10}


def test_of_many_servers_the_first_reasons_are_told_and_the_others_counted():
    def reason_of(count: int) -> str:
        keys = [DestinationKey(f"198.51.100.{n}", 80) for n in range(1, count + 1)]
        servers = tuple(ServerPlan(Destination(key), (f"check {key}",)) for key in keys)
        found = {f"check {key}": Verdict(f"check {key}", DOWN) for key in keys}
        return run(service(servers=servers, on_all_down=OnAllDown.EMPTY), verdicts=found).services[0].reason

    told = ", ".join(f"198.51.100.{n}:80 is down: its probe fails" for n in range(1, 5))
    assert reason_of(4).startswith(f"no server serves ({told}); ")
    assert reason_of(6).startswith(f"no server serves ({told} and 2 more); ")


def test_the_sorry_server_answers_when_it_is_up():
    decision = all_down(with_sorry())
    assert weights(decision) == {SORRY: 1}
    assert decision.services[0].reason.endswith(f"; the sorry server {SORRY} answers")
    row = decision.servers[-1]
    assert (row.sorry, row.state, row.reason) == (True, ServerState.UP, "")
    back = run(with_sorry(), decision.memory, verdicts=verdicts(UP, DOWN, DOWN, sorry=UP))
    assert weights(back) == {ONE: 10}


def test_a_sorry_server_that_is_down_is_not_used():
    decision = all_down(with_sorry(), sorry=DOWN)
    assert weights(decision) == {TWO: 10, THREE: 10}
    told = f"; the sorry server {SORRY} is down, too; the last to serve stay in the table: {TWO}, {THREE}"
    assert decision.services[0].reason.endswith(told)
    assert decision.servers[-1].reason == "HTTP 503, wanted 200", "nothing of a table that it is not in"


def test_a_sorry_server_that_was_not_probed_yet_is_not_used():
    decision = all_down(with_sorry(), sorry=UNKNOWN)
    assert weights(decision) == {TWO: 10, THREE: 10}
    assert f"the sorry server {SORRY} is not probed yet; " in decision.services[0].reason


def test_a_sorry_server_that_an_administrator_disabled_is_not_used():
    admin = {("http", str(SORRY)): Admin.DISABLED}
    decision = run(with_sorry(), verdicts=verdicts(DOWN, DOWN, DOWN, sorry=UP), admin=admin)
    assert weights(decision) == {}
    assert decision.services[0].reason.endswith(
        f"; the sorry server {SORRY} was disabled by an administrator; no server is left in the table"
    )


@pytest.mark.parametrize("plan", [with_sorry(), service(), service(on_all_down=OnAllDown.KEEP_ALL)], ids=repr)
def test_a_restart_in_an_outage_changes_nothing_and_says_nothing(plan):
    before = all_down(plan)
    kernel = before.wanted
    steps = [(), (DOWN,), (DOWN, DOWN), (DOWN, DOWN, DOWN)]
    memory = before.memory
    for states in steps:
        sorry = UP if len(states) == 3 else UNKNOWN
        decision = run(plan, memory, verdicts=verdicts(*states, sorry=sorry), kernel=kernel)
        assert decision.wanted == kernel, states
        assert not {"service_up", "service_down"} & set(names(decision)), states
        memory = decision.memory
    back = run(plan, memory, verdicts=verdicts(UP, DOWN, DOWN, sorry=UP), kernel=kernel)
    assert weights(back) == {ONE: 10}
    assert "service_up" in names(back)


@pytest.mark.parametrize("plan", [with_sorry(), service(), service(on_all_down=OnAllDown.KEEP_ALL)], ids=repr)
def test_a_restart_without_memory_in_an_outage_never_empties_the_service(plan):
    kernel = all_down(plan).wanted
    memory: Memory = {}
    for states in [(), (DOWN,), (DOWN, DOWN), (DOWN, DOWN, DOWN)]:
        decision = run(plan, memory, verdicts=verdicts(*states), kernel=kernel)
        assert any(weights(decision).values()), states
        memory, kernel = decision.memory, decision.wanted


def test_no_policy_overrules_an_administrator():
    plan = service(on_all_down=OnAllDown.KEEP_ALL)
    admin = {("http", str(ONE)): Admin.DISABLED, ("http", str(TWO)): Admin.DRAINED}
    decision = run(plan, verdicts=verdicts(DOWN, DOWN, DOWN), admin=admin)
    assert weights(decision) == {THREE: 10}


def test_the_sorry_server_stands_in_for_servers_that_were_all_drained():
    admin = {("http", str(key)): Admin.DRAINED for key in (ONE, TWO, THREE)}
    decision = run(with_sorry(), verdicts=verdicts(UP, UP, UP, sorry=UP), admin=admin)
    assert weights(decision) == {ONE: 0, TWO: 0, THREE: 0, SORRY: 1}
    assert f"({ONE} was drained by an administrator, " in decision.services[0].reason


def test_nothing_is_said_of_a_service_before_its_servers_were_looked_at():
    decision = run(service(), verdicts=verdicts(DOWN, DOWN))
    assert decision.services[0].state == "unknown"
    assert "service_down" not in names(decision)


def test_a_weight_that_a_probe_asks_for():
    decision = run(service(), verdicts=verdicts(UP, UP, UP), weights={f"check {ONE}": 3})
    assert weights(decision) == {ONE: 3, TWO: 10, THREE: 10}


@pytest.mark.parametrize(
    ("least", "hysteresis", "down_at", "up_at"),
    [(1, 0, 0, 1), (2, 0, 1, 2), (3, 0, 2, 3), (3, 1, 1, 4), (10, 4, 5, 14)],
)
def test_enough_as_keepalived_counts_it(least, hysteresis, down_at, up_at):
    plan = service(min_weight=least, hysteresis=hysteresis)
    assert not is_enough(plan, down_at, was_down=False)
    assert is_enough(plan, down_at + 1, was_down=False)
    assert is_enough(plan, up_at, was_down=True)
    assert not is_enough(plan, up_at - 1, was_down=True)
    assert not is_enough(plan, 0, was_down=False)


def test_too_few_servers_are_as_none_and_their_connections_live_on():
    plan = with_sorry(min_weight=20)
    before = run(plan, verdicts=verdicts(UP, UP, UP, sorry=UP))
    weak = run(plan, before.memory, verdicts=verdicts(UP, DOWN, DOWN, sorry=UP), kernel=before.wanted)
    assert weights(weak) == {ONE: 0, SORRY: 1}
    assert weak.services[0].reason.startswith(f"too few servers serve: weight 10, wanted 20 ({TWO} is down: HTTP 503")
    assert weak.services[0].reason.endswith(f"wanted 200); the sorry server {SORRY} answers")
    assert "service_down" in names(weak)
    none = run(plan, before.memory, verdicts=verdicts(UP, DOWN, DOWN, sorry=DOWN), kernel=before.wanted)
    assert weights(none) == {ONE: 10, TWO: 10, THREE: 10}, "nobody stands in for the one that serves"
    again = run(plan, weak.memory, verdicts=verdicts(UP, UP, DOWN, sorry=UP), kernel=weak.wanted)
    assert weights(again) == {ONE: 10, TWO: 10}
    assert "service_up" in names(again)


def test_a_service_comes_up_at_more_than_it_goes_down_at():
    plan, memory, states = service(min_weight=20, hysteresis=5), None, []
    told = []
    two = (UP, UP, DOWN)
    for known in ((UP, UP, UP), two, (UP, DOWN, DOWN), two, (UP, UP, UP), two):
        decision = run(plan, memory, verdicts=verdicts(*known))
        states.append(decision.services[0].state)
        told += [name for name in names(decision) if name.startswith("service_")]
        memory = decision.memory
    assert states == ["up", "up", "down", "down", "up", "up"]
    assert told == ["service_down", "service_up"]
    weak = run(plan, verdicts=verdicts(UP, DOWN, DOWN)).services[0].reason
    assert weak.startswith("too few servers serve: weight 10, wanted 25 (")


def test_a_cold_start_waits_for_enough_servers_before_the_sorry_server_stands_in():
    plan = with_sorry(min_weight=20, hysteresis=5)
    first = run(plan, verdicts=verdicts(UP, sorry=UP))
    assert (weights(first), first.services[0].state) == ({ONE: 10}, "unknown")
    assert first.services[0].reason == "its servers are being probed for the first time"
    second = run(plan, first.memory, verdicts=verdicts(UP, UP, sorry=UP))
    assert (weights(second), second.services[0].state) == ({ONE: 10, TWO: 10}, "up")
    assert "service_up" not in names(second), "it was not down"


def test_a_service_without_servers():
    decision = run(service(servers=()))
    assert (weights(decision), decision.servers) == ({}, ())
    assert (decision.services[0].state, decision.services[0].reason) == ("down", "no server is configured")


@pytest.mark.parametrize(
    ("policy", "left"),
    [(OnAllDown.KEEP_LAST, {ONE: 10, THREE: 10}), (OnAllDown.KEEP_ALL, {ONE: 10, TWO: 10, THREE: 10}),
     (OnAllDown.EMPTY, {ONE: 0})],
)  # fmt: skip
def test_too_few_servers_without_a_sorry_server(policy, left):
    plan = service(min_weight=20, on_all_down=policy)
    before = run(plan, verdicts=verdicts(UP, DOWN, UP))
    assert weights(run(plan, before.memory, verdicts=verdicts(UP, DOWN, DOWN), kernel=before.wanted)) == left


def test_a_restart_between_the_marks_leaves_the_sorry_server_to_the_end():
    plan = with_sorry(min_weight=20, hysteresis=5)
    kernel = run(plan, verdicts=verdicts(DOWN, DOWN, DOWN, sorry=UP)).wanted
    memory: Memory = {}
    for known in ((UNKNOWN, UNKNOWN, UNKNOWN), (UP, UNKNOWN, UNKNOWN), (UP, UP, UNKNOWN), (UP, UP, DOWN)):
        decision = run(plan, memory, verdicts=verdicts(*known, sorry=UP), kernel=kernel)
        assert decision.services[0].state == ("down" if known[2] is DOWN else "unknown")
        assert weights(decision)[SORRY] == 1, known
        assert set(weights(decision).values()) <= {0, 1}, "20 is enough to stay up, not to come up"
        kernel, memory = decision.wanted, decision.memory
    back = run(plan, memory, verdicts=verdicts(UP, UP, UP, sorry=UP), kernel=kernel)
    assert weights(back) == {ONE: 10, TWO: 10, THREE: 10}


def test_a_restart_with_too_few_servers_changes_nothing():
    plan = with_sorry(min_weight=20, hysteresis=5)
    before = run(plan, verdicts=verdicts(UP, UP, UP, sorry=UP))
    weak = run(plan, before.memory, verdicts=verdicts(UP, DOWN, DOWN, sorry=UP), kernel=before.wanted)
    memory: Memory = {}
    for states in [(), (UP,), (UP, DOWN), (UP, DOWN, DOWN)]:
        decision = run(plan, memory, verdicts=verdicts(*states, sorry=UP if states else UNKNOWN), kernel=weak.wanted)
        assert decision.wanted == weak.wanted, states
        memory = decision.memory


def test_servers_of_weight_0_serve_nobody():
    zero = {f"check {ONE}": 0, f"check {TWO}": 0}
    decision = run(with_sorry(), verdicts=verdicts(UP, UP, DOWN, sorry=UP), weights=zero)
    assert weights(decision) == {ONE: 0, TWO: 0, SORRY: 1}
    assert decision.services[0].reason.startswith(f"no server serves ({ONE} is up, but has weight 0, ")
    before = run(service(), verdicts=verdicts(UP, UP, UP), weights=zero)
    assert before.services[0].reason == "1 of 3 servers serve"
    after = run(service(), before.memory, verdicts=verdicts(UP, UP, DOWN), weights=zero)
    assert weights(after) == {ONE: 0, TWO: 0, THREE: 10}, "one that is up knows what it wants; the last one may be"


def test_a_server_configured_with_weight_0_never_gets_another():
    servers = tuple(ServerPlan(Destination(key, weight=0), (f"check {key}",)) for key in (ONE, TWO))
    decision = run(service(servers=servers, on_all_down=OnAllDown.KEEP_ALL), verdicts=verdicts(UP, DOWN))
    assert weights(decision) == {ONE: 0}
    assert "service_down" in names(decision)


def test_the_standby_of_an_owner_only_group_wants_nothing():
    plan = service(group="web")
    decision = run(plan, verdicts=verdicts(UP, UP, UP), inactive_groups=frozenset({"web"}))
    assert decision.wanted == {}
    told = (decision.services[0].state, decision.services[0].reason)
    assert told == ("standby", "the owner of its group has it in its table")


def test_a_standby_that_becomes_the_owner_tells_what_fails_anew():
    plan = service(group="web")
    seen = Inputs(verdicts=verdicts(UP, DOWN, UP))
    down = decide(plan := Plan((plan,), {}), seen, {})
    assert names(down).count("server_down") == 1
    standby = decide(plan, replace(seen, inactive_groups=frozenset({"web"})), down.memory)
    assert standby.memory["http"].last_serving == down.memory["http"].last_serving
    assert names(decide(plan, seen, standby.memory)) == ["server_down"]
    assert names(decide(plan, seen, down.memory)) == []


def test_a_takeover_of_an_owner_only_group_is_no_news_of_the_servers_that_are_well():
    plan = service(group="web")
    standby = partial(run, plan, inactive_groups=frozenset({"web"}))
    for before in (None, run(plan, verdicts=verdicts(UP, UP, DOWN)).memory):
        waiting = standby(before, verdicts=verdicts(DOWN, UP, UP))
        taken = run(plan, waiting.memory, verdicts=verdicts(DOWN, UP, UP))
        assert (weights(taken), names(taken)) == ({TWO: 10, THREE: 10}, ["server_down"])
        later = run(plan, taken.memory, verdicts=verdicts(UP, DOWN, UP), kernel=taken.wanted)
        assert [(event.name, event.server) for event in later.events] == [
            ("server_up", str(ONE)), ("server_down", str(TWO)),
        ]  # fmt: skip


def test_one_service_of_many():
    other = service(name="smtp", virtual=VirtualService(ServiceKey(Family.IPV4, "tcp", "192.0.2.1", 25)))
    plan = Plan((service(), other), {})
    memory = decide(plan, Inputs(verdicts=verdicts(UP, UP, UP)), {}).memory
    decision = decide(plan, Inputs(verdicts=verdicts(UP, UP, DOWN)), memory, services={"http"})
    assert list(decision.wanted) == [KEY]
    assert set(decision.memory) == {"http", "smtp"}


@given(
    st.lists(
        st.tuples(st.tuples(*[st.sampled_from(CheckState)] * 4), st.tuples(*[st.sampled_from(Admin)] * 3)), max_size=12
    ),
    st.sampled_from(OnAllDown),
    st.sampled_from(OnFail),
)
def test_what_holds_always(steps, policy, on_fail):
    """A disabled server is never in, a drained one has no weight, one that is up and free always serves."""
    plan = with_sorry(on_fail=on_fail) if policy is OnAllDown.SORRY else service(on_all_down=policy, on_fail=on_fail)
    memory: Memory = {}
    kernel: dict[ServiceKey, TableEntry] = {}
    served = False
    for states, words in steps:
        admin = {("http", str(key)): word for key, word in zip((ONE, TWO, THREE), words, strict=True)}
        decision = run(plan, memory, verdicts=verdicts(*states[:3], sorry=states[3]), admin=admin, kernel=kernel)
        found = weights(decision)
        for key, word, state in zip((ONE, TWO, THREE), words, states[:3], strict=True):
            assert not (word is Admin.DISABLED and key in found)
            assert not (word is Admin.DRAINED and found.get(key))
            assert not (word is Admin.NONE and state is UP and found.get(key) != 10)
        served = served or any(one.state is ServerState.UP for one in decision.servers if not one.sorry)
        if policy is OnAllDown.KEEP_LAST and served and not any(words) and UNKNOWN not in states[:3]:
            assert any(found.values())
        memory, kernel = decision.memory, dict(decision.wanted)
        after = run(plan, memory, verdicts=verdicts(), admin=admin, kernel=kernel)
        assert after.wanted == decision.wanted, "a restart finds nothing to change"
        assert not {"service_up", "service_down"} & set(names(after))


@given(
    st.lists(
        st.tuples(st.tuples(*[st.sampled_from(CheckState)] * 4), st.tuples(*[st.sampled_from(Admin)] * 3)), max_size=8
    ),
    st.sampled_from(OnAllDown),
    st.integers(1, 30),
    st.integers(0, 9),
)
def test_what_holds_always_where_one_is_too_few(steps, policy, least, hysteresis):
    """A core that is born anew finds nothing to change, and an administrator's word is kept."""
    make = with_sorry if policy is OnAllDown.SORRY else partial(service, on_all_down=policy)
    plan = make(min_weight=least, hysteresis=min(hysteresis, least - 1))
    memory: Memory = {}
    kernel: dict[ServiceKey, TableEntry] = {}
    for states, words in steps:
        admin = {("http", str(key)): word for key, word in zip((ONE, TWO, THREE), words, strict=True)}
        decision = run(plan, memory, verdicts=verdicts(*states[:3], sorry=states[3]), admin=admin, kernel=kernel)
        found = weights(decision)
        for key, word in zip((ONE, TWO, THREE), words, strict=True):
            assert not (word is Admin.DISABLED and key in found)
            assert not (word is Admin.DRAINED and found.get(key))
        serving = sum(found.values()) - found.get(SORRY, 0)
        assert not (found.get(SORRY) and serving >= least + hysteresis and decision.services[0].state == "up")
        memory, kernel = decision.memory, dict(decision.wanted)
        after = run(plan, memory, verdicts=verdicts(), admin=admin, kernel=kernel)
        assert after.wanted == decision.wanted, "a restart finds nothing to change"
        assert not {"service_up", "service_down"} & set(names(after))
