"""What changed, in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hawatch.config.diff import describe_changes, groups_of_addresses, unsafe_moves
from hawatch.config.load import load_text
from tests.unit.config.fakes import FAKES, SERVICE, SITE

WEBHOOK = '[alert.webhook.x]\nurl = "https://x/secret"\nheaders = { Authorization = "secret" }\n'

ROWS = [
    (
        'address = "192.168.1.1"\n',
        'address = "192.168.1.1"\nweight = 3\n',
        ["service http: server 192.168.1.1: weight 1 -> 3"],
    ),
    (
        'address = "192.168.1.1"\n',
        'address = "192.168.1.2"\n',
        ["service http: server 192.168.1.1 removed", "service http: server 192.168.1.2 added, weight 1"],
    ),
    ('"tcp" }', '"tcp", timeout = "500ms" }', ["service http: probe tcp: timeout 1s -> 500ms"]),
    ('"tcp" }', '"tcp", expect = "x" }', ["service http: probe tcp: expect none -> x"]),
    ('"tcp" }', '"http", password = "a" }', ["service http: probe tcp removed", "service http: probe http added"]),
    ("port = 80", 'port = 80\nscheduler = "rr"', ["service http: scheduler wlc -> rr"]),
    ("port = 80", 'port = 80\npersistence = "5m"', ["service http: persistence none -> 5m"]),
    ('name = "http"', 'name = "web"', ["service http: removed", "service web: added, 1 servers"]),
    ("110/32", "110/24", ["group web: address 192.168.1.110/32 removed", "group web: address 192.168.1.110/24 added"]),
    ('"eth0"', '"eth1"', ["group web: address 192.168.1.110/32: interface eth0 -> eth1"]),
    ('prefer = "lvs1"', 'prefer = "lvs2"', ["group web: prefer lvs1 -> lvs2"]),
    ("[cluster]", "[cluster]\nport = 695", ["cluster: port 694 -> 695 (needs a restart)"]),
    (
        "10.99.0.1",
        "10.99.0.9",
        ["director lvs1: links [10.99.0.1, 192.168.1.5] -> [10.99.0.9, 192.168.1.5] (needs a restart)"],
    ),
    (
        'name = "rs1"',
        'name = "rs2"',
        ["witness rs1: removed (needs a restart)", "witness rs2: added (needs a restart)"],
    ),
    ("[cluster]", '[ipvs]\nudp = "5m"\n[cluster]', ["ipvs: udp none -> 5m"]),
    ("[cluster]", WEBHOOK + "[cluster]", ["alert webhook x: added"]),
]


@pytest.mark.parametrize(("old", "new", "words"), ROWS)
def test_changes(old, new, words):
    before, after = load_text(SITE, probes=FAKES), load_text(SITE.replace(old, new), probes=FAKES)
    assert [str(change) for change in describe_changes(before, after)] == words


def test_nothing_changed():
    config = load_text(SITE, probes=FAKES)
    assert describe_changes(config, config) == ()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [("https://x/secret", "https://x/hidden", "url changed"), ('"secret"', '"hidden"', "headers changed")],
)
def test_secrets_are_not_told(old, new, words):
    before, after = load_text(WEBHOOK, probes=FAKES), load_text(WEBHOOK.replace(old, new), probes=FAKES)
    assert [str(change) for change in describe_changes(before, after)] == [f"alert webhook x: {words}"]


def test_the_password_of_a_probe_is_not_told():
    texts = [SITE.replace('"tcp" }', f'"http", password = "{word}" }}') for word in ("old", "new")]
    before, after = (load_text(text, probes=FAKES) for text in texts)
    assert [str(change) for change in describe_changes(before, after)] == ["service http: probe http: password changed"]


WEIGHTS = st.dictionaries(st.integers(1, 9), st.integers(1, 3), max_size=6)


@given(WEIGHTS, WEIGHTS)
def test_as_many_words_as_changes(before, after):
    def config(weights):
        servers = "".join(
            f'[[service.server]]\naddress = "10.0.0.{number}"\nweight = {weight}\n'
            for number, weight in weights.items()
        )
        head = SERVICE.partition("[[service.server]]")[0].replace('group = "web"\n', "")
        return load_text(head + servers, probes=FAKES)

    differing = {number for number in before | after if before.get(number) != after.get(number)}
    assert len(describe_changes(config(before), config(after))) == len(differing)


def groups(**addresses: str) -> str:
    lines = [
        f'[[group]]\nname = "{name}"\naddresses = ['
        + ", ".join(f'{{ address = "{one}", interface = "eth0" }}' for one in each.split())
        + "]\n"
        for name, each in addresses.items()
    ]
    return "".join(lines)


@pytest.mark.parametrize(
    ("old", "new", "moved"),
    [
        (groups(web="192.0.2.1/32"), groups(web="192.0.2.1/32 192.0.2.2/32"), []),
        (groups(web="192.0.2.1/32"), groups(www="192.0.2.1/24"), []),
        (groups(web="192.0.2.1/32", mail="192.0.2.2/32"), groups(both="192.0.2.1/32 192.0.2.2/32"), []),
        (groups(web="192.0.2.1/32 192.0.2.2/32"), groups(web="192.0.2.1/32", mail="192.0.2.2/32"), ["192.0.2.2"]),
        (groups(web="192.0.2.1/32", mail="192.0.2.2/32"), groups(web="192.0.2.1/32 192.0.2.2/32"), ["192.0.2.2"]),
        (
            groups(web="192.0.2.1/32", mail="2001:db8::2/128"),
            groups(mail="192.0.2.1/24", web="2001:db8::2/64"),
            ["192.0.2.1", "2001:db8::2"],
        ),
    ],
    ids=["one more", "another name", "two become one", "one becomes two", "moved", "exchanged"],
)
def test_addresses_that_go_from_one_group_to_another(old, new, moved):
    before, after = (groups_of_addresses(load_text(text, probes=FAKES).group) for text in (old, new))
    assert [sentence.split()[1] for sentence in unsafe_moves(before, after)] == moved
