"""What the IPVS table should hold, from the configuration, the verdicts and what administrators said.

Theory of operation. `decide` is a pure function, called whenever a verdict or an administrator's word changes. Per
service it finds the state of each server, then what is to be in the table:

* all checks **up**: in, with its weight. **Down**: removed, or weight 0, as `on_fail` says.
* **unknown** (before the first verdict): not in, unless the kernel has it already; then it is left as it is. So a
  restart changes nothing, and a cold start sends nobody to a server that nobody has looked at.
* an administrator's **drain** makes the weight 0, **disable** takes it out; no policy ever overrules either.
* no server serves (one with weight 0 does not): the sorry server, if it is up itself; else as `on_all_down` says.
  `keep_last` keeps the servers that were the last to serve: a probe may be wrong about all of them, and a client loses
  nothing by trying.

A service may ask for more than one server that serves: below `min_weight` all of this holds, too, and those that still
serve get weight 0 where another one stands in for them.

Nothing is decided about a service as a whole while it has servers that were never looked at: where none serves yet,
what the kernel has stays, servers that are down included. So a restart in the midst of an outage empties no service
and takes no sorry server away, and nobody is told that the service is back.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from hawatch.health.seen import Seen, look
from hawatch.model import (
    Admin,
    CheckState,
    Destination,
    DestinationKey,
    Event,
    OnAllDown,
    OnFail,
    Plan,
    ServerPlan,
    ServerState,
    ServiceKey,
    ServicePlan,
    Severity,
    Table,
    TableEntry,
    Verdict,
)

REASONS_SHOWN_LIMIT = 4
"""Reasons of servers named in one sentence about a service; further ones are counted."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a decision is made from, beside the configuration."""

    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    """By check id; a missing one is unknown."""
    admin: Mapping[tuple[str, str], Admin] = field(default_factory=dict)
    """By service name and "address:port"."""
    kernel: Table = field(default_factory=dict)
    """What the kernel holds, for servers without a verdict."""
    weights: Mapping[str, int] = field(default_factory=dict)
    """Weights that probes asked for, by check id."""
    hindrances: Mapping[str, str] = field(default_factory=dict)
    """Why probes cannot be run, by check id."""
    inactive_groups: frozenset[str] = frozenset()
    """Groups whose services this director does not keep in the table now (``ipvs = "owner"`` on a standby)."""


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """A server as status shows it."""

    service: str
    server: str
    """ "address:port" """
    state: ServerState
    weight: int
    """What IPVS is to have; 0 also for one that is not in the table."""
    in_table: bool
    reason: str
    """One sentence; "" for a server that is simply up."""
    since_wall_ns: int = 0
    held_until_wall_ns: int = 0
    sorry: bool = False


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """A service as status shows it."""

    name: str
    state: str
    """ "up", "down", "unknown" or "standby" """
    reason: str


@dataclass(frozen=True, slots=True)
class ServiceMemory:
    """What is remembered of a service from one decision to the next."""

    states: Mapping[DestinationKey, ServerState] = field(default_factory=dict)
    last_serving: frozenset[DestinationKey] = frozenset()
    """The servers that served when any did."""
    down: bool = False
    inherited: bool = False
    """Another agent before us found it down, and it has not been decided on since: nothing was told of that by us."""
    standby: bool = False
    """Another director has it in its table, and tells of its servers."""


