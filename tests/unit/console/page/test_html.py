from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hawatch.console.page.html import Html, join, tag, text


def test_elements():
    assert tag("p", "a < b", class_="note", id=None, hidden=True) == '<p class="note" hidden>a &lt; b</p>'
    assert tag("input", name="what", value='"><script>') == '<input name="what" value="&quot;&gt;&lt;script&gt;">'
    assert join("<", tag("b", "x"), None, 3) == "&lt;<b>x</b>3"
    assert tag("div", aria_label="a") == '<div aria-label="a"></div>'


@given(st.text())
def test_text_cannot_become_html(words):
    made = text(words)
    assert not set(made) & set("<>\"'")
    assert isinstance(made, Html)
    assert made.isprintable()


def test_a_string_that_only_looks_like_html_is_escaped():
    assert join("<b>") == "&lt;b&gt;"
    assert text("a\u202eb\x00") == "a?b?"
