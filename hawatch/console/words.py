"""What a message says: a subject that fits a phone, and a body with all that is known, from templates."""

from __future__ import annotations

from collections.abc import Iterable
from string import Template

from hawatch.actions.outgoing import Happening, Outgoing
from hawatch.console.history import Item, ItemKind, Message
from hawatch.console.rules import SEVERITIES
from hawatch.console.sharing import SHARED
from hawatch.console.store import event_ns
from hawatch.console.subjects import failure_of, noun_of
from hawatch.console.templates import DIGEST, SINGLE, Templates, fill
from hawatch.model import NS_PER_S, Severity

LINES_MAX = 50
"""Things that a digest spells out."""
REASON_MAX = 300
NEXT_SERVER = """\
Look:      hawatch ctl status
History:   hawatch ctl events --service $service
Seen to:   hawatch ctl ack $service"""
NEXT_OTHER = "Look:      hawatch ctl status\nHistory:   hawatch ctl events"
WORDS = {
    "server_down": "DOWN", "service_down": "DOWN, no server left", "director_dead": "DIRECTOR DEAD",
    "link_down": "LINK DOWN", "quorum_lost": "QUORUM LOST", "worker_lost": "PROCESS LOST",
    "server_up": "up", "service_up": "up", "director_alive": "director alive", "link_up": "link up",
    "quorum_regained": "quorum regained", "worker_restarted": "process restarted",
    "witness_dead": "WITNESS DEAD", "witness_alive": "witness alive", "server_removed": "removed",
    "service_removed": "removed", "director_removed": "director removed", "witness_removed": "witness removed",
    "link_removed": "link removed", "worker_removed": "process removed", "server_standby": "left to the owner",
    "service_standby": "left to the owner", "journal_broken": "JOURNAL BROKEN", "journal_mended": "journal mended",
}  # fmt: skip


def render(
    message: Message,
    *,
    cluster: str,
    node: str,
    created_ns: int,
    twice: bool = False,
    templates: Templates = Templates(),  # noqa: B008 - frozen
    state: str = "",
) -> Outgoing:
    """Return a message as it is sent; `state` is how things stand around what it tells of."""
    happenings = tuple(_happening(item) for item in message.items)
    if message.test:
        values: dict[str, str] = {}
        subject = f"[{cluster}] test of {message.rule}"
        body = f"This is a test of the alert {message.rule}, asked for on {node}.\nNothing has failed."
    elif message.digest:
        default, values = DIGEST, _digest_values(message)
        subject, body = fill(templates.digest or default, {**values, "cluster": cluster, "node": node})
    else:
        default, values = SINGLE, _single_values(message.items[0], state)
        subject, body = fill(templates.single or default, {**values, "cluster": cluster})
    if not message.test and not subject:
        subject = f"[{cluster}] {values['what']}"
    loudest = max((SEVERITIES.index(Severity(each.severity)) for each in happenings), default=0)
    return Outgoing(
        key=message.key,
        subject=subject,
        body=body.rstrip("\n"),
        date_s=created_ns / NS_PER_S,
        severity=str(SEVERITIES[loudest]),
        happenings=happenings,
        more=message.more,
        threads=tuple(dict.fromkeys(thread_of(message.rule, item) for item in message.items)),
        above=tuple(
            dict.fromkeys(day_of(message.rule, item) for item in message.items if noun_of(item.record) in SHARED)
        ),
        begins=not message.digest and not message.test and message.items[0].kind in (ItemKind.DOWN, ItemKind.NOTICE),
        cluster=cluster,
        node=node,
        twice=twice,
        test=message.test,
    )


def thread_of(rule: str, item: Item) -> str:
    """Return the word that a failure, its repetitions and its end have in common."""
    return f"{rule} {item.subject} {item.since_ns or item.record.id}"


def day_of(rule: str, item: Item) -> str:
    """Return the word that the failures of one server or service of one day have in common, whoever tells of them."""
    return f"{rule} {item.subject} day {(item.since_ns or event_ns(item.record)) // (86400 * NS_PER_S)}"


