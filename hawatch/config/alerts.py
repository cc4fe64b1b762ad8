"""Sections of the configuration about telling: ``[alert.KIND.NAME]``, ``notify``, ``[[depend]]``, ``[console]``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from hawatch.config.durations import DurationBetween
from hawatch.config.fields import Boolean, FilePath, HostPort, Integer, MailAddress, Name, Section, Url, listed
from hawatch.console.period import ACCEPTED as PERIOD_ACCEPTED
from hawatch.console.period import PeriodError, parse_period
from hawatch.model import NS_PER_S, Severity

RECIPIENTS_MAX = 100
ALERTS_MAX = 100
EVENT_NAMES_MAX = 100
CHOICES_MAX = 1000
MAIL_SERVERS_MAX = 8
COMMAND_MAX = 100
DEPENDENCIES_MAX = 1000
NAMES_MAX = 20
USERS_MAX = 100


def check_period(value: str) -> str:
    """Return a period that can be understood."""
    try:
        parse_period(value)
    except PeriodError as error:
        raise PydanticCustomError(
            "unaccepted", "{problem}; accepted: {accepted}", {"problem": str(error), "accepted": PERIOD_ACCEPTED}
        ) from error
    return value


Words = Annotated[tuple[str, ...], BeforeValidator(listed)]
PeriodText = Annotated[str, AfterValidator(check_period)]


class AlertRule(Section):
    """What every alert has: which events it is for, when and how often it is sent, and how long it may take."""

    severity: Severity = Field(default=Severity.WARNING, description="least severity that it is sent for")
    events: Words = Field(
        default=(), max_length=EVENT_NAMES_MAX, description="names of the events that it is sent for; none: all"
    )
    groups: Words = Field(default=(), max_length=CHOICES_MAX, description="only for these groups")
    services: Words = Field(default=(), max_length=CHOICES_MAX, description="only for these services")
    servers: Words = Field(default=(), max_length=CHOICES_MAX, description="only for these servers, by address")
    after: Annotated[int, DurationBetween("0s", "7d")] = Field(
        default=0, description="a failure is told when it has lasted so long"
    )
    after_failures: Annotated[Integer, Field(ge=1, le=100)] = Field(
        default=1, description="a failure is told when it is the so-manieth within the time of `within`"
    )
    within: Annotated[int, DurationBetween("1s", "7d")] = Field(
        default=600 * NS_PER_S, description="for after_failures; one that lasts as long is told as well"
    )
    every: Annotated[int, DurationBetween("1m", "30d")] | None = Field(
        default=None, description="a failure that lasts is told again so often; none: once"
    )
    at_most: Annotated[Integer, Field(ge=0, le=1000)] = Field(
        default=0, description="messages of one failure, besides its end; 0: any number"
    )
    up: Boolean = Field(default=True, description="tell the end of what was told")
    period: PeriodText = Field(
        default="", description='when it is sent, like "wd {Mon-Fri} hr {9am-4pm}"; none: always'
    )
    outside: Literal["hold", "drop"] = Field(
        default="hold", description="outside the period: kept for its beginning, or not told"
    )
    burst: Annotated[Integer, Field(ge=0, le=1000)] = Field(
        default=2, description="messages that are sent at once; what follows is gathered in a digest"
    )
    digest: Annotated[int, DurationBetween("1s", "1d")] = Field(
        default=60 * NS_PER_S, description="time between digests, while there is something to gather"
    )
    directors: Literal["owner", "all"] = Field(
        default="owner",
        description="who tells of servers and services: the director that owns the group, or all of them",
    )
    timeout: Annotated[int, DurationBetween("1s", "5m")] = Field(
        default=10 * NS_PER_S, description="an attempt that takes longer has failed"
    )


class EmailAlert(AlertRule):
    """``[alert.email.NAME]``"""

    to: Annotated[tuple[MailAddress, ...], BeforeValidator(listed)] = Field(
        min_length=1, max_length=RECIPIENTS_MAX, description="recipients"
    )
    sender: MailAddress = Field(alias="from", description="the sender's address")
    server: Annotated[
        tuple[HostPort, ...], BeforeValidator(listed, json_schema_input_type=HostPort | tuple[HostPort, ...])
    ] = Field(max_length=MAIL_SERVERS_MAX, description="mail server and port; several are tried in order")
    tls: Literal["none", "starttls", "tls"] = Field(default="starttls", description="encryption to the mail server")
    verify: Boolean = Field(default=True, description="verify the mail server's certificate")
    ca_file: FilePath = Field(default="", description="PEM file of accepted CAs; none: the system's")
    username: str = Field(default="", max_length=255, description="name to log in with; none: no login")
    password_file: FilePath = Field(default="", description="file that holds the password; mode 0600")
    template: FilePath = Field(
        default="", description="file with the text of a mail about one thing; none: the built-in one"
    )
    digest_template: FilePath = Field(
        default="", description="file with the text of a mail about several things; none: the built-in one"
    )


class WebhookAlert(AlertRule):
    """``[alert.webhook.NAME]``"""

    url: Url = Field(description="address that each event is posted to, as JSON")
    format: Literal["json", "slack", "mattermost", "alertmanager", "ntfy"] = Field(
        default="json", description="what is posted: as documented, or what one of these services accepts"
    )
    headers: dict[str, str] = Field(default={}, max_length=100, description="more headers of the request")
    secret_file: FilePath = Field(default="", description="file with the secret that signs the body; mode 0600")
    ca_file: FilePath = Field(default="", description="PEM file of accepted CAs; none: the system's")


class ProgramAlert(AlertRule):
    """``[alert.program.NAME]``"""

    command: Annotated[tuple[str, ...], BeforeValidator(listed)] = Field(
        min_length=1, max_length=COMMAND_MAX, description="program and its arguments, called as mon calls alert scripts"
    )


class Alerts(Section):
    """``[alert]``"""

    email: dict[Name, EmailAlert] = Field(default={}, max_length=ALERTS_MAX, description="alerts by mail, by name")
    webhook: dict[Name, WebhookAlert] = Field(default={}, max_length=ALERTS_MAX, description="alerts by HTTP, by name")
    program: dict[Name, ProgramAlert] = Field(
        default={}, max_length=ALERTS_MAX, description="alerts by programs, by name"
    )


class GroupNotify(Section):
    """``notify``: programs that are told of a group's state."""

    owner: Words = Field(
        default=(), max_length=COMMAND_MAX, description="program and arguments, run when this director owns the group"
    )
    standby: Words = Field(default=(), max_length=COMMAND_MAX, description="run when it owns the group no more")
    conflict: Words = Field(
        default=(), max_length=COMMAND_MAX, description="run when another machine answers for one of the addresses"
    )
    every: Words = Field(
        default=(),
        max_length=COMMAND_MAX,
        description="run at each of these; GROUP, the name, MASTER, BACKUP or FAULT, and 0 follow its arguments",
    )
    timeout: Annotated[int, DurationBetween("1s", "10m")] = Field(
        default=30 * NS_PER_S, description="one that runs longer is killed, and all that it started"
    )