Memory = Mapping[str, ServiceMemory]


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be, and what there is to say about it."""

    wanted: Table
    servers: tuple[ServerStatus, ...]
    services: tuple[ServiceStatus, ...]
    events: tuple[Event, ...]
    memory: Memory


def decide(plan: Plan, inputs: Inputs, memory: Memory, services: Collection[str] | None = None) -> Decision:
    """Decide about all services, or about those named in `services` only.

    With `services`, the decision's table, statuses and events are of those services; its memory is complete.
    """
    wanted: dict[ServiceKey, TableEntry] = {}
    servers: list[ServerStatus] = []
    statuses: list[ServiceStatus] = []
    events: list[Event] = []
    remembered = {name: memory[name] for name in (one.name for one in plan.services) if name in memory}
    for service in plan.services:
        if services is not None and service.name not in services:
            continue
        if service.group and service.group in inputs.inactive_groups:
            statuses.append(ServiceStatus(service.name, "standby", "the owner of its group has it in its table"))
            last = memory.get(service.name, ServiceMemory()).last_serving
            remembered[service.name] = ServiceMemory(last_serving=last, standby=True)
            continue
        outcome = _decide_service(service, inputs, memory.get(service.name, ServiceMemory()))
        wanted[service.virtual.key] = outcome.entry
        servers.extend(outcome.servers)
        statuses.append(outcome.status)
        events.extend(outcome.events)
        remembered[service.name] = outcome.memory
    return Decision(wanted, tuple(servers), tuple(statuses), tuple(events), remembered)


@dataclass(frozen=True, slots=True)
class _Outcome:
    entry: TableEntry
    servers: tuple[ServerStatus, ...]
    status: ServiceStatus
    events: tuple[Event, ...]
    memory: ServiceMemory


def _decide_service(service: ServicePlan, inputs: Inputs, memory: ServiceMemory) -> _Outcome:
    present = inputs.kernel.get(service.virtual.key)
    there = present.destinations if present else {}
    seen = [_look(service, server, inputs, there) for server in service.servers]
    counted = (one for one in seen if not (memory.down and one.health is CheckState.UNKNOWN))
    serving = frozenset(one.key for one in counted if one.serves)
    undecided = any(one.state is ServerState.UNKNOWN for one in seen)
    sorry = _look(service, service.sorry, inputs, there) if service.sorry else None
    # What stands in at the start was called by the agent before us, for want of enough servers.
    was_down = memory.down or memory.inherited or bool(sorry and sorry.present and undecided)
    strength = sum(one.weight for one in seen if one.key in serving)
    enough = is_enough(service, strength, was_down=was_down)
    all_down = bool(seen) and not enough and (not undecided or bool(serving and sorry and sorry.present))
    table = _members(service, seen)
    kept: frozenset[DestinationKey] = frozenset()
    words = ""
    if all_down:
        last = memory.last_serving or frozenset(there)
        extra, words = _when_all_down(service, seen, sorry, last)
        if serving and (service.on_all_down is OnAllDown.EMPTY or (sorry and sorry.key in extra)):
            table |= {key: replace(table[key], weight=0) for key in serving}  # their connections live on
        table |= extra
        kept = frozenset(extra)
    elif not serving and service.on_all_down is not OnAllDown.EMPTY:
        held = _held(seen, sorry)
        table |= held
        kept = frozenset(held)
    status = _service_status(service, seen, serving if enough else frozenset(), words, undecided=undecided)
    down = status.state == "down" or (memory.down and status.state == "unknown")
    return _Outcome(
        TableEntry(service.virtual, table),
        tuple(_statuses(service, seen, sorry, table, kept)),
        status,
        (*_server_events(service, seen, memory), *_service_events(service, seen, memory, status)),
        ServiceMemory(
            {one.key: one.state for one in seen},
            serving if enough else memory.last_serving,
            down,
            was_down and status.state == "unknown" and not down,
        ),
    )


def is_enough(service: ServicePlan, strength: int, *, was_down: bool) -> bool:
    """Tell whether servers of this weight, added up, are enough for a service to be up.

    It comes up at `min_weight + hysteresis`, and goes down at 0 or below `min_weight - hysteresis`.
    """
    if was_down:
        return strength >= service.min_weight + service.hysteresis
    return strength > 0 and strength >= service.min_weight - service.hysteresis


def _look(
    service: ServicePlan, server: ServerPlan, inputs: Inputs, there: Mapping[DestinationKey, Destination]
) -> Seen:
    key = server.destination.key
    word = inputs.admin.get((service.name, str(key)), Admin.NONE)
    return look(server, word, inputs.verdicts, inputs.weights, there.get(key), inputs.hindrances)


def _members(service: ServicePlan, seen: Collection[Seen]) -> dict[DestinationKey, Destination]:
    """Return the destinations that the servers' own states call for."""
    table = {}
    for one in seen:
        member = _member(service, one)
        if member is not None:
            table[one.key] = member
    return table