def duration(seconds: float) -> str:
    """Return a duration as people say it: 45 s, 3 min 20 s, 5 h 3 min, 2 d 4 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    for big, small, big_s, small_s in (("min", "s", 60, 1), ("h", "min", 3600, 60), ("d", "h", 86400, 3600)):
        if whole < big_s * {"min": 60, "h": 24, "d": 10**6}[big]:
            rest = whole % big_s // small_s
            return f"{whole // big_s} {big}" + (f" {rest} {small}" if rest else "")
    raise AssertionError(seconds)


def _subject_words(item: Item) -> str:
    record = item.record
    if record.server:
        return f"{record.service} {record.server}".strip()
    return record.service or record.group or record.node


def _headline(item: Item) -> str:
    """Return one thing in one line: what, how, since when."""
    record, word = item.record, WORDS.get(item.record.name, item.record.name.replace("_", " ").upper())
    if item.kind is ItemKind.UP:
        lasted = f" after {duration(_lasted_s(item))}" if item.since_ns else ""
        return f"{_subject_words(item)} {word}{lasted}"
    again = f" (still, told {item.count} times)" if item.kind is ItemKind.AGAIN else ""
    return f"{_subject_words(item)} {word}: {_short(record.reason)}{again}"


def _short(reason: str) -> str:
    return reason if len(reason) <= REASON_MAX else reason[: REASON_MAX - 3] + "..."


def _lasted_s(item: Item) -> float:
    return max(0.0, (event_ns(item.record) - item.since_ns) / NS_PER_S)


def _happening(item: Item) -> Happening:
    record = item.record
    return Happening(
        kind=str(item.kind),
        name=record.name,
        time=record.time,
        severity=record.severity,
        node=record.node,
        reason=record.reason,
        group=record.group,
        service=record.service,
        server=record.server,
        began_s=item.since_ns / NS_PER_S,
        lasted_s=_lasted_s(item) if item.kind is ItemKind.UP and item.since_ns else None,
        numbers=record.numbers,
        failure=failure_of(record),
    )


def _single_values(item: Item, state: str) -> dict[str, str]:
    """Return what a template for one thing may name."""
    record = item.record
    where = "".join(
        f"{title:<10}{value}\n"
        for title, value in (("Group:", record.group), ("Service:", record.service), ("Server:", record.server))
        if value
    )
    following = Template(NEXT_SERVER if record.service else NEXT_OTHER).safe_substitute(service=record.service)
    return {
        "what": _headline(item),
        "reason": record.reason,
        "time": record.time,
        "lasted": f"Lasted:   {duration(_lasted_s(item))}\n" if item.kind is ItemKind.UP and item.since_ns else "",
        "node": record.node,
        "where": where,
        "numbers": "".join(f"{name}: {value}\n" for name, value in sorted(record.numbers.items())),
        "state": state,
        "next": following,
        "name": record.name,
        "severity": record.severity,
        "group": record.group,
        "service": record.service,
        "server": record.server,
    }


def _last_of_each(items: Iterable[Item]) -> dict[str, Item]:
    last: dict[str, Item] = {}
    for item in items:
        last[item.subject] = item
    return last


def _digest_subject(message: Message) -> str:
    """Return how many fail now and how many are well again, and the one that says most."""
    last = _last_of_each(message.items).values()
    down = [item for item in last if item.kind in (ItemKind.DOWN, ItemKind.AGAIN)]
    up = sum(item.kind is ItemKind.UP for item in last)
    notices = sum(item.kind is ItemKind.NOTICE for item in last)
    parts = [f"{len(down)} DOWN" if down else "", f"{up} up again" if up else "", f"{notices} other" if notices else ""]
    more = [f"{message.more} more"] if message.more else []
    loudest = max(down, key=lambda item: SEVERITIES.index(Severity(item.record.severity)), default=None)
    first = f"; {_headline(loudest)}" if loudest is not None else ""
    return ", ".join([*(part for part in parts if part), *more]) + first


def _digest_values(message: Message) -> dict[str, str]:
    """Return what a template for several things may name."""
    lines = [f"{item.record.time}  {_headline(item)}" for item in message.items[:LINES_MAX]]
    left = len(message.items) - LINES_MAX + message.more
    if left > 0:
        lines.append(f"... and {left} more: hawatch ctl events")
    return {
        "count": str(len(message.items) + message.more),
        "what": _digest_subject(message),
        "lines": "\n".join(lines) + "\n",
        "next": NEXT_OTHER,
    }
