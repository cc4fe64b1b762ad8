"""Foreign text, made fit to be shown to a person on a terminal."""

from __future__ import annotations

TEXT_LIMIT = 160
"""Characters of foreign text that a reason quotes at most."""


def quoted(data: bytes | bytearray) -> str:
    """Return what a server said, fit for a reason: one line, printable, in quotes, cut.

    It may be megabytes, so no more of them is looked at than may be shown.
    """
    head = data.lstrip()[: 4 * (TEXT_LIMIT + 1)]
    return f'"{cut(clean(head.decode("utf-8", "replace")))}"'


def clean(text: str) -> str:
    """Return `text` in one line without characters that could do something to a terminal."""
    return "".join(character if character.isprintable() else " " for character in text).strip()


def cut(text: str, limit: int = TEXT_LIMIT) -> str:
    """Return at most `limit` characters of `text`."""
    return text if len(text) <= limit else text[: limit - 3] + "..."
