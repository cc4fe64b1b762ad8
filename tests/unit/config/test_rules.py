"""What must hold between keys: a row for each rule, with where and how its breach is told."""

from __future__ import annotations

import pytest
import tomli

from hawatch.config.load import load_text
from hawatch.config.rules import ERRORS
from hawatch.config.validation import understand
from hawatch.errors import ConfigError
from tests.unit.config.fakes import FAKES, PAIR, SERVICE, SITE

V6 = SERVICE.replace('group = "web"\n', "").replace("192.168.1.110", "2001:db8::110").replace("192.168.1.1", "fd00::1")
MARK = '[[service]]\nname = "mark"\nfwmark = 7\n[[service.server]]\naddress = "192.168.1.1"\n'
ONE = '[[director]]\nname = "lvs1"\n'
NO_WITNESS = PAIR.replace('[[witness]]\nname = "rs1"\nlinks = ["10.99.0.3", "192.168.1.1"]\n', "")
WITNESS_2 = '[[witness]]\nname = "rs2"\nlinks = ["10.99.0.4", "192.168.1.2"]\n'
OTHER_GROUP = '[[group]]\nname = "mail"\naddresses = [{ address = "192.168.1.111/32", interface = "eth0" }]\n'
SERVER = '[[service.server]]\naddress = "192.168.1.2"\n'


def cluster(keys, text=PAIR):
    return text.replace("[cluster]\n", f"[cluster]\n{keys}\n")


def service(keys, text=SITE):
    assert 'name = "http"\n' in text
    return text.replace('name = "http"\n', f'name = "http"\n{keys}\n')


def udp(text):
    return service('protocol = "udp"', text)


