"""Small files in the state directory, replaced whole; some of them hold a few words, one a line.

Writing waits for the disk: a thread does it, never a loop.
"""

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
    return write_text(path, "".join(f"{word}\n" for word in words))


def write_text(path: Path, text: str) -> str:
    """Replace a file, so that it is there whole, or as it was; return a sentence if that cannot be done, else ""."""
    scratch = path.with_name(path.name + ".new")
    try:
        with scratch.open("wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        return f"{path} cannot be written ({error.strerror})"
    return ""
