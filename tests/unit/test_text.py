from __future__ import annotations

from hawatch.text import quoted


def test_quoted_is_one_printable_line_and_cut() -> None:
    assert quoted(b"220 hi\x1b[31m\r\n") == '"220 hi [31m"'
    assert len(quoted(b"x" * 1000)) == 162
    assert quoted(b"\xff") == '"\ufffd"'