ROWS = [
    # --- told of a group
    (
        "notify without a program",
        PAIR.replace('prefer = "lvs1"', 'prefer = "lvs1"\nnotify = { timeout = "9s" }'),
        'group[1] "web".notify',
        "no program",
    ),
    (
        "notify by a short name",
        PAIR.replace('prefer = "lvs1"', 'prefer = "lvs1"\nnotify = { owner = "x.sh" }'),
        'group[1] "web".notify.owner',
        "not an absolute path",
    ),
    # --- the cluster
    ("node twice", PAIR.replace('"lvs2"', '"lvs1"'), 'director[2] "lvs1".name', "a second node"),
    ("witness named as a director", PAIR.replace('"rs1"', '"lvs1"'), 'witness[1] "lvs1".name', "a second node"),
    ("link counts", PAIR.replace('"10.99.0.3", ', ""), 'witness[1] "rs1".links', "not as many links"),
    ("no link", PAIR.replace('links = ["10.99.0.3", "192.168.1.1"]', ""), 'witness[1] "rs1".links', "no link"),
    ("link twice", PAIR.replace("10.99.0.2", "10.99.0.1"), 'director[2] "lvs2".links[1]', 'link of "lvs1"'),
    ("link is a VIP", PAIR.replace('"192.168.1.5"', '"192.168.1.110"'), 'director[1] "lvs1".links[2]', "a VIP of"),
    ("link families", PAIR.replace('"10.99.0.2"', '"fd00::2"'), 'director[2] "lvs2".links[1]', "another address fam"),
    ("link-local link", PAIR.replace('"10.99.0.', '"fe80::'), 'director[2] "lvs2".links[1]', "link-local"),
    ("link-local gateway", cluster('gateway = "fe80::1"'), "cluster.gateway", "link-local"),
    ("no majority", NO_WITNESS, "cluster.quorum", "no majority without each other"),
    ("even acceptors", PAIR + WITNESS_2, "cluster.quorum", "4 members vote"),
    ("gateway without one", cluster('quorum = "gateway"', NO_WITNESS), "cluster.gateway", "without a gateway"),
    (
        "gateway for three",
        cluster('quorum = "gateway"\ngateway = "192.168.1.254"', NO_WITNESS)
        + '[[director]]\nname = "lvs3"\nlinks = ["10.99.0.4", "192.168.1.4"]\n',
        "cluster.quorum",
        "exactly two",
    ),
    (
        "none for three",
        cluster('quorum = "none"', NO_WITNESS) + '[[director]]\nname = "lvs3"\nlinks = ["10.99.0.4", "192.168.1.4"]\n',
        "cluster.quorum",
        "exactly two",
    ),
    ("only witnesses", cluster("") + WITNESS_2, "cluster.quorum", "4 members"),
    ("no key", PAIR.replace('key_file = "/etc/hawatch/cluster.key"\n', ""), "cluster.key_file", "missing"),
    ("lease alone", cluster('lease = "2s"'), "cluster.lease", "without heartbeat"),
    ("heartbeat alone", cluster('heartbeat = "2s"'), "cluster.heartbeat", "without lease"),
    ("heartbeat over a quarter", cluster('lease = "1s"\nheartbeat = "250ms"'), "cluster.heartbeat", "243.3 ms"),
    ("lease too short", cluster('lease = "100ms"\nheartbeat = "20ms"'), "cluster.lease", "not accepted"),
    ("lease too long", cluster('lease = "61s"\nheartbeat = "1s"'), "cluster.lease", "not accepted"),
    ("heartbeat too short", cluster('lease = "1s"\nheartbeat = "19ms"'), "cluster.heartbeat", "not accepted"),
    # --- groups
    ("group twice", PAIR + OTHER_GROUP.replace("mail", "web"), 'group[2] "web".name', "a second group"),
    ("unknown prefer", PAIR.replace('prefer = "lvs1"', 'prefer = "lvs3"'), 'group[1] "web".prefer', "no director"),
    ("witness preferred", PAIR.replace('prefer = "lvs1"', 'prefer = "rs1"'), 'group[1] "web".prefer', "owns nothing"),
    ("group without VIP", PAIR + '[[group]]\nname = "mail"\n', 'group[2] "mail".addresses', "without an address"),
    (
        "VIP in two groups",
        PAIR + OTHER_GROUP.replace(".111", ".110"),
        'group[2] "mail".addresses[1] "192.168.1.110/32".address',
        'VIP of group "web" already',
    ),
    (
        "VIP twice",
        PAIR.replace("addresses = [", 'addresses = [{ address = "192.168.1.110/24", interface = "eth0" }, '),
        'group[1] "web".addresses[2] "192.168.1.110/32".address',
        "VIP of this group already",
    ),
    (
        "network address",
        PAIR.replace(".110/32", ".0/24"),
        'group[1] "web".addresses[1] "192.168.1.0/24".address',
        "no host's",
    ),
    (
        "IPv6 label",
        PAIR.replace('192.168.1.110/32"', 'fd00::1/128", label = "eth0:w"'),
        'group[1] "web".addresses[1] "fd00::1/128".label',
        "has no label",
    ),
    (
        "label of another",
        PAIR.replace('/32"', '/32", label = "eth1:w"'),
        'group[1] "web".addresses[1] "192.168.1.110/32".label',
        "no label of this interface",
    ),
    ("sync id", PAIR + 'sync = { interface = "eth1", id = 256 }', 'group[1] "web".sync.id', "not accepted"),
    # --- services
    ("name twice", SITE + MARK.replace('"mark"', '"http"'), 'service[2] "http".name', "a second service"),
    (
        "kernel key twice",
        SITE + SERVICE.replace('"http"', '"two"'),
        'service[2] "two".address',
        'service "http" already',
    ),
    ("mark twice", MARK + MARK.replace('"mark"', '"two"'), 'service[2] "two".fwmark', "fwmark 7 is service"),
    (
        "same address in another form",
        V6 + V6.replace("http", "b").replace("2001:db8::110", "2001:DB8:0::110"),
        'service[2] "b".address',
        "already",
    ),
    ("unknown group", SITE.replace('group = "web"', 'group = "wbe"'), 'service[1] "http".group', 'did you mean "web"?'),
    ("no group at all", SERVICE, 'service[1] "http".group', "no group of this name"),
    (
        "no VIP of its group",
        SITE.replace('address = "192.168.1.110"\n', 'address = "192.168.1.9"\n'),
        'service[1] "http".address',
        'no VIP of group "web"',
    ),
    (
        "VIP of another group",
        SITE.replace('address = "192.168.1.110"\n', 'address = "192.168.1.111"\n') + OTHER_GROUP,
        'service[1] "http".address',
        'one of group "mail"',
    ),
    ("no port", SITE.replace("port = 80\n", ""), 'service[1] "http".port', "missing"),
    ("no address", SITE.replace('address = "192.168.1.110"\n', ""), 'service[1] "http".address', "missing"),
    ("all ports", SITE.replace("port = 80", "port = 0"), 'service[1] "http".port', "without persistence"),
    (
        "mark with address",
        service("fwmark = 3", SITE.replace("port = 80\n", "")),
        'service[1] "http".address',
        "and fw",
    ),
    ("mark with port", MARK.replace("fwmark = 7", "fwmark = 7\nport = 80"), 'service[1] "mark".port', "a port with"),
    ("wrong family", service('family = "ipv6"'), 'service[1] "http".family', "not the family"),
    (
        "flag of another",
        service('scheduler = "sh"\nscheduler_flags = "mh-port"'),
        'service[1] "http".scheduler_flags',
        'of scheduler "mh"',
    ),
    (
        "mask without persistence",
        service("persistence_mask = 24"),
        'service[1] "http".persistence_mask',
        "without pers",
    ),
    (
        "engine without persistence",
        udp(service('persistence_engine = "sip"')),
        'service[1] "http".persistence_engine',
        "without persistence",
    ),
    (
        "SIP over TCP",
        service('persistence = "5m"\npersistence_engine = "sip"'),
        'service[1] "http".persistence_engine',
        "UDP only",
    ),
    (
        "IPv6 mask in IPv4",
        service('persistence = "5m"\npersistence_mask = 64'),
        'service[1] "http".persistence_mask',
        "of IPv6",
    ),
    (
        "no mask",
        service('persistence = "5m"\npersistence_mask = "255.0.255.0"'),
        'service[1] "http".persistence_mask',
        "not accepted",
    ),
    (
        "inverted mask",
        service('persistence = "5m"\npersistence_mask = "0.0.0.255"'),
        'service[1] "http".persistence_mask',
        "not accepted",
    ),
    ("part of a second", service('persistence = "1500ms"'), 'service[1] "http".persistence', "part of a second"),
    ("one packet of TCP", service("one_packet = true"), 'service[1] "http".one_packet', "with tcp"),
    ("sorry without one", service('on_all_down = "sorry"'), 'service[1] "http".on_all_down', "no sorry_server"),
    ("sorry_forward alone", service('sorry_forward = "tunnel"'), 'service[1] "http".sorry_forward', "without sorry"),
    ("sorry port", service('sorry_server = "192.168.1.9:81"'), 'service[1] "http".sorry_server', "change the port 80"),
    ("sorry family", service('sorry_server = "[fd00::9]:80"'), 'service[1] "http".sorry_server', "another address fam"),
    ("sorry is a server", service('sorry_server = "192.168.1.1"'), 'service[1] "http".sorry_server', "a real server"),
    ("sorry is no address", service('sorry_server = "sorry:80"'), 'service[1] "http".sorry_server', "not accepted"),
    # --- servers
    (
        "server twice",
        SITE + SERVER.replace("1.2", "1.1"),
        'service[1] "http".server[2] "192.168.1.1".address',
        "already",
    ),
    (
        "server twice by port",
        SITE + SERVER.replace("1.2", "1.1") + "port = 80\n",
        'service[1] "http".server[2] "192.168.1.1".address',
        "already",
    ),
    (
        "port of a direct server",
        SITE + "port = 81\n",
        'service[1] "http".server[1] "192.168.1.1".port',
        "cannot change",
    ),
    (
        "port of a tunnel",
        SITE + 'port = 81\nforward = "tunnel"\n',
        'service[1] "http".server[1] "192.168.1.1".port',
        "cannot change",
    ),
    (
        "port 0 of a server",
        SITE + 'port = 0\nforward = "masquerade"\n',
        'service[1] "http".server[1] "192.168.1.1".port',
        "port 0",
    ),
    (
        "IPv6 behind IPv4",
        SITE.replace('address = "192.168.1.1"', 'address = "fd00::1"'),
        'service[1] "http".server[1] "fd00::1".address',
        "an IPv6 server in an IPv4 service",
    ),
    (
        "IPv4 behind IPv6",
        V6.replace("fd00::1", "10.0.0.1"),
        'service[1] "http".server[1] "10.0.0.1".address',
        "an IPv4 server in an IPv6 service",
    ),
    (
        "mixed families while synchronised",
        SITE.replace('address = "192.168.1.1"', 'forward = "tunnel"\naddress = "fd00::1"').replace(
            "[[service]]", 'sync = { interface = "eth1", id = 5 }\n[[service]]', 1
        ),
        'service[1] "http".server[1] "fd00::1".address',
        "the kernel refuses",
    ),
    (
        "lower over upper",
        SITE + "lower_threshold = 9\nupper_threshold = 8\n",
        'service[1] "http".server[1] "192.168.1.1".lower_threshold',
        "more than upper_threshold (8)",
    ),
    (
        "lower alone",
        SITE + "lower_threshold = 9\n",
        'service[1] "http".server[1] "192.168.1.1".lower_threshold',
        "without an upper_threshold",
    ),
    (
        "tunnel of a direct service",
        service('tunnel = { type = "gre" }'),
        'service[1] "http".tunnel',
        'forward "direct"',
    ),
    ("tunnel of a direct server", SITE + "tunnel = {}\n", 'service[1] "http".server[1] "192.168.1.1".tunnel', "direct"),
    (
        "GUE without port",
        service('forward = "tunnel"\ntunnel = { type = "gue" }'),
        'service[1] "http".tunnel.port',
        "missing: GUE",
    ),
    (
        "GRE with port",
        service('forward = "tunnel"\ntunnel = { type = "gre", port = 1 }'),
        'service[1] "http".tunnel.port',
        "a port with",
    ),
    (
        "IPIP checksum",
        service('forward = "tunnel"\ntunnel = { checksum = "checksum" }'),
        'service[1] "http".tunnel.checksum',
        "IPIP has no",
    ),
    (
        "GRE remote",
        service('forward = "tunnel"\ntunnel = { type = "gre", checksum = "remote" }'),
        'service[1] "http".tunnel.checksum',
        "is GUE's",
    ),
    ("weight", SITE + "weight = 65536\n", 'service[1] "http".server[1] "192.168.1.1".weight', "not accepted"),
    # --- probes
    (
        "timeout over interval",
        SITE.replace('"tcp" }', '"tcp", timeout = "3s" }'),
        'service[1] "http".probe.timeout',
        "3s is longer than the interval",
    ),
    ("no rise", SITE.replace('"tcp" }', '"tcp", rise = 0 }'), 'service[1] "http".probe.rise', "not accepted"),
    (
        "hysteresis as high as what it is about",
        service("min_weight = 1\nhysteresis = 1"),
        'service[1] "http".hysteresis',
        "as much as min_weight (1), or more",
    ),
    (
        "more weight wanted than there is",
        service("min_weight = 2"),
        'service[1] "http".min_weight',
        "more than the weights of all its servers (1): never up",
    ),
    (
        "source of another family",
        SITE.replace('"tcp" }', '"tcp", source = "2001:db8::5" }'),
        'service[1] "http".probe.source',
        "not of the family",
    ),
    (
        "mark that is none",
        SITE + "probe_mark = -1\n",
        'service[1] "http".server[1] "192.168.1.1".probe_mark',
        "not accepted",
    ),
    (
        "no port for the probe",
        MARK.replace("[[service.server]]", '[service.probe]\ntype = "tcp"\n[[service.server]]'),
        'service[1] "mark".probe.port',
        "names no port",
    ),
    (
        "second of several probes",
        SITE.replace('probe = { type = "tcp" }\n', "")
        + '[[service.probe]]\ntype = "tcp"\n[[service.probe]]\ntype = "tcp"\nexpct = "x"\n',
        'service[1] "http".probe[2].expct',
        'did you mean "expect"?',
    ),
    # --- alerts
    (
        "password without a name",
        '[alert.email.ops]\nto = "a@b"\nfrom = "c@d"\nserver = "m:25"\npassword_file = "/x"\n',
        "alert.email.ops.password_file",
        "without a username",
    ),
    (
        "name without a password",
        '[alert.email.ops]\nto = "a@b"\nfrom = "c@d"\nserver = "m:25"\nusername = "x"\n',
        "alert.email.ops.username",
        "without a password_file",
    ),
    (
        "mail server without port",
        '[alert.email.ops]\nto = "a@b"\nfrom = "c@d"\nserver = "m"\n',
        "alert.email.ops.server",
        "not accepted",
    ),
    (
        "no mail server",
        '[alert.email.ops]\nto = "a@b"\nfrom = "c@d"\nserver = []\n',
        "alert.email.ops.server",
        "no mail",
    ),
    (
        "period",
        '[alert.webhook.x]\nurl = "https://x"\nperiod = "hr {25}"\n',
        "alert.webhook.x.period",
        "not accepted",
    ),
    ("page for everybody", '[console]\nlisten = "192.168.1.5:9694"\n', "console.listen", "open to everybody"),
    ("page on every address", '[console]\nlisten = "0.0.0.0:9694"\n', "console.listen", "open to everybody"),
    ("user without anything", '[console.user.alice]\nmay = "read"\n', "console.user.alice", "without a token_file"),
    ("certificate without CA", '[console.user.a]\ncertificate = "a"\n', "console.user.a.certificate", "no CA"),
    ("certificate without key", '[console]\ncertificate = "/a"\n', "console.certificate", "without key"),
    ("CA without TLS", '[console]\nclient_ca = "/a"\n', "console.client_ca", "without TLS"),
    ("from", '[alert.email.ops]\nto = "a@b"\nserver = "m:25"\n', "alert.email.ops.from", "missing"),
    ("name of an alert", '[alert.webhook."x y"]\nurl = "https://x"\n', 'alert.webhook."x y"', "not accepted"),
    ("URL", '[alert.webhook.x]\nurl = "ftp://x"\n', "alert.webhook.x.url", "not accepted"),
    (
        "header",
        '[alert.webhook.x]\nurl = "https://x"\nheaders = { X = "a\\nb" }\n',
        "alert.webhook.x.headers.X",
        "no head",
    ),
]


