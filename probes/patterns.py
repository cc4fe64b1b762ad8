"""Regular expressions that look at what a server said: none takes longer than its limit, whatever the server says.

Python's own `re` has no limit of time, and an ordinary expression (``<title>.*ok</title>``) takes minutes on a megabyte
that was made for it, in which no other check would run. So the `regex` package matches, which stops in time. It is
imported by those only who have an expression in their configuration: it costs two megabytes.
"""

from __future__ import annotations

import time

LIMIT_S = 0.05
"""CPU time of all searches in one answer."""


class TooSlow(Exception):
    """A search was given up; the message says so, for a reason."""


class Pattern:
    """A regular expression over bytes, made of text in UTF-8."""

    def __init__(self, text: str) -> None:
        """Compile; raise ValueError where it is no regular expression."""
        import regex

        self.text = text
        try:
            self.compiled = regex.compile(text.encode())
        except (regex.error, RecursionError, OverflowError) as error:
            raise ValueError(f"not a regular expression: {error}") from error


class Search:
    """The search for a pattern in one answer, which may come in pieces."""

    def __init__(self, pattern: Pattern) -> None:
        self._pattern = pattern
        self._left_s = LIMIT_S

    def found_in(self, data: bytes | bytearray) -> bool:
        """Tell whether the pattern matches somewhere; raise TooSlow when that takes too long to find out."""
        began_s = time.thread_time()
        try:
            if self._left_s > 0:
                return self._pattern.compiled.search(data, timeout=self._left_s) is not None
        except TimeoutError:
            pass
        finally:
            self._left_s -= time.thread_time() - began_s
        limit = f"{LIMIT_S * 1000:g} ms"
        raise TooSlow(
            f'looking for "{self._pattern.text}" in {len(data)} bytes took more than {limit}: make it simpler'
        ) from None
