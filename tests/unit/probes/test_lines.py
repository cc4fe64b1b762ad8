from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hawatch.plugin import Receive
from hawatch.probes.lines import LINE_LIMIT, LineReader, UnexpectedAnswer


def read_all(reader: LineReader, pieces: list[bytes]) -> tuple[list[bytes], str]:
    """Read lines until the reader refuses; return them and the refusal."""
    lines = []
    rest = iter(pieces)
    while True:
        generator = reader.line("answer")
        data = None
        try:
            while True:
                assert isinstance(generator.send(data), Receive)
                data = next(rest, b"")
        except StopIteration as end:
            lines.append(end.value)
        except UnexpectedAnswer as refusal:
            return lines, str(refusal)


@given(st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"").rstrip(b"\r"))), st.data())
def test_lines_come_whole_however_they_are_cut(lines: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(line + b"\r\n" for line in lines)
    pieces = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        pieces.append(stream[:size])
        stream = stream[size:]
    assert read_all(LineReader(), pieces) == (lines, "connection closed by the server, wanted answer")


def test_deadline_tells_a_begun_line_from_none() -> None:
    generator = LineReader().line("greeting")
    assert generator.send(None) == Receive("greeting")
    assert generator.send(b"220") == Receive("end of greeting")


def test_end_in_mid_line() -> None:
    assert read_all(LineReader(), [b"22"])[1] == 'connection closed by the server after "22", wanted answer'


def test_endless_line() -> None:
    limit = f"answer with a line of more than {LINE_LIMIT} bytes"
    assert read_all(LineReader(), [b"x" * 1000] * 1000) == ([], limit)
    assert read_all(LineReader(), [b"x" * (LINE_LIMIT + 1) + b"\n"]) == ([], limit)
    assert read_all(LineReader(), [b"x" * LINE_LIMIT + b"\n"])[0] == [b"x" * LINE_LIMIT]


def test_endless_lines() -> None:
    lines, refusal = read_all(LineReader(), [b"x" * 999 + b"\n"] * 1000)
    assert len(lines) == 65
    assert refusal == "server said more than 65536 bytes, last in its answer"


def test_secrets_are_not_quoted() -> None:
    assert LineReader("geheim", "").quoted(b"-ERR geheim?") == '"-ERR ***?"'