def _member(service: ServicePlan, one: Seen) -> Destination | None:
    configured = replace(one.plan.destination, weight=one.weight)
    match one.admin, one.health:
        case Admin.DISABLED, _:
            return None
        case Admin.DRAINED, CheckState.UNKNOWN:
            return replace(one.present, weight=0) if one.present else None
        case Admin.DRAINED, CheckState.UP:
            return replace(configured, weight=0)
        case _, CheckState.UNKNOWN:
            return one.present
        case _, CheckState.DOWN:
            return replace(configured, weight=0) if service.on_fail is OnFail.QUIESCE else None
    return configured


def _held(seen: Collection[Seen], sorry: Seen | None) -> dict[DestinationKey, Destination]:
    """Return what stays as the kernel has it while none serves and some were never looked at."""
    held = {
        one.key: one.present for one in seen if one.present and (one.admin, one.health) == (Admin.NONE, CheckState.DOWN)
    }
    if sorry and sorry.present and sorry.admin is Admin.NONE and sorry.health is not CheckState.DOWN:
        held[sorry.key] = sorry.present
    return held


def _when_all_down(
    service: ServicePlan, seen: Collection[Seen], sorry: Seen | None, last: frozenset[DestinationKey]
) -> tuple[dict[DestinationKey, Destination], str]:
    """Return the destinations to put in beside the members, and a clause that says what is done."""
    policy = service.on_all_down
    failed = [one for one in seen if one.admin is Admin.NONE and one.health is not CheckState.UP]
    clause = ""
    if policy is OnAllDown.SORRY and sorry is not None:
        why_not = _why_no_sorry(sorry)
        if not why_not:
            return {sorry.key: sorry.plan.destination}, f"the sorry server {sorry.key} answers"
        clause = f"the sorry server {sorry.key} {why_not}; "
        policy = OnAllDown.KEEP_LAST
    if policy is OnAllDown.EMPTY:
        return {}, "it answers nobody, as on_all_down = empty says"
    chosen = failed if policy is OnAllDown.KEEP_ALL else [one for one in failed if one.key in last]
    weighted = ((one, one.weight or one.plan.destination.weight) for one in chosen)
    extra = {one.key: replace(one.plan.destination, weight=weight) for one, weight in weighted if weight}
    if not extra:
        return {}, clause + "no server is left in the table"
    names = ", ".join(str(key) for key in extra)
    whom = "all servers stay" if policy is OnAllDown.KEEP_ALL else "the last to serve stay"
    return extra, f"{clause}{whom} in the table: {names}"


def _why_no_sorry(sorry: Seen) -> str:
    """Return a clause that says why the sorry server cannot stand in; "" when it can."""
    if sorry.admin is not Admin.NONE:
        return f"was {sorry.admin} by an administrator"
    if sorry.health is CheckState.DOWN:
        return "is down, too"
    return "" if sorry.health is CheckState.UP or sorry.present else "is not probed yet"


def _service_status(
    service: ServicePlan, seen: Collection[Seen], serving: frozenset[DestinationKey], words: str, *, undecided: bool
) -> ServiceStatus:
    if not seen:
        return ServiceStatus(service.name, "down", "no server is configured")
    if serving:
        return ServiceStatus(service.name, "up", f"{len(serving)} of {len(seen)} servers serve")
    if undecided:
        return ServiceStatus(service.name, "unknown", "its servers are being probed for the first time")
    reasons = [f"{one.key} {_why_not(one)}" for one in seen if not one.serves]
    told = ", ".join(reasons[:REASONS_SHOWN_LIMIT])
    if len(reasons) > REASONS_SHOWN_LIMIT:
        told += f" and {len(reasons) - REASONS_SHOWN_LIMIT} more"
    if any(one.serves for one in seen):
        strength = sum(one.weight for one in seen if one.serves)
        least = service.min_weight + service.hysteresis
        return ServiceStatus(
            service.name, "down", f"too few servers serve: weight {strength}, wanted {least} ({told}); {words}"
        )
    return ServiceStatus(service.name, "down", f"no server serves ({told}); {words}")


