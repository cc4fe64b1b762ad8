"""From the configuration to the policy and to what sends: a target for each alert."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hawatch.actions.email import MailServer, send_mail
from hawatch.actions.group_notify import STATES, notify_group
from hawatch.actions.outgoing import Outgoing, SendError
from hawatch.actions.program import run_alert
from hawatch.actions.webhook import Hook, send_webhook
from hawatch.config.alerts import AlertRule, Chosen, EmailAlert, ProgramAlert, WebhookAlert
from hawatch.config.fields import split_host_port
from hawatch.config.schema import Config, GroupNotify
from hawatch.console.period import parse_period
from hawatch.console.rules import Dependency, Policy, Rule
from hawatch.console.subjects import Match
from hawatch.console.templates import SIZE_MAX, Templates, read_template
from hawatch.model import NS_PER_S, Severity

SECRET_BYTES_MAX = 4096

NOTIFY = "notify"
"""The kind of the targets that are a group's programs: no alerts, so that nothing is gathered or tested."""
UNBOUND = 1 << 31

Send = Callable[[Outgoing, str], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Target:
    """One alert of the configuration."""

    rule: Rule
    recipients: tuple[str, ...]
    send: Send
    template: str = ""
    """File with the text for one thing."""
    digest_template: str = ""
    """File with the text for several things."""


def make_policy(config: Config, targets: dict[str, Target], node: str) -> Policy:
    """Return the policy of a configuration on a node."""
    dependencies = tuple(Dependency(_match(each.what), _match(each.on)) for each in config.depend)
    return Policy(
        tuple(target.rule for target in targets.values()),
        dependencies,
        node=node if config.leased else "",
        first_group=config.group[0].name if config.group else "",
        directors=tuple(each.name for each in config.director),
    )


def make_targets(config: Config) -> dict[str, Target]:
    """Return the targets of a configuration by their rules' names."""
    targets: dict[str, Target] = {}
    for name, mail in config.alert.email.items():
        rule = _rule(f"email/{name}", mail)
        targets[rule.name] = Target(rule, mail.to, partial(_mail, mail), mail.template, mail.digest_template)
    for name, hook in config.alert.webhook.items():
        rule = _rule(f"webhook/{name}", hook)
        targets[rule.name] = Target(rule, (name,), partial(_post, hook))
    for name, program in config.alert.program.items():
        rule = _rule(f"program/{name}", program)
        targets[rule.name] = Target(rule, (name,), partial(_run, program))
    for group in config.group:
        if group.notify is not None:
            name = f"{NOTIFY}/{group.name}"
            rule = Rule(name, Severity.INFO, frozenset(STATES), frozenset((group.name,)), burst=UNBOUND)
            targets[name] = Target(rule, (group.name,), partial(_notify, group.notify))
    return targets


def _match(chosen: Chosen) -> Match:
    return Match(chosen.group, chosen.service, chosen.server, chosen.event)


def _rule(name: str, alert: AlertRule) -> Rule:
    return Rule(
        name=name,
        least=alert.severity,
        events=frozenset(alert.events),
        groups=frozenset(alert.groups),
        services=frozenset(alert.services),
        servers=frozenset(alert.servers),
        after_ns=alert.after,
        after_failures=alert.after_failures,
        within_ns=alert.within,
        every_ns=alert.every or 0,
        at_most=alert.at_most,
        tell_up=alert.up,
        period=parse_period(alert.period),
        hold=alert.outside == "hold",
        burst=alert.burst,
        digest_ns=alert.digest,
        everywhere=alert.directors == "all",
    )


def read_secret(name: str) -> bytes:
    """Return what a secret file holds, without the line's end; raise SendError when it cannot be read."""
    try:
        with open(name, "rb") as file:
            return file.read(SECRET_BYTES_MAX).strip()
    except OSError as error:
        raise SendError(f"{name}: {error.strerror or error}") from error


def read_templates(target: Target) -> tuple[Templates, str]:
    """Return the administrator's own texts, and what is wrong with them: in that case the built-in ones are used."""
    texts: dict[str, str] = {}
    problems: list[str] = []
    for kind, name in (("single", target.template), ("digest", target.digest_template)):
        if not name:
            continue
        try:
            with open(Path(name), "rb") as file:
                texts[kind] = read_template(kind, file.read(SIZE_MAX + 1))
        except (OSError, ValueError) as error:
            problems.append(f"{name}: {getattr(error, 'strerror', '') or error}")
    return Templates(**texts), "; ".join(problems)


async def _mail(alert: EmailAlert, message: Outgoing, recipient: str) -> str:
    password = read_secret(alert.password_file).decode("utf-8", "replace") if alert.password_file else ""
    servers = []
    for each in alert.server:
        host, port = split_host_port(each)
        assert port is not None, each
        servers.append(MailServer(host, port, alert.tls, alert.username, password, alert.ca_file, alert.verify))
    return await send_mail(message, alert.sender, recipient, servers, alert.timeout / NS_PER_S)


async def _post(alert: WebhookAlert, message: Outgoing, _recipient: str) -> str:
    secret = read_secret(alert.secret_file) if alert.secret_file else b""
    hook = Hook(alert.url, alert.format, alert.headers, secret, alert.timeout / NS_PER_S, alert.ca_file)
    return await send_webhook(message, hook)


async def _run(alert: ProgramAlert, message: Outgoing, _recipient: str) -> str:
    return await run_alert(message, alert.command, alert.timeout / NS_PER_S, (alert.every or 0) / NS_PER_S)


async def _notify(notify: GroupNotify, message: Outgoing, _recipient: str) -> str:
    programs = {"owner": notify.owner, "standby": notify.standby, "conflict": notify.conflict}
    return await notify_group(message, programs, notify.every, notify.timeout / NS_PER_S)
