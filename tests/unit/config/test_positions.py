"""Every key of a TOML document is found on its line, in whatever form it is written."""

from __future__ import annotations

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from hawatch.config.positions import DEPTH_MAX, TooDeepError, find_positions

DOCUMENT = '''\
# c [x]
top = 1
[cluster]  # x = 2
name = "x#]"
"quo ted".'b c' = """
multi "" ]
# no comment
""""" # c
[[service]]
name="a"
probe = { type = "http", status = [200,
  301], x.y = 'q' }
[[service.server]]
address = "1"
[[service.server]]
address = "2"
[service.tunnel]
when = 1979-05-27 07:32:00
[[service]]
server = [
  # one
  { address = "a", weight = 1 },
  { address = "b}\\"" }, # two
  ]
nothing = []
text = \'\'\'it's
'' ok\'\'\'
[[service.probe]]
"t\\u0079pe" = "tcp"
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("top",), 2),
        (("cluster",), 3),
        (("cluster", "name"), 4),
        (("cluster", "quo ted", "b c"), 5),
        (("service",), 9),
        (("service", 0), 9),
        (("service", 0, "probe", "type"), 11),
        (("service", 0, "probe", "status", 0), 11),
        (("service", 0, "probe", "status", 1), 12),
        (("service", 0, "probe", "x", "y"), 12),
        (("service", 0, "server", 0), 13),
        (("service", 0, "server", 1, "address"), 16),
        (("service", 0, "tunnel", "when"), 18),
        (("service", 1), 19),
        (("service", 1, "server", 0, "weight"), 22),
        (("service", 1, "server", 1), 23),
        (("service", 1, "nothing"), 25),
        (("service", 1, "text"), 26),
        (("service", 1, "probe", 0, "type"), 29),
    ],
)
def test_lines(path, line):
    assert find_positions(DOCUMENT)[path] == line


def paths_of(node, path=()):
    yield path
    if isinstance(node, dict):
        for key, value in node.items():
            yield from paths_of(value, (*path, key))
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from paths_of(value, (*path, number))


def test_finds_exactly_what_tomli_reads():
    assert set(find_positions(DOCUMENT)) == set(paths_of(tomli.loads(DOCUMENT)))


def test_windows_line_ends_count_once():
    assert find_positions(DOCUMENT.replace("\n", "\r\n")) == find_positions(DOCUMENT)


def test_too_deep_is_refused_with_its_line():
    with pytest.raises(TooDeepError) as caught:
        find_positions("a = 1\nb = " + "[" * (DEPTH_MAX + 1) + "]" * (DEPTH_MAX + 1))
    assert caught.value.line == 2


def quoted(text):
    return '"' + "".join(f"\\U{ord(character):08x}" for character in text) + '"'


keys = st.one_of(
    st.from_regex(r"[A-Za-z0-9_-]{1,6}", fullmatch=True),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=4).map(quoted),
)
scalars = st.one_of(
    st.integers(-9, 9).map(str),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6).map(quoted),
    st.text(st.sampled_from("a#]}[{=,. '"), max_size=6).map(lambda text: f'"{text}"'),
    st.text(st.sampled_from('a#]}[{=,." \t'), max_size=6).map(lambda text: f"'{text}'"),
    st.text(st.sampled_from("a#]}[{=,.' \n"), max_size=6).map(lambda text: f'"""{text}"""'),
    st.text(st.sampled_from('a#]}[{=,." \n'), max_size=6).map(lambda text: f"'''{text}'''"),
    st.sampled_from(["true", "1979-05-27", "1979-05-27 07:32:00", "0x1f", "nan", "'''a''''", '"\\"#"']),
)


def arrays(values):
    return st.lists(values, max_size=3).map(lambda found: "[ # [\n" + ",\n".join(found) + "\n]")


def tables(values):
    pairs = st.dictionaries(keys, values, max_size=3)
    return pairs.map(lambda found: "{ " + ", ".join(f"{key} = {value}" for key, value in found.items()) + " }")


values = st.recursive(scalars, lambda inner: arrays(inner) | tables(inner), max_leaves=8)
headers = st.lists(keys, min_size=1, max_size=3).flatmap(
    lambda found: st.sampled_from([f"[{'.'.join(found)}]", f"[[ {' . '.join(found)} ]] # x"])
)
lines = st.one_of(
    headers,
    st.tuples(st.lists(keys, min_size=1, max_size=2), st.sampled_from([".", " . ", " ."]), values).map(
        lambda parts: f"{parts[1].join(parts[0])} = {parts[2]}"
    ),
    st.sampled_from(["", "# comment = 1", "  \t"]),
)


@given(st.lists(lines, max_size=8).map("\n".join))
def test_any_valid_document(text):
    try:
        data = tomli.loads(text)
    except tomli.TOMLDecodeError:
        return
    found = find_positions(text)
    assert set(found) == set(paths_of(data))
    assert all(1 <= line <= text.count("\n") + 1 for line in found.values())
