"""The JSON Schema for editors says what the loader says, as far as it can."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import tomli

from hawatch.config.jsonschema import make_schema
from tests.unit.config.fakes import FAKES, SITE

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "etc" / "hawatch.toml"


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