@pytest.mark.parametrize(("text", "path", "message"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_refused(text, path, message):
    with pytest.raises(ConfigError) as caught:
        load_text(text, probes=FAKES)
    found = {problem.path: problem for problem in caught.value.problems}
    assert path in found
    assert message in found[path].message
    assert found[path].accepted
    assert 1 <= found[path].line <= text.count("\n") + 1


TOKEN = '[console.user.alice]\ntoken_file = "/a"\n'
ACCEPTED = [
    ("page on loopback", ONE + '[console]\nlisten = "[::1]:9694"\n'),
    ("page by name", ONE + '[console]\nlisten = "localhost:9694"\n'),
    ("metrics for everybody", ONE + '[console]\nlisten = "0.0.0.0:9694"\npage = false\n'),
    ("page with users", ONE + '[console]\nlisten = "0.0.0.0:9694"\n' + TOKEN),
    ("no group, no VIP of ours", SERVICE.replace('group = "web"\n', "")),
    ("single director", ONE + SERVICE.replace('group = "web"\n', "")),
    ("group alone: a failover pair without services", PAIR),
    ("gateway", cluster('quorum = "gateway"\ngateway = "192.168.1.254"', NO_WITNESS)),
    ("none", cluster('quorum = "none"', NO_WITNESS)),
    ("link by 169.254.0.0/16", PAIR.replace('"10.99.0.', '"169.254.0.')),
    ("profiles", cluster('profile = "fast"')),
    ("vm", cluster('profile = "vm"')),
    ("a quarter exactly", cluster('lease = "1s"\nheartbeat = "243ms"')),
    ("three directors", NO_WITNESS + '[[director]]\nname = "lvs3"\nlinks = ["10.99.0.4", "192.168.1.4"]\n'),
    ("mark", MARK),
    (
        "the same mark in both families",
        MARK + MARK.replace('mark"', 'm6"\nfamily = "ipv6"').replace("192.168.1.1", "::2"),
    ),
    ("same address, other protocol", SITE + udp(SERVICE).replace('"http"', '"two"')),
    ("masquerade changes the port", SITE + 'port = 8080\nforward = "masquerade"\n'),
    (
        "all ports",
        service('persistence = "5m"', SITE).replace("port = 80", "port = 0").replace('"tcp"', '"tcp", port = 1'),
    ),
    ("IPv6 behind IPv4 by tunnel", SITE.replace('address = "192.168.1.1"', 'forward = "tunnel"\naddress = "fd00::1"')),
    ("mask", service('persistence = "5m"\npersistence_mask = "255.255.255.0"')),
    ("prefix in words", service('persistence = "5m"\npersistence_mask = "/24"')),
    ("sorry by masquerade", service('sorry_server = "192.168.1.9:8080"\nsorry_forward = "masquerade"')),
    ("sorry without a port", service('sorry_server = "192.168.1.9"')),
    ("GUE", service('forward = "tunnel"\ntunnel = { type = "gue", port = 6080, checksum = "remote" }')),
    ("one server tunnelled", SITE + 'forward = "tunnel"\ntunnel = { type = "gre", checksum = "checksum" }\n'),
    ("one packet", udp(service("one_packet = true"))),
    ("label", PAIR.replace('/32"', '/32", label = "eth0:web"')),
    ("VIP without prefix", PAIR.replace("/32", "")),
    ("one packet and SIP", udp(service('persistence = "5m"\npersistence_engine = "sip"'))),
    ("ping of a mark", MARK.replace("[[service.server]]", '[service.probe]\ntype = "ping"\n[[service.server]]')),
    (
        "optional port of a mark",
        MARK.replace("[[service.server]]", '[service.probe]\ntype = "outside"\n[[service.server]]'),
    ),
]


@pytest.mark.parametrize("text", [row[1] for row in ACCEPTED], ids=[row[0] for row in ACCEPTED])
def test_accepted(text):
    load_text(text, probes=FAKES)


def test_every_rule_has_a_row():
    """A rule that finds nothing in any row is a rule that is not tested."""
    silent = {rule.__name__ for rule in ERRORS}
    for text in (row[1] for row in ROWS):
        understood = understand(tomli.loads(text))
        silent -= {rule.__name__ for rule in ERRORS if any(rule(understood.config))}
    assert silent == set()
