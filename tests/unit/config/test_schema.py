"""The keys of the configuration: all documented, and bounded as the parts that use them say."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest
from pydantic import BaseModel

from hawatch.cluster import parameters
from hawatch.config.alerts import (
    Chosen,
    ConsoleConfig,
    Depend,
    EmailAlert,
    GroupNotify,
    PageUser,
    ProgramAlert,
    WebhookAlert,
)
from hawatch.config.load import load_text, read_bytes, read_file
from hawatch.config.schema import (
    Cluster,
    Control,
    Group,
    Ipvs,
    Node,
    ProbeConfig,
    Server,
    Service,
    Sync,
    TunnelConfig,
    Vip,
)
from tests.unit.config.fakes import FAKES, PAIR

ROOT = Path(__file__).resolve().parents[3]
REFERENCE = (ROOT / "docs/reference/configuration.md").read_text()
SECTIONS = {
    Cluster: "## `[cluster]`",
    Node: "## `[[director]]`",
    Group: "## `[[group]]`",
    Vip: "Each of `addresses`",
    Sync: "`sync`, which",
    GroupNotify: "`notify`, which",
    Service: "## `[[service]]`",
    TunnelConfig: "## `tunnel`",
    Server: "## `[[service.server]]`",
    ProbeConfig: "## `probe`",
    Ipvs: "## `[ipvs]`",
    Control: "## `[control]`",
    EmailAlert: "## `[alert.email.NAME]`",
    WebhookAlert: "## `[alert.email.NAME]`",
    ProgramAlert: "## `[alert.email.NAME]`",
    Depend: "## `[[depend]]`",
    Chosen: "## `[[depend]]`",
    ConsoleConfig: "## `[console]`",
    PageUser: "## `[console.user.NAME]`",
}


def section_of(heading):
    """The text from where a section begins to the next heading of its level."""
    begin = REFERENCE.index(heading)
    ends = [
        m.start() for m in re.finditer(r"^## |^Each of `|^`(?:sync|notify)`, ", REFERENCE, re.M) if m.start() > begin
    ]
    return REFERENCE[begin : ends[0]]


def keys_of(text):
    """The keys that the rows of a section's tables are about; a row may be about several."""
    firsts = re.findall(r"^\| (`[a-z_`, ]+`) \|", text, re.M)
    return {key for first in firsts for key in re.findall(r"`([a-z_]+)`", first)}


@pytest.mark.parametrize("model", SECTIONS, ids=lambda model: model.__name__)
def test_every_key_is_documented_where_it_belongs(model: type[BaseModel]):
    rows = set(keys_of(section_of(SECTIONS[model])))
    assert {info.alias or name for name, info in model.model_fields.items()} <= rows


@pytest.mark.parametrize("model", SECTIONS, ids=lambda model: model.__name__)
def test_nothing_is_documented_that_does_not_exist(model: type[BaseModel]):
    alerts, depend = (EmailAlert, WebhookAlert, ProgramAlert), (Depend, Chosen)
    both = next((family for family in (alerts, depend) if model in family), (model,))
    keys = {info.alias or name for one in both for name, info in one.model_fields.items()}
    assert set(keys_of(section_of(SECTIONS[model]))) <= keys


def test_the_lease_is_bounded_as_its_own_rules_are():
    for lease_ns, heartbeat_ns in [
        (parameters.LEASE_NS_MIN, parameters.HEARTBEAT_NS_MIN),
        (parameters.LEASE_NS_MAX, parameters.LEASE_NS_MAX // 5),
    ]:
        lease, heartbeat = f"{lease_ns // 1_000_000}ms", f"{heartbeat_ns // 1_000_000}ms"
        config = load_text(
            PAIR.replace("[cluster]\n", f'[cluster]\nlease = "{lease}"\nheartbeat = "{heartbeat}"\n'), probes=FAKES
        )
        assert config.cluster.parameters.lease_ns == lease_ns


@pytest.mark.parametrize("profile", parameters.PROFILES)
def test_every_profile_may_be_named(profile):
    config = load_text(PAIR.replace("[cluster]\n", f'[cluster]\nprofile = "{profile}"\n'), probes=FAKES)
    assert config.cluster.parameters == parameters.PROFILES[profile]


def test_the_example_is_valid():
    config = read_file(ROOT / "etc/hawatch.toml").config
    assert [service.name for service in config.service] == ["http", "smtp", "pop3", "dns-udp", "dns-tcp"]


@pytest.mark.parametrize(
    ("file", "begin"), [("docs/tutorial.md", "        [cluster]"), ("README.md", "    [[director]]")]
)
def test_the_manuals_first_file_is_valid_and_draws_no_warning(file, begin):
    text = (ROOT / file).read_text()
    indent = begin[: -len(begin.lstrip())]
    block = re.search(rf"(?:^{indent}.*\n|^\n)+", text[text.index(begin) :], re.M)
    loaded = read_bytes(textwrap.dedent(block[0]).encode(), file)
    assert [service.name for service in loaded.config.service] == ["http"]
    assert [vip.address for vip in loaded.config.group[0].addresses] == ["192.168.1.110/32"]
    assert loaded.warnings == ()


def test_what_the_example_leaves_out_is_valid_too():
    """Lines such as `# key = value` are there to be uncommented."""
    text = (ROOT / "etc/hawatch.toml").read_text()
    full = re.sub(r"^(\s*)# (?=(\[|\w+ = |\{ ))", r"\1", text, flags=re.M)
    assert full.count("\n# ") < text.count("\n# ")
    config = load_text(full)
    assert config.service[-1].name == "marked"
    assert config.alert.webhook["chat"].severity == "critical"
    assert config.alert.email["ops"].username == "hawatch"