class Chosen(Section):
    """A choice of failures; what is left out is any."""

    group: str = Field(default="", max_length=63, description="name of a group")
    service: str = Field(default="", max_length=63, description="name of a service")
    server: str = Field(default="", max_length=63, description="address of a server")
    event: str = Field(
        default="", max_length=63, description='name of the event that tells of it, like "director_dead"'
    )


class Depend(Section):
    """``[[depend]]``: while one failure lasts, it explains others, and those are not told."""

    what: Chosen = Field(description="the failures that are explained")
    on: Chosen = Field(description="the failure that explains them")


class PageUser(Section):
    """``[console.user.NAME]``: one who may see the page, or act on it."""

    token_file: FilePath = Field(default="", description="file with the token that he logs in with; mode 0600")
    certificate: str = Field(
        default="", max_length=255, description="common name of his client certificate, which client_ca has signed"
    )
    may: Literal["read", "act"] = Field(default="act", description="whether he may only look, or drain and move too")


class Detail(StrEnum):
    """How far down the metrics go."""

    SERVICE = "service"
    SERVER = "server"
    CHECK = "check"


class ConsoleConfig(Section):
    """``[console]``: the journal, and where the page and the metrics are to be had."""

    keep: Annotated[int, DurationBetween("1h", "3650d")] = Field(
        default=400 * 86400 * NS_PER_S, description="events are kept in the journal for so long"
    )
    listen: HostPort | Literal[""] = Field(
        default="", description="address and port of the page, /metrics, /livez and /readyz; none: nowhere"
    )
    page: Boolean = Field(default=True, description="serve the page; without it only /metrics, /livez and /readyz")
    metrics_detail: Detail = Field(
        default=Detail.SERVER,
        description="how far down /metrics goes: to services, to servers, or to a latency histogram of each check",
    )
    anonymous: Boolean = Field(
        default=True, description="on a loopback address anybody may look; false: only who is logged in"
    )
    names: Annotated[tuple[str, ...], BeforeValidator(listed)] = Field(
        default=(), max_length=NAMES_MAX, description="host names that browsers use for the page, besides addresses"
    )
    certificate: FilePath = Field(default="", description="PEM file of the server's certificate; none: plain HTTP")
    key: FilePath = Field(default="", description="PEM file of its key; mode 0600")
    client_ca: FilePath = Field(default="", description="PEM file of the CA whose client certificates are accepted")
    user: dict[Name, PageUser] = Field(default={}, max_length=USERS_MAX, description="users of the page, by name")
