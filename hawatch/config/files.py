"""What a configuration names of this machine: files, there, readable and nobody else's to read, and a group of users.

Has effects: it looks.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path as FilePath

from hawatch.config.positions import Path
from hawatch.config.problems import Finding
from hawatch.config.schema import Config
from hawatch.console.templates import PLACES, SIZE_MAX, read_template

OTHERS_BITS = 0o077
AGENT_USER = "hawatch"
"""The account that the units use: root checks a file for it."""


@dataclass(frozen=True, slots=True)
class FileFinding:
    """What is wrong with a named file, or group of users."""

    finding: Finding
    absent: bool = False
    """It is not there or cannot be looked at: the agent cannot start with that, but a file may be checked on
    another machine than its own."""


def secret_files(config: Config) -> Iterator[tuple[Path, str]]:
    """Yield the files that only their owner may read, with the paths of the keys that name them."""
    if config.cluster.key_file:
        yield ("cluster", "key_file"), config.cluster.key_file
    for name, alert in config.alert.email.items():
        if alert.password_file:
            yield ("alert", "email", name, "password_file"), alert.password_file
    for name, hook in config.alert.webhook.items():
        if hook.secret_file:
            yield ("alert", "webhook", name, "secret_file"), hook.secret_file
    if config.console.key:
        yield ("console", "key"), config.console.key
    for name, user in config.console.user.items():
        if user.token_file:
            yield ("console", "user", name, "token_file"), user.token_file


def template_files(config: Config) -> Iterator[tuple[Path, str, str]]:
    """Yield the templates of mail: the path of the key, the kind, and the file."""
    for name, alert in config.alert.email.items():
        for key, kind, file in (
            ("template", "single", alert.template),
            ("digest_template", "digest", alert.digest_template),
        ):
            if file:
                yield ("alert", "email", name, key), kind, file


def check_files(config: Config) -> tuple[FileFinding, ...]:
    """Look at every secret file and template that the configuration names; return what is wrong."""
    found = [check_secret_file(path, name) for path, name in secret_files(config)]
    found += [check_template_file(path, kind, name) for path, kind, name in template_files(config)]
    return tuple(finding for finding in found if finding is not None)


def check_group(config: Config) -> tuple[FileFinding, ...]:
    """Look whether there is the group of users that may use `hawatch ctl`. A director needs it, a witness does not."""
    if config.control.group:
        try:
            grp.getgrnam(config.control.group)
        except KeyError:
            message = "no group of users of this name on this machine"
            finding = Finding(("control", "group"), message, "the name of a group, as in /etc/group")
            return (FileFinding(finding, absent=True),)
    return ()


def check_template_file(path: Path, kind: str, name: str) -> FileFinding | None:
    """Look at one template."""
    accepted = f"a text with places: {', '.join('$' + place for place in sorted(PLACES[kind]))}"
    try:
        with open(name, "rb") as file:
            read_template(kind, file.read(SIZE_MAX + 1))
    except OSError as error:
        return FileFinding(Finding(path, f"{name}: {error.strerror or error}", accepted), absent=True)
    except ValueError as error:
        return FileFinding(Finding(path, f"{name}: {error}", accepted))
    return None


def check_secret_file(path: Path, name: str) -> FileFinding | None:
    """Look at one file."""
    accepted = "a regular file of mode 0600, owned by root or by the agent's user"
    try:
        status = FilePath(name).stat()
    except OSError as error:
        message = f"{name}: {error.strerror or error}"
        if path == ("cluster", "key_file"):
            message += "; `hawatch keygen` makes one"
        return FileFinding(Finding(path, message, accepted), absent=True)
    if not stat.S_ISREG(status.st_mode):
        return FileFinding(Finding(path, f"{name} is no regular file", accepted))
    mode = stat.S_IMODE(status.st_mode)
    if mode & OTHERS_BITS:
        return FileFinding(Finding(path, f"others may read or write {name}", accepted, f"mode {mode:04o}"))
    if status.st_uid not in owners():
        return FileFinding(Finding(path, f"{name} is another user's", accepted, f"owner {status.st_uid}"))
    if not os.access(name, os.R_OK, effective_ids=True):
        message = f"{name} cannot be read by user {os.geteuid()}, who runs this: `chown` gives it to him"
        return FileFinding(Finding(path, message, accepted, f"owner {status.st_uid}"), absent=True)
    return None


def owners() -> set[int]:
    """Return whose a secret file may be."""
    accepted = {0, os.geteuid()}
    if os.geteuid() == 0:
        with contextlib.suppress(KeyError):
            accepted.add(pwd.getpwnam(AGENT_USER).pw_uid)
    return accepted
