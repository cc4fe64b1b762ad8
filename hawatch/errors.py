"""Errors, one class for each party that can be at fault."""

from __future__ import annotations


class HawatchError(Exception):
    """Something that hawatch reports in one sentence."""


class ConfigError(HawatchError):
    """The configuration is not acceptable; `problems` holds every mistake that was found."""

    def __init__(self, message: str, problems: tuple[object, ...] = ()) -> None:
        super().__init__(message)
        self.problems = problems


class UsageError(HawatchError):
    """A command was called in a way that it does not accept."""


class KernelError(HawatchError):
    """The kernel refused something, or lacks what is needed."""

    def __init__(self, message: str, errno: int = 0) -> None:
        super().__init__(message)
        self.errno = errno


class PeerError(HawatchError):
    """A datagram or a frame from another process or node is not what it should be."""


class LocalError(HawatchError):
    """This machine or this process lacks something: a file, a permission, a running agent."""


class RefusedError(HawatchError):
    """A well-formed request was refused for a reason that the asker can act on."""
