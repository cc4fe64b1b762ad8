"""A file is read as a whole, or every mistake in it is told with its place."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hawatch.config.load import FILE_BYTES_MAX, load_text, read_bytes, read_file
from hawatch.config.rules import find_errors
from hawatch.config.validation import understand
from hawatch.errors import ConfigError
from tests.unit.config.fakes import FAKES, SITE

NS = 1_000_000_000


def problems_of(text):
    with pytest.raises(ConfigError) as caught:
        load_text(text, probes=FAKES)
    return caught.value.problems


def test_a_valid_file(tmp_path):
    path = tmp_path / "hawatch.toml"
    path.write_text(SITE)
    config = read_file(path, FAKES).config
    assert [node.name for node in config.director] == ["lvs1", "lvs2"]
    assert config.service[0].probe[0].interval == 2 * NS
    assert config.group[0].addresses[0].address == "192.168.1.110/32"


def test_an_empty_file_is_a_single_director_without_services():
    assert not load_text("", probes=FAKES).leased


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        read_file(tmp_path / "none", FAKES)


@pytest.mark.parametrize(
    ("data", "line", "column", "words"),
    [
        (b"a = 1\nb = \n", 2, 5, "not TOML: no value: strings want quotes, true and false none"),
        (b"a = 1\na = 2\n", 2, 6, "not TOML: this key is there already"),
        (b'a = "x\n', 1, 7, "a quote is missing"),
        (b"{}", 1, 1, "neither [table], key = value nor # comment"),
        (b"[a]\n[a]\n", 2, 3, "the table a is there already; of several, each is [[a]]"),
        (b"x = '\xff'", 1, 0, "no UTF-8"),
        (b"\n\n# \xff", 3, 0, "no UTF-8"),
        (b"a = " + b"[" * 40 + b"]" * 40, 1, 0, "nested too deeply"),
        (b"a = " + b"[" * 100_000, 1, 0, "nested more than"),
        (b"a" + b".a" * 100_000 + b" = 1", 1, 0, "more than the allowed"),
        (b"a = " + b"9" * 10_000, 1, 0, "not acceptable"),
        (b" " * (FILE_BYTES_MAX + 1), 1, 0, "too large"),
    ],
)
def test_what_is_no_toml_stands_alone(data, line, column, words):
    with pytest.raises(ConfigError) as caught:
        read_bytes(data, "file", FAKES)
    (problem,) = caught.value.problems
    assert (problem.line, problem.column) == (line, column)
    assert words in problem.message
    assert str(caught.value).startswith(f"file:{line}:")


FORMS = [
    # (what is replaced, by what, path, line, found, accepted, message)
    ('prefer = "lvs1"', 'prefers = "lvs1"', 'group[1] "web".prefers', 14, '"lvs1"', "prefer", 'did you mean "prefer"?'),
    ("port = 80", 'port = "80"', 'service[1] "http".port', 20, '"80"', "a whole number", "not accepted"),
    ("port = 80", "port = true", 'service[1] "http".port', 20, "true", "a whole number", "not accepted"),
    ("port = 80", "port = 70000", 'service[1] "http".port', 20, "70000", "at most 65535", "not accepted"),
    ("port = 80", 'port = 80\nscheduler = "wlcc"', 'service[1] "http".scheduler', 21, '"wlcc"', '"wlc"', 'mean "wlc"'),
    ('"tcp" }', '"tcp", timeout = 5 }', 'service[1] "http".probe.timeout', 21, "5", "a number with a unit", "no"),
    ('"tcp" }', '"tcp", interval = "2y" }', 'service[1] "http".probe.interval', 21, '"2y"', "from 50ms to 1d", "no"),
    ('"tcp" }', '"tcp", fall = 0 }', 'service[1] "http".probe.fall', 21, "0", "at least 1", "no"),
    ('"tcp" }', '"tcp", expct = "x" }', 'service[1] "http".probe.expct', 21, '"x"', "expect", 'did you mean "expect"?'),
    ('"tcp" }', '"tcq" }', 'service[1] "http".probe.type', 21, '"tcq"', "tcp, http", 'did you mean "tcp"?'),
    ('"tcp" }', '"broken" }', 'service[1] "http".probe.type', 21, '"broken"', "can be loaded", "cannot be loaded"),
    ('"tcp" }', '"http", status = [200,\n "x"] }', 'service[1] "http".probe.status[2]', 22, '"x"', "a whole", "not"),
    ('"tcp" }', '"http", password = 17 }', 'service[1] "http".probe.password', 21, "(not shown)", "a string", "not"),
    ('address = "192.168.1.1"', "weight = 2", 'service[1] "http".server[1].address', 22, "", "real server", "missing"),
    (
        'address = "192.168.1.1"',
        'address = "rs1"',
        'service[1] "http".server[1] "rs1".address',
        23,
        '"rs1"',
        "literal",
        "not accepted",
    ),
    (
        'address = "192.168.1.1"',
        'address = "224.0.0.1"',
        'service[1] "http".server[1] "224.0.0.1".address',
        23,
        '"224.0.0.1"',
        "unicast",
        "not accepted",
    ),
    (
        '110/32"',
        '110/33"',
        'group[1] "web".addresses[1] "192.168.1.110/33".address',
        15,
        '"192.168.1.110/33"',
        "with its prefix length",
        "not accepted",
    ),
    ('name = "http"', 'name = "all"', 'service[1] "all".name', 17, '"all"', 'is not "all"', "not accepted"),
    ('key_file = "/etc', 'key_file = "etc', "cluster.key_file", 2, '"etc/hawatch/cluster.key"', "absolute", "not"),
    ("[cluster]", "[clutser]", "clutser", 1, "a table", "cluster", 'did you mean "cluster"?'),
    ("[cluster]", "director_ = 1\n[cluster]", "director_", 1, "1", "director", 'did you mean "director"?'),
]


@pytest.mark.parametrize(("old", "new", "path", "line", "found", "accepted", "message"), FORMS)
def test_mistakes_of_form(old, new, path, line, found, accepted, message):
    assert SITE.count(old) >= 1
    problem = next(problem for problem in problems_of(SITE.replace(old, new, 1)) if problem.path == path)
    assert problem.line == line
    assert problem.found == found
    assert accepted in problem.accepted
    assert message in problem.message


ALONE = [
    # (a file, the only problem in it)
    ('[director]\nname = "a"\n', "an array of tables, [[director]]; each a table with name"),
    ('[[group]]\nname = "g"\naddresses = ["192.0.2.1"]\n', "a table with address, interface"),
    ('[console]\nlisten = "9694"\n', "a host and a port"),
    ('[alert.email.ops]\nto = "ops"\nfrom = "a@b.c"\nserver = "m:25"\n', "a mail address"),
    ('[alert.email.ops]\nto = []\nfrom = "a@b.c"\nserver = "m:25"\n', "at least 1"),
    ('[[director]]\nname = "a"\nlinks = [' + '"10.0.0.1", ' * 9 + "]\n", "at most 8"),
]


@pytest.mark.parametrize(("text", "accepted"), ALONE)
def test_one_mistake_is_one_problem(text, accepted):
    (problem,) = problems_of(text)
    assert accepted in problem.accepted
    assert '"function' not in problem.path


def test_a_byte_order_mark_is_no_mistake():
    assert read_bytes(b"\xef\xbb\xbf" + SITE.encode(), "file", FAKES).config == load_text(SITE, probes=FAKES)


def test_mistakes_of_form_and_of_sense_come_together():
    text = SITE.replace('prefer = "lvs1"', 'prefer = "lvs3"').replace("port = 80", 'port = "x"') + "\n[ipvs]\ntcq = 1\n"
    assert [(problem.path, problem.line) for problem in problems_of(text)] == [
        ('group[1] "web".prefer', 14), ('service[1] "http".port', 20), ("ipvs.tcq", 26),
    ]  # fmt: skip


def test_a_mistake_of_form_is_not_told_again_as_one_of_sense():
    text = SITE.replace('name = "web"', 'name = "w b"').replace('name = "lvs1"', "name = 1")
    assert {problem.path for problem in problems_of(text)} == {'group[1] "w b".name', "director[1].name"}


@pytest.mark.parametrize(("old", "new"), [('name = "web"', 'nmae = "web"'), ("port = 80", "prt = 80")])
def test_a_mistyped_key_is_not_told_again_as_a_missing_one(old, new):
    assert ["did you mean" in problem.message for problem in problems_of(SITE.replace(old, new))] == [True]


def test_places_are_right_behind_what_could_not_be_understood():
    text = SITE + '[[service.server]]\nweight = 1\n[[service.server]]\naddress = "192.168.1.1"\n'
    assert [(problem.path, problem.line) for problem in problems_of(text)] == [
        ('service[1] "http".server[2].address', 24), ('service[1] "http".server[3] "192.168.1.1".address', 27),
    ]  # fmt: skip


def test_the_report_has_a_line_for_each_problem():
    with pytest.raises(ConfigError) as caught:
        load_text("a = 1\nb = 2\n", "etc/x.toml", FAKES)
    lines = str(caught.value).splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["etc/x.toml:1", "etc/x.toml:2"]


def test_a_flood_of_mistakes_is_cut():
    with pytest.raises(ConfigError, match="and 100 more"):
        load_text("".join(f"a{number} = 1\n" for number in range(300)), probes=FAKES)


@st.composite
def mutations(draw):
    text = SITE
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text)))
        end = min(len(text), at + draw(st.integers(0, 12)))
        piece = draw(
            st.one_of(
                st.text(max_size=4),
                st.sampled_from(["\n", "[", "]]", "[[service]]\n", " = ", '"', "0", "true", "nan", "1979-05-27", "{}",
                                 "[[]]", "9" * 30, "[[service.server]]\n", "'''", "\\u0000", "::", "[group.x]\n"]),
                st.integers(0, len(SITE) - 30).map(lambda start: SITE[start : start + 30]),
            )
        )  # fmt: skip
        text = text[:at] + piece + text[end:]
    return text


def told(data):
    try:
        return read_bytes(data, "file", FAKES).warnings
    except ConfigError as error:
        return error.problems or pytest.fail("an error without a problem")


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(mutations())
def test_mutated_files_give_nothing_but_reports(text):
    data = text.encode(errors="surrogatepass")
    for problem in told(data):
        assert 1 <= problem.line <= data.count(b"\n") + 1
        assert problem.message
        assert "\n" not in str(problem)


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.sampled_from(["", "x", "1s", "::1", "web", "1.2.3.4:80"])
)
KEYS = st.sampled_from(
    ["name", "address", "probe", "server", "type", "links", "addresses", "sync", "tunnel", "email", "x"]
)
TREES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4))


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(["cluster", "director", "witness", "group", "service", "ipvs", "alert"]), TREES))
def test_tables_of_any_shape(data):
    understood = understand(data)
    assert understood.config is not None
    assert all(finding.message for finding in find_errors(understood.config, FAKES))
