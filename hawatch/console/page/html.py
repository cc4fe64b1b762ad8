"""HTML that is right by construction: text is escaped unless it was made here."""

from __future__ import annotations

import re
from functools import lru_cache
from html import escape
from typing import Final

SPECIAL: Final = re.compile("[&<>\"']")
VOID: Final = frozenset({"input", "link", "meta", "br"})

Attribute = str | int | bool | None


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


Part = Html | str | int | None


def text(value: object) -> Html:
    """Return text as HTML; letters that could hide or turn what follows are shown as question marks."""
    words = str(value)
    if not words.isprintable():
        words = "".join(letter if letter.isprintable() else "?" for letter in words)
    return Html(escape(words, quote=True) if SPECIAL.search(words) else words)


def join(*parts: Part) -> Html:
    """Return parts one after the other; what is no HTML is escaped."""
    return Html("".join(part if type(part) is Html else text(part) for part in parts if part is not None))


@lru_cache(maxsize=200)
def _attribute_name(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def tag(name: str, /, *parts: Part, **attributes: Attribute) -> Html:
    """Return an element. An attribute that is None or False is left out; `class_` is `class`, `a_b` is `a-b`."""
    words = name
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        shown = _attribute_name(key)
        words += f" {shown}" if value is True else f' {shown}="{text(value)}"'
    return Html(f"<{words}>") if name in VOID else Html(f"<{words}>{join(*parts)}</{name}>")
