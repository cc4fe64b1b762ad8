"""What has changed since when: every piece of the page carries the version in which it changed last.

A browser says which version it has and gets the pieces that are newer: nothing is remembered of any browser, so a
slow one, or a thousand of them, cost nothing here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

T = TypeVar("T")


class Board(Generic[T]):
    """Pieces by id; a piece is anything that can be compared."""

    def __init__(self, birth: str) -> None:
        self.birth = birth
        """Says which process counts the versions: another one begins anew."""
        self.version = 0
        self._pieces: dict[str, tuple[int, T]] = {}

    def put(self, pieces: Mapping[str, T]) -> bool:
        """Show these pieces, and no other; tell whether anything changed."""
        new, changed = self.version + 1, len(pieces) != len(self._pieces)
        after: dict[str, tuple[int, T]] = {}
        for key, piece in pieces.items():
            known = self._pieces.get(key)
            if known is not None and (known[1] is piece or known[1] == piece):
                after[key] = known
            else:
                after[key] = (new, piece)
                changed = True
        self._pieces = after
        if changed:
            self.version = new
        return changed

    def patch(self, pieces: Mapping[str, T]) -> bool:
        """Show some pieces in place of what they were, and leave the others; tell whether anything changed."""
        new = self.version + 1
        changed = {
            key: (new, piece)
            for key, piece in pieces.items()
            if (known := self._pieces.get(key)) is not None and known[1] != piece
        }
        if changed:
            self._pieces = self._pieces | changed
            self.version = new
        return bool(changed)

    def copy(self) -> Board[T]:
        """Return the board as it is now, which nobody changes."""
        made: Board[T] = Board(self.birth)
        made.version, made._pieces = self.version, self._pieces
        return made

    def get(self, key: str) -> T | None:
        """Return a piece. The same object as long as it has not changed."""
        found = self._pieces.get(key)
        return found[1] if found is not None else None

    def newer(self, keys: Iterable[str], since: int) -> list[str]:
        """Return those of some pieces that changed after a version."""
        return [key for key in keys if (found := self._pieces.get(key)) is not None and found[0] > since]

    @property
    def stamp(self) -> str:
        """What a browser is given to say which version it has."""
        return f"{self.birth}.{self.version}"

    def since(self, stamp: str) -> int | None:
        """Return the version of a stamp; None for another process's, or for what is none."""
        birth, _, number = stamp.rpartition(".")
        if birth != self.birth or not number.isascii() or not number.isdigit() or len(number) > 12:
            return None
        version = int(number)
        return version if version <= self.version else None
