"""The configuration's JSON Schema, for editors: with the options of every installed probe."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema

from hawatch.config.durations import FORM_JSON, format_duration
from hawatch.config.probes import INSTALLED, ProbeTypes
from hawatch.config.rules_probe import COMMON_KEYS
from hawatch.config.schema import Config
from hawatch.errors import ConfigError
from hawatch.plugin import Probe

JsonObject = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def make_schema(probes: ProbeTypes = INSTALLED) -> JsonObject:
    """Return the JSON Schema of the configuration file."""
    schema: JsonObject = {"$schema": DIALECT, **Config.model_json_schema()}
    schema["title"] = "hawatch configuration"
    definitions: JsonObject = schema["$defs"]
    common = definitions["ProbeConfig"]["properties"]
    choices = []
    for probe_type in probes.names():
        try:
            options = options_schema(probe_type, probes.find(probe_type), definitions)
        except (ConfigError, PydanticInvalidForJsonSchema):
            # A plug-in that cannot be loaded or described: its type is known, its options are not.
            options = {"additionalProperties": True}
        choices.append(probe_schema(probe_type, common, options))
    definitions["ProbeConfig"] = {
        "title": "Probe", "description": definitions["ProbeConfig"].get("description", ""), "oneOf": choices,
    }  # fmt: skip
    return plain(schema)


def options_schema(probe_type: str, probe: type[Probe], definitions: JsonObject) -> JsonObject:
    """Return the schema of a probe's own options; what it refers to goes to `definitions` under names of its own."""
    template = "#/$defs/probe-" + probe_type + "-{model}"
    schema = TypeAdapter(probe.options_type).json_schema(ref_template=template)
    for name, definition in schema.pop("$defs", {}).items():
        definitions[f"probe-{probe_type}-{name}"] = definition
    if "$ref" in schema:
        schema = definitions[schema["$ref"].removeprefix("#/$defs/")]
    return dict(schema)


def probe_schema(probe_type: str, common: JsonObject, options: JsonObject) -> JsonObject:
    """Return the schema of a probe's table: the keys of all probes and the type's own."""
    properties = {key: common[key] for key in COMMON_KEYS} | options.get("properties", {})
    properties["type"] = {"const": probe_type, "description": common["type"].get("description", "")}
    return {
        "type": "object",
        "title": f"probe {probe_type}",
        "properties": properties,
        "required": ["type", *options.get("required", [])],
        "additionalProperties": options.get("additionalProperties", False),
    }


def plain(schema: JsonObject) -> JsonObject:
    """Return the schema as an editor shows it best: no titles made of keys, and no null, which TOML does not have."""
    cleaned: JsonObject = {key: plain_value(key, value) for key, value in schema.items()}
    if cleaned.get("default", "") is None:
        del cleaned["default"]
    if cleaned.get("pattern") == FORM_JSON and isinstance(cleaned.get("default"), int):
        cleaned["default"] = format_duration(cleaned["default"])
    choices = cleaned.get("anyOf")
    if isinstance(choices, list):
        choices = [choice for choice in choices if choice != {"type": "null"}]
        if len(choices) == 1:
            del cleaned["anyOf"]
            return {**choices[0], **cleaned}
        cleaned["anyOf"] = choices
    return cleaned


def plain_value(key: str, value: Any) -> Any:
    """Return `plain` of everything below a key."""
    if isinstance(value, dict):
        if key in {"properties", "$defs"}:
            return {name: without_title(plain(member)) for name, member in value.items()}
        return value if key in {"default", "const"} else plain(value)
    if isinstance(value, list):
        return [plain(member) if isinstance(member, dict) else member for member in value]
    return value


def without_title(schema: JsonObject) -> JsonObject:
    """Return the schema without the title that pydantic makes of the key."""
    return {key: value for key, value in schema.items() if key != "title"}
