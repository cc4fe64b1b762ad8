"""What is acceptable but worth knowing: a row for each warning, with where and how it is told."""

from __future__ import annotations

import pytest

from hawatch.config.load import load_text, read_bytes
from hawatch.config.warnings import RULES
from tests.unit.config.fakes import FAKES, PAIR, SITE
from tests.unit.config.test_rules import MARK, NO_WITNESS, OTHER_GROUP, SERVER, cluster, service

WARNED = [
    ("nothing to do", '[[director]]\nname = "lvs1"\n', "service", "nothing to do"),
    ("no probe", SITE.replace('probe = { type = "tcp" }\n', ""), 'service[1] "http"', "no probe"),
    ("no server", SITE.partition("[[service.server]]")[0], 'service[1] "http"', "no server"),
    ("all drained", SITE + "weight = 0\n", 'service[1] "http"', "weight 0"),
    ("quorum none", cluster('quorum = "none"', NO_WITNESS), "cluster.quorum", "best effort"),
    (
        "quorum gateway",
        cluster('quorum = "gateway"\ngateway = "192.168.1.254"', NO_WITNESS),
        "cluster.quorum",
        "best ef",
    ),
    ("witness not asked", cluster('quorum = "none"'), "witness", "asks no witness"),
    ("unused profile", cluster('profile = "vm"\nlease = "1s"\nheartbeat = "200ms"'), "cluster.profile", "not used"),
    ("group not named", SITE.replace('group = "web"\n', ""), 'service[1] "http"', 'VIP of group "web"'),
    (
        "sorry never used",
        service('sorry_server = "192.168.1.9"\non_all_down = "empty"'),
        'service[1] "http".sorry_server',
        "never used",
    ),
    (
        "protocol of a mark",
        MARK.replace("fwmark = 7", 'fwmark = 7\nprotocol = "udp"'),
        'service[1] "mark".protocol',
        "not",
    ),
    ("weights", service('scheduler = "rr"') + SERVER + "weight = 2\n", 'service[1] "http".scheduler', "no weights"),
    (
        "one address asked for all",
        SITE.replace('"tcp" }', '"tcp", address = "10.0.0.1" }') + SERVER,
        'service[1] "http".probe.address',
        "together",
    ),
    (
        "director is a server",
        SITE.replace('address = "192.168.1.1"', 'address = "192.168.1.5"'),
        'service[1] "http".server[1] "192.168.1.5".address',
        "packets may circle",
    ),
    (
        "ipvs of the owner, whose frames nobody knows",
        SITE.replace("[[service]]", 'ipvs = "owner"\n\n[[service]]', 1),
        'group[1] "web".ipvs',
        "no real server of the group is at a director's heartbeat link",
    ),
    (
        "one link",
        PAIR.replace('"10.99.0.1", ', "").replace('"10.99.0.2", ', "").replace('"10.99.0.3", ', ""),
        'director[1] "lvs1".links',
        "one heartbeat path",
    ),
    (
        "sync alone",
        '[[group]]\nname = "g"\naddresses = [{ address = "10.0.0.9/32", interface = "e" }]\n'
        'sync = { interface = "e", id = 1 }\n',
        'group[1] "g".sync',
        "no second director",
    ),
    (
        "two syncs",
        PAIR + 'sync = { interface = "eth1", id = 1 }\n' + OTHER_GROUP + 'sync = { interface = "eth1", id = 2 }\n',
        'group[2] "mail".sync',
        "one synchronisation daemon",
    ),
    (
        "notify alone",
        '[[group]]\nname = "g"\naddresses = [{ address = "10.0.0.9/32", interface = "e" }]\n'
        'notify = { owner = "/bin/true" }\n',
        'group[1] "g".notify',
        "never run",
    ),
    (
        "password in the clear",
        '[alert.email.ops]\nto = "a@b"\nfrom = "c@d"\nserver = "m:25"\nusername = "x"\n'
        'password_file = "/x"\ntls = "none"\n',
        "alert.email.ops.tls",
        "in the clear",
    ),
    (
        "token in the clear",
        '[console]\nlisten = "192.168.1.5:9694"\n[console.user.a]\ntoken_file = "/x"\n',
        "console.listen",
        "in the clear",
    ),
    (
        "no such event",
        '[alert.webhook.x]\nurl = "https://x"\nevents = ["server_dwn"]\n',
        "alert.webhook.x.events[1]",
        'did you mean "server_down"?',
    ),
]


@pytest.mark.parametrize(("text", "path", "message"), [row[1:] for row in WARNED], ids=[row[0] for row in WARNED])
def test_warned_of(text, path, message):
    warnings = {problem.path: problem for problem in read_bytes(text.encode(), "file", FAKES).warnings}
    assert path in warnings
    assert message in warnings[path].message
    assert 1 <= warnings[path].line <= text.count("\n") + 1


def test_nothing_to_warn_of():
    assert read_bytes(SITE.encode(), "file", FAKES).warnings == ()


def test_every_warning_has_a_row():
    silent = {rule.__name__ for rule in RULES}
    for text in (row[1] for row in WARNED):
        config = load_text(text, probes=FAKES)
        silent -= {rule.__name__ for rule in RULES if any(rule(config))}
    assert silent == set()
