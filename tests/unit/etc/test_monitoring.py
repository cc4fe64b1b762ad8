"""Dashboard, alert rules and the reference name the metrics that there are, and promtool accepts them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from hawatch.config.alerts import Detail
from hawatch.console.catalogue import CATALOGUE, Kind
from tests.unit.console.numbers import measures, render

ROOT = Path(__file__).resolve().parents[3]
RULES = ROOT / "etc/prometheus/hawatch.rules.yml"
RULE_TESTS = ROOT / "etc/prometheus/hawatch.rules.test.yml"
DASHBOARD = ROOT / "etc/grafana/hawatch.json"
REFERENCE = ROOT / "docs/reference/metrics.md"
SPECS = {spec.name: spec for spec in CATALOGUE.values()}
SAMPLES = {
    name + ending: spec
    for name, spec in SPECS.items()
    for ending in (("_bucket", "_sum", "_count") if spec.kind is Kind.HISTOGRAM else ("",))
}
NAME = re.compile(r"\bhawatch_\w+")
MATCHED = re.compile(r"\b(hawatch_\w+)\{([^}]*)\}")
LEGEND = re.compile(r"\{\{ ?(?:\$labels\.)?(\w+) ?\}\}")
ADDED = {"job", "instance", "le"}
"""Labels that Prometheus adds."""


def rules() -> list[dict]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def board() -> dict:
    return json.loads(DASHBOARD.read_text())


def board_expressions() -> Iterator[str]:
    loaded = board()
    for panel in loaded["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    yield from (variable["query"]["query"] for variable in loaded["templating"]["list"] if variable["type"] == "query")
    yield from (each["expr"] for each in loaded["annotations"]["list"])


def promtool(*words: str, text: str = "") -> str:
    done = subprocess.run(["promtool", *words], input=text, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def labels_of(expression: str) -> set[str]:
    return ADDED.union(*(SAMPLES[name].labels for name in NAME.findall(expression)))


def assert_known(expression: str) -> None:
    """Assert that its metrics exist and have the labels by which it chooses."""
    for name in NAME.findall(expression):
        assert name in SAMPLES, f"{name} in {expression}"
    for name, matchers in MATCHED.findall(expression):
        for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers):
            assert label in {*SAMPLES[name].labels, *ADDED}, f"{label} of {name} in {expression}"
    for words in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression):
        assert {word.strip() for word in words.split(",")} <= labels_of(expression), expression


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_a_rule_names_what_there_is_and_says_what_to_do(rule):
    assert_known(rule["expr"])
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert set(rule["annotations"]) == {"summary", "runbook"}
    for text in rule["annotations"].values():
        assert text.endswith((".", "`"))
        assert set(LEGEND.findall(text)) <= labels_of(rule["expr"]), text


def test_every_rule_is_seen_to_fire():
    tests = RULE_TESTS.read_text()
    assert [rule["alert"] for rule in rules() if f"{rule['alert']}" not in tests] == []


def test_promtool_accepts_the_rules_and_their_tests():
    assert f"SUCCESS: {len(rules())} rules found" in promtool("check", "rules", str(RULES))
    assert "SUCCESS" in promtool("test", "rules", str(RULE_TESTS))


def test_rule_tests_feed_what_there_is():
    for series in (
        series for test in yaml.safe_load(RULE_TESTS.read_text())["tests"] for series in test["input_series"]
    ):
        assert_known(series["series"])


def test_promtool_finds_nothing_wrong_with_a_scrape():
    assert promtool("check", "metrics", text=render(measures(), Detail.CHECK).decode()) == ""


@pytest.mark.parametrize("expression", sorted(set(board_expressions())))
def test_the_dashboard_names_what_there_is(expression):
    assert_known(expression)


def test_the_dashboard_can_be_imported_anywhere():
    loaded = board()
    assert loaded["templating"]["list"][0]["type"] == "datasource"
    used = re.findall(r'"uid": "([^"]*)"', DASHBOARD.read_text())
    assert set(used) == {"${datasource}", "hawatch"}
    numbers = [panel["id"] for panel in loaded["panels"]]
    assert len(set(numbers)) == len(numbers)
    for panel in loaded["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for target in panel.get("targets", ()):
            assert set(LEGEND.findall(target["legendFormat"])) <= labels_of(target["expr"]), panel["title"]


@pytest.mark.parametrize("expression", sorted(set(board_expressions())))
def test_promtool_understands_the_dashboard(expression, tmp_path):
    if expression.startswith("label_values("):
        return
    for variable, value in (("$__rate_interval", "1m"), ("$job", "hawatch"), ("$service", ".*")):
        expression = expression.replace(variable, value)
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "x", "rules": [{"record": "x", "expr": expression}]}]}))
    promtool("check", "rules", str(file))


def test_the_reference_says_what_is_exported_and_nothing_else():
    told = {}
    for line in REFERENCE.read_text().splitlines():
        if line.startswith("| `hawatch_"):
            name, kind, labels, text = (part.strip() for part in line.strip("|").split("|"))
            told[name.strip("`")] = kind, tuple(re.findall(r"`(\w+)`", labels)), text
    assert told == {spec.name: (str(spec.kind), spec.labels, spec.help) for spec in SPECS.values()}


def test_the_check_can_fail():
    for wrong in ("hawatch_news", 'hawatch_core_up{service="http"}', "sum by (service) (hawatch_core_up)"):
        with pytest.raises(AssertionError):
            assert_known(wrong)
