"""The JSON Schema for editors says what the loader says, as far as it can."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import tomli

from hawatch.config.jsonschema import make_schema
from hawatch.config.probes import InstalledProbes
from hawatch.config.rules_probe import COMMON_KEYS
from tests.unit.config.fakes import FAKES, SITE

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "etc" / "hawatch.toml"


class BuiltInProbes(InstalledProbes):
    """Only what comes with hawatch, whatever else this machine has installed."""

    def names(self):
        return tuple(name for name in super().names() if self.is_built_in(name))


@pytest.fixture(scope="module")
def validator():
    schema = make_schema(FAKES)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(json.loads(json.dumps(schema)))


@pytest.mark.parametrize("text", [SITE, EXAMPLE.read_text(), ""], ids=["site", "example", "empty"])
def test_accepts_what_the_loader_accepts(validator, text):
    assert [error.message for error in validator.iter_errors(tomli.loads(text))] == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("port = 80", 'port = "80"'),
        ("port = 80", "prot = 80"),
        ("port = 80", 'port = 80\nscheduler = "wlcc"'),
        ('"tcp" }', '"tcp", interval = 5 }'),
        ('"tcp" }', '"tcp", interval = "5" }'),
        ('"tcp" }', '"tcp", expct = "x" }'),
        ('"tcp" }', '"tcq" }'),
        ('address = "192.168.1.1"\n', ""),
        ("[cluster]", "[clutser]"),
    ],
)
def test_refuses_what_the_loader_refuses(validator, old, new):
    assert not validator.is_valid(tomli.loads(SITE.replace(old, new)))


def test_every_key_is_described():
    for name, definition in make_schema(FAKES)["$defs"].items():
        for key, value in definition.get("properties", {}).items():
            assert value.get("description") or "$ref" in value, f"{name}.{key}"


def test_defaults_are_as_people_write_them():
    tcp = next(
        choice for choice in make_schema(FAKES)["$defs"]["ProbeConfig"]["oneOf"] if choice["title"] == "probe tcp"
    )
    assert tcp["properties"]["interval"]["default"] == "2s"


def test_a_probe_that_cannot_be_loaded_has_options_of_any_kind(validator):
    assert validator.is_valid(tomli.loads(SITE.replace('"tcp" }', '"broken", what = "ever" }')))


def test_the_schema_beside_the_example_is_current():
    """`hawatch schema > etc/hawatch.schema.json` makes it anew when keys have changed."""
    assert json.loads((ROOT / "etc" / "hawatch.schema.json").read_text()) == make_schema(BuiltInProbes())


def test_the_built_in_probes_have_schemas_too():
    schema = make_schema(BuiltInProbes())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(tomli.loads(EXAMPLE.read_text()))
    assert all(choice["properties"].keys() > set(COMMON_KEYS) for choice in schema["$defs"]["ProbeConfig"]["oneOf"])
