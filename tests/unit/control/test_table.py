"""What `hawatch top` draws."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from hawatch.control.table import Choice, Order, screen, scrolled, server_lines, whole
from hawatch.control.view import Tone
from tests.unit.console.page.sample import server, service, view

NOW = datetime(2026, 1, 1, 1, 0, 0, tzinfo=UTC)


def site(count=3, **more):
    return view(
        services=[
            service(*(server(f"192.0.2.{number + 1}", **more) for number in range(count)), name=name)
            for name in ("http", "smtp")
        ]
    )


def test_a_small_terminal():
    lines = screen(view(), Choice(), (80, 24), NOW)
    assert len(lines) == 24
    assert lines[0].text.startswith("lvs1  cluster epn")
    assert (lines[1].text, lines[1].tone) == ("All is well: 2 of 2 servers up", Tone.GOOD)
    text = "\n".join(line.text for line in lines)
    for words in ("group web  owner  owner lvs1", "node lvs2  alive  10.99.0.2 up", "http  tcp 192.0.2.110:80  2 of 2 up",
                  "192.0.2.1:80  up  1h 0m  w 1  12 conn.  7/s  2.5MB/s  0.8 ms", "q quit"):  # fmt: skip
        assert words in text


@given(st.integers(1, 200), st.integers(1, 60), st.integers(0, 100), st.sampled_from(list(Order)), st.booleans())
def test_any_size_is_filled_and_kept(columns, rows, offset, order, troubled):
    lines = screen(site(20, state="down", reason="x" * 300), Choice(order, troubled, offset), (columns, rows), NOW)
    assert len(lines) == rows
    assert all(len(line.text) <= columns for line in lines)


def test_what_a_server_says_cannot_steer_the_terminal():
    found = view(services=[service(server(state="down", reason="\x1b[2Jgone"))])
    assert "\x1b" not in "".join(line.text for line in screen(found, Choice(), (200, 30), NOW))
    assert "\x1b" not in "".join(whole(found, Choice(), NOW))


def test_sorted_and_chosen():
    found = view(services=[service(server(active=1, latency_ms=9.0), server("192.0.2.2", "down", active=5),
                                   server("192.0.2.9", sorry=True))])  # fmt: skip
    first = {order: server_lines(found, Choice(order), NOW)[0].text.split()[1] for order in list(Order)[1:]}
    assert first == {Order.STATE: "192.0.2.2:80", Order.CONNECTIONS: "192.0.2.2:80", Order.LATENCY: "192.0.2.1:80"}
    lines = server_lines(found, Choice(troubled=True), NOW)
    assert ["192.0.2.2:80" in line.text for line in lines] == [False, True]
    assert Choice(Order.LATENCY, offset=3).turned() == Choice(Order.SERVICE)


def test_in_80_columns_a_reason_is_read():
    down = server("192.0.2.2", "down", active=0, connections_per_s=0, latency_ms=None, in_table=False, weight=0,
                  reason="HTTP 503, wanted 200")  # fmt: skip
    busy = server(active=1200, connections_per_s=100, bytes_in_per_s=1e6, latency_ms=12.5)
    lines = [line.text for line in screen(view(services=[service(busy, down)]), Choice(), (80, 24), NOW)]
    assert "  192.0.2.2:80  down  1h 0m  w out  HTTP 503, wanted 200" in lines
    assert "  192.0.2.1:80  up    1h 0m  w 1    1.2k conn.  100/s  1.0MB/s  12.5 ms" in lines


def test_what_is_looked_for():
    found = view(services=[service(server(), server("192.0.2.2", "down", reason="HTTP 503")), service(name="empty")])
    for words, count in (("", 2), ("http", 2), ("503", 1), ("DOWN", 1), ("2.2:80", 1), ("none such", 0)):
        lines = [line.text for line in screen(found, Choice(words=words), (80, 24), NOW)]
        assert sum("192.0.2." in line and "w 1" in line for line in lines) == count
        assert any("no server is like that" in line for line in lines) is (count == 0)
    assert "find: 50_" in screen(found, Choice(words="50"), (80, 24), NOW, typing=True)[-1].text


def test_scrolling_stays_in_the_list():
    found = site(30)
    assert scrolled(Choice(), -5, found, NOW).offset == 0
    assert scrolled(Choice(), 1000, found, NOW).offset == 61
    end = screen(found, Choice(offset=61), (80, 24), NOW)
    assert any("192.0.2.30:80" in line.text for line in end)
    assert "line " in "".join(line.text for line in end)


def test_an_agent_that_is_gone_is_said():
    lines = screen(view(), Choice(), (80, 24), NOW, lost="no agent answers")
    assert "NO ANSWER: no agent answers; this is old" in lines[1].text
