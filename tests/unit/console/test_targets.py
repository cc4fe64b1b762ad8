"""From the configuration to rules."""

from __future__ import annotations

import pytest

from hawatch.actions.outgoing import SendError
from hawatch.config.load import load_text
from hawatch.console.rules import Dependency, Rule
from hawatch.console.subjects import Match
from hawatch.console.targets import make_policy, make_targets, read_secret, read_templates
from hawatch.console.templates import Templates
from hawatch.model import NS_PER_S, Severity

TEXT = """
[[director]]
name = "lvs1"
[alert.email.ops]
to = ["a@x", "b@x"]
from = "c@x"
server = ["m1:25", "[::1]:587"]
severity = "critical"
after = "30s"
every = "1h"
at_most = 3
period = "wd {Mon-Fri}"
outside = "drop"
up = false
template = "/none"
[alert.webhook.chat]
url = "https://x/"
[alert.program.pager]
command = "/bin/true"
[[depend]]
what = { service = "http" }
on = { event = "director_dead" }
"""


def test_rules_and_recipients():
    config = load_text(TEXT)
    targets = make_targets(config)
    assert list(targets) == ["email/ops", "webhook/chat", "program/pager"]
    mail = targets["email/ops"]
    assert mail.recipients == ("a@x", "b@x")
    rule = mail.rule
    assert (rule.least, rule.after_ns, rule.every_ns) == (Severity.CRITICAL, 30 * NS_PER_S, 3600 * NS_PER_S)
    assert (rule.at_most, rule.hold, rule.tell_up) == (3, False, False)
    assert rule.period is not None
    policy = make_policy(config, targets, "lvs1")
    assert policy.dependencies == (Dependency(Match(service="http"), Match(name="director_dead")),)
    assert len(policy.rules) == 3


EVERYTHING = """
[[director]]
name = "lvs1"
[[group]]
name = "web"
addresses = [{ address = "192.168.1.110/32", interface = "eth0" }]
[[service]]
name = "http"
group = "web"
address = "192.168.1.110"
port = 80
[[service.server]]
address = "192.168.1.1"
[alert.program.pager]
command = "/bin/true"
after_failures = 3
within = "5m"
digest = "2m"
burst = 4
events = ["server_down"]
groups = ["web"]
services = ["http"]
servers = ["192.168.1.1"]
directors = "all"
"""


def test_each_word_of_an_alert_becomes_its_rules():
    rule = make_targets(load_text(EVERYTHING))["program/pager"].rule
    assert rule == Rule(
        "program/pager",
        events=frozenset({"server_down"}),
        groups=frozenset({"web"}),
        services=frozenset({"http"}),
        servers=frozenset({"192.168.1.1"}),
        after_failures=3,
        within_ns=300 * NS_PER_S,
        burst=4,
        digest_ns=120 * NS_PER_S,
        everywhere=True,
    )
    chat = make_targets(load_text(TEXT))["webhook/chat"]
    assert (chat.rule, chat.recipients) == (Rule("webhook/chat"), ("chat",)), "what is not said is as documented"


async def test_a_program_is_called():
    target = make_targets(load_text(TEXT))["program/pager"]
    from tests.unit.actions.test_outgoing import outgoing

    assert await target.send(outgoing(), "pager") == ""


def test_files_that_are_not_there():
    with pytest.raises(SendError, match="/none"):
        read_secret("/none")
    templates, problem = read_templates(make_targets(load_text(TEXT))["email/ops"])
    assert (templates, problem) == (Templates(), "/none: No such file or directory")


def test_files(tmp_path):
    (tmp_path / "secret").write_text("geheim\n")
    assert read_secret(str(tmp_path / "secret")) == b"geheim"
    (tmp_path / "text").write_text("$what")
    text = TEXT.replace("/none", str(tmp_path / "text"))
    assert read_templates(make_targets(load_text(text))["email/ops"]) == (Templates("$what"), "")
    (tmp_path / "text").write_text("$nonsense")
    templates, problem = read_templates(make_targets(load_text(text))["email/ops"])
    assert templates == Templates()
    assert 'there is no "$nonsense"' in problem
