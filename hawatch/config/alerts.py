"""Sections of the configuration about alerts: ``[alert.email.NAME]`` and ``[alert.webhook.NAME]``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from hawatch.config.durations import DurationBetween
from hawatch.config.fields import FilePath, HostPort, MailAddress, Name, Section, Url, listed
from hawatch.model import NS_PER_S, Severity

RECIPIENTS_MAX = 100
ALERTS_MAX = 100
EVENT_NAMES_MAX = 100


class AlertRule(Section):
    """What every alert has: which events it is for, and how long it may take."""

    severity: Severity = Field(default=Severity.WARNING, description="least severity that it is sent for")
    events: Annotated[tuple[str, ...], BeforeValidator(listed)] = Field(
        default=(), max_length=EVENT_NAMES_MAX, description="names of the events that it is sent for; none: all"
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
    server: HostPort = Field(description="mail server and port")
    tls: Literal["none", "starttls", "tls"] = Field(default="starttls", description="encryption to the mail server")
    username: str = Field(default="", max_length=255, description="name to log in with; none: no login")
    password_file: FilePath = Field(default="", description="file that holds the password; mode 0600")


class WebhookAlert(AlertRule):
    """``[alert.webhook.NAME]``"""

    url: Url = Field(description="address that each event is posted to, as JSON")
    headers: dict[str, str] = Field(default={}, max_length=100, description="more headers of the request")


class Alerts(Section):
    """``[alert]``"""

    email: dict[Name, EmailAlert] = Field(default={}, max_length=ALERTS_MAX, description="alerts by mail, by name")
    webhook: dict[Name, WebhookAlert] = Field(default={}, max_length=ALERTS_MAX, description="alerts by HTTP, by name")
