"""Values that options of several probes have."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from hawatch.probes.patterns import Pattern


def checked_regex(value: str) -> str:
    """Return a regular expression as it is; raise ValueError where it is none."""
    if value:
        Pattern(value)
    return value


def spaced_hex(value: str) -> str:
    """Return bytes in hex, with a space after each; raise ValueError where they are none."""
    try:
        return bytes.fromhex(value).hex(" ")
    except ValueError as error:
        raise ValueError(f"not bytes in hex: {error}") from error


Regex = Annotated[str, AfterValidator(checked_regex)]
"""A regular expression, "" for none."""
HexBytes = Annotated[str, AfterValidator(spaced_hex)]
"""Bytes in hex, "" for none."""
