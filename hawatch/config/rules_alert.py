"""Rules about alerts."""

from __future__ import annotations

from collections.abc import Iterator

from hawatch.config.problems import Finding
from hawatch.config.schema import Config


def logins(config: Config) -> Iterator[Finding]:
    """A login has a name and a password."""
    for name, alert in config.alert.email.items():
        here = ("alert", "email", name)
        if alert.username and not alert.password_file:
            yield Finding((*here, "username"), "a username without a password_file", "both or neither")
        if alert.password_file and not alert.username:
            yield Finding((*here, "password_file"), "a password_file without a username", "both or neither")


def headers(config: Config) -> Iterator[Finding]:
    """A header of a webhook is one line."""
    for name, alert in config.alert.webhook.items():
        for header, value in alert.headers.items():
            if not header.isascii() or not header.replace("-", "").isalnum() or not value.isprintable():
                yield Finding(
                    ("alert", "webhook", name, "headers", header), "no header of HTTP", "a name and one line of text"
                )


def mail_servers(config: Config) -> Iterator[Finding]:
    """Mail goes somewhere."""
    for name, alert in config.alert.email.items():
        if not alert.server:
            yield Finding(("alert", "email", name, "server"), "no mail server", "one or several, in order")


RULES = (logins, headers, mail_servers)