def _why_not(one: Seen) -> str:
    if one.admin is not Admin.NONE:
        return f"was {one.admin} by an administrator"
    if one.health is CheckState.UP:
        return "is up, but has weight 0"
    return f"is down: {one.reason or 'its probe fails'}"


def _statuses(
    service: ServicePlan,
    seen: Collection[Seen],
    sorry: Seen | None,
    table: Mapping[DestinationKey, Destination],
    kept: frozenset[DestinationKey],
) -> list[ServerStatus]:
    rows = []
    for one in (*seen, sorry) if sorry else seen:
        member = table.get(one.key)
        rows.append(
            ServerStatus(
                service.name,
                str(one.key),
                one.state,
                member.weight if member else 0,
                member is not None,
                _reason(one, kept=one.key in kept and one is not sorry),
                one.since_wall_ns,
                one.held_until_wall_ns,
                one is sorry,
            )
        )
    return rows


def _reason(one: Seen, *, kept: bool) -> str:
    match one.state:
        case ServerState.UP:
            return ""
        case ServerState.DISABLED:
            return "disabled by an administrator: `hawatch ctl enable` brings it back"
        case ServerState.DRAINING:
            return "drained by an administrator: no new connections until `hawatch ctl undrain`"
        case ServerState.UNKNOWN if one.present:
            return f"{one.reason or 'not probed yet'}: left as the kernel has it"
        case ServerState.UNKNOWN:
            return f"{one.reason or 'not probed yet'}: not in IPVS before its first good probe"
    reason = one.reason or "its probe fails"
    if one.admin is Admin.DRAINED:
        reason += " (and drained by an administrator)"
    return f"{reason} (stays in the table because no server is up)" if kept else reason


def _server_events(service: ServicePlan, seen: Collection[Seen], memory: ServiceMemory) -> list[Event]:
    events: list[Event] = []
    for one in seen:
        before = memory.states.get(one.key, ServerState.UNKNOWN)
        if one.state is ServerState.DOWN and before is not ServerState.DOWN:
            events.append(_server_event("server_down", service, one, one.reason or "its probe fails", Severity.WARNING))
        elif one.state is ServerState.UP and before is ServerState.DOWN:
            events.append(_server_event("server_up", service, one, "its probes pass again", Severity.INFO))
        elif memory.standby:
            continue  # nothing happened to a server that is well
        elif one.state is ServerState.UP and before is ServerState.UNKNOWN and one.present is None:
            reason = "its first probe passed" if one.plan.checks else "it has no probe, so it counts as up"
            events.append(_server_event("server_up", service, one, reason, Severity.INFO))
    return events


def _server_event(name: str, service: ServicePlan, one: Seen, reason: str, severity: Severity) -> Event:
    return Event(
        name,
        reason,
        severity,
        service.group,
        service.name,
        str(one.key),
        {"weight": one.weight, "checks": len(one.plan.checks)},
    )


def _service_events(
    service: ServicePlan, seen: Collection[Seen], memory: ServiceMemory, status: ServiceStatus
) -> list[Event]:
    numbers = {"servers": len(seen), "serving": sum(one.serves for one in seen)}
    if status.state == "down" and not memory.down:
        return [Event("service_down", status.reason, Severity.CRITICAL, service.group, service.name, "", numbers)]
    if status.state == "up" and memory.down:
        return [Event("service_up", status.reason, Severity.INFO, service.group, service.name, "", numbers)]
    return []
