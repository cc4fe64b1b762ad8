"""Small files in the state directory that hold a few words, one a line. Nothing here waits for the disk."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

BYTES_MAX = 1 << 20


def read_words(path: Path) -> frozenset[str]:
    """Return the words; none where the file cannot be read."""
    try:
        with path.open("rb") as file:
            return frozenset(file.read(BYTES_MAX).decode("utf-8", "replace").split())
    except OSError:
        return frozenset()


def write_words(path: Path, words: Iterable[str]) -> str:
    """Keep the words instead of those before; return a sentence if that cannot be done, else ""."""
    scratch = path.with_name(path.name + ".new")
    try:
        scratch.write_text("".join(f"{word}\n" for word in words), "utf-8")
        os.replace(scratch, path)
    except OSError as error:
        return f"{path} cannot be written ({error.strerror})"
    return ""
