"""From the tables of a file to models: pydantic's errors in our words, and what can be understood in spite of them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from hawatch.config.positions import Path
from hawatch.config.problems import Finding, child, nearest, nearest_word
from hawatch.config.schema import Config

ROUNDS_MAX = 4
"""Attempts to understand the rest of a file with mistakes; one is enough unless a mistake hides another."""

MISSING = "missing"

Details = Mapping[str, Any]


@dataclass(slots=True)
class Understood:
    """What a file amounts to: the mistakes, and a configuration of all that is without one."""

    config: Config | None
    findings: list[Finding]
    removed: list[Path] = field(default_factory=list)
    """Paths in the file that the configuration lacks because they could not be understood."""
    kept: dict[Path, list[int]] = field(default_factory=dict)
    """For arrays that lost elements: the places in the file of those that stayed."""

    def path_in_file(self, path: Path) -> Path:
        """Return where a path of the configuration stands in the file."""
        real: Path = ()
        for step in path:
            places = self.kept.get(real)
            real = (*real, places[step] if places is not None and isinstance(step, int) else step)
        return real

    def in_doubt(self, finding: Finding) -> bool:
        """Tell whether a finding rests on something that could not be understood."""
        return any(covers(removed, path) for removed in self.removed for path in (finding.path, *finding.depends))


def covers(removed: Path, path: Path) -> bool:
    """Tell whether `removed` is `path` or contains it; "*" in `path` is any step."""
    return len(removed) <= len(path) and all(b in (a, "*") for a, b in zip(removed, path, strict=False))


def understand(data: dict[str, object]) -> Understood:
    """Return the configuration that the file's tables describe, and every mistake of form in them."""
    try:
        return Understood(Config.model_validate(data), [])
    except ValidationError as error:
        details = essential(error.errors(include_url=False))
    pruned = copy.deepcopy(data)
    meant = {path for detail in details if (path := meant_path(detail, pruned))}
    findings = [describe(detail, pruned) for detail in details]
    understood = Understood(None, [f for f in findings if f.message != MISSING or f.path not in meant], [*meant])
    for _ in range(ROUNDS_MAX):
        for path in {understood.path_in_file(blamed(detail, pruned)) for detail in details}:
            understood.removed.append(path)
            remove(pruned, path)
        whole = copy.deepcopy(pruned)
        understood.kept = compact(whole, ())
        try:
            understood.config = Config.model_validate(whole)
        except ValidationError as error:
            details = [*error.errors(include_url=False)]
            continue
        return understood
    return understood


def essential(details: Sequence[Details]) -> list[Details]:
    """Return pydantic's errors without those that only follow from others, or tell of an alternative that is empty.

    An array none of whose elements is right counts as too short; "" is accepted beside many forms, and means none.
    """
    places = [tuple(detail["loc"]) for detail in details]

    def follows(detail: Details) -> bool:
        here = tuple(detail["loc"])
        if detail["type"] == "too_short":
            return any(len(place) > len(here) and place[: len(here)] == here for place in places)
        nothing = detail["type"] == "literal_error" and detail["ctx"]["expected"] == "''"
        return nothing and any(place != here and place[:-1] == here[:-1] for place in places)

    return [detail for detail in details if not follows(detail)]


def real_location(location: Sequence[str | int], data: object) -> Path:
    """Return pydantic's location without the steps that are no keys of the file.

    Those are "[key]", the name of an alternative, and the index where the file has one value in the place of an array
    of one.
    """
    path: list[str | int] = []
    for step in location:
        if step == "[key]" or (isinstance(step, str) and not isinstance(data, dict | list)):
            break
        if isinstance(step, int) and not isinstance(data, list):
            continue
        path.append(step)
        data = child(data, step)
    return tuple(path)


def blamed(detail: Details, data: dict[str, object]) -> Path:
    """Return what must go for the rest to be understood: the wrong value, or the table that lacks a key."""
    path = real_location(detail["loc"], data)
    return path[:-1] if detail["type"] == "missing" and path else path


def meant_path(detail: Details, data: object) -> Path:
    """Return the path of the key that an unknown one was probably meant to be, or ()."""
    if detail["type"] != "extra_forbidden":
        return ()
    path = real_location(detail["loc"], data)
    word = nearest_word(str(path[-1]), known_keys(Config, detail["loc"][:-1]))
    return (*path[:-1], word) if word else ()


class Gone:
    """Stands in an array for an element that was removed."""


def remove(data: dict[str, object], path: Path) -> None:
    """Take a value out of the tables; an array's element leaves its place until `compact`."""
    node: object = data
    for step in path[:-1]:
        node = child(node, step)
    if isinstance(node, dict) and path:
        node.pop(path[-1], None)
    elif isinstance(node, list) and path and isinstance(path[-1], int) and path[-1] < len(node):
        node[path[-1]] = Gone()


def compact(node: object, path: Path) -> dict[Path, list[int]]:
    """Close the gaps in all arrays below `node`; return which places stayed, by the path in the file."""
    kept: dict[Path, list[int]] = {}
    if isinstance(node, list):
        places = [number for number, element in enumerate(node) if not isinstance(element, Gone)]
        for number in places:
            kept |= compact(node[number], (*path, number))
        if len(places) < len(node):
            node[:] = [node[number] for number in places]
            kept[path] = places
    elif isinstance(node, dict):
        for key, value in node.items():
            kept |= compact(value, (*path, key))
    return kept


def describe(detail: Details, data: object, model: type[BaseModel] = Config) -> Finding:
    """Return one of pydantic's errors in our words."""
    path = real_location(detail["loc"], data)
    kind, context = str(detail["type"]), cast("Mapping[str, object]", detail.get("ctx", {}))
    if kind == "extra_forbidden":
        known = known_keys(model, detail["loc"][:-1])
        return Finding(path, f"unknown key{nearest(str(path[-1]), known)}", ", ".join(known))
    if kind == "missing":
        return Finding(path, MISSING, description(model, detail["loc"]))
    if kind in {"literal_error", "enum"}:
        expected = str(context.get("expected", "")).replace("'", '"')
        word = detail.get("input")
        hint = (
            nearest(word, expected.replace('"', "").replace(" or ", ", ").split(", ")) if isinstance(word, str) else ""
        )
        return Finding(path, f"not accepted{hint}", expected)
    if kind == "unaccepted":
        return Finding(path, "not accepted", str(context["accepted"]))
    if kind in {"too_long", "too_short"}:
        bound = f"at most {context['max_length']}" if kind == "too_long" else f"at least {context['min_length']}"
        return Finding(path, "too many" if kind == "too_long" else "too few", bound)
    if kind == "value_error":
        return Finding(path, sentence(str(detail["msg"])))
    if kind in ARRAYS | TABLES and (below := section_meant(model, detail["loc"])) is not None:
        return Finding(path, "not accepted", shape(below, str(path[-1]) if kind in ARRAYS else ""))
    if kind in BOUNDS:
        return Finding(path, "not accepted", f"{BOUNDS[kind][1]} {context[BOUNDS[kind][0]]}")
    return Finding(path, "not accepted", WORDS.get(kind) or sentence(str(detail["msg"])))


ARRAYS, TABLES = frozenset({"tuple_type", "list_type"}), frozenset({"dict_type", "model_type", "model_attributes_type"})
BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "less_than_equal": ("le", "at most"),
    "greater_than": ("gt", "more than"),
    "less_than": ("lt", "less than"),
}
"""pydantic's names of the errors of numbers: where it has the bound, and what we say of it."""


def shape(section: type[BaseModel], array: str) -> str:
    """Return what is to be written for a section, or for an array of them named `array`."""
    needed = [info.alias or name for name, info in section.model_fields.items() if info.is_required()]
    table = "a table" + (f" with {', '.join(needed)}" if needed else "")
    return f"an array of tables, [[{array}]]; each {table}" if array else table


WORDS = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "a string",
    "tuple_type": "an array",
    "list_type": "an array",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}
"""What is accepted, by pydantic's name of the error."""


def sentence(message: str) -> str:
    """Return what a validator says is accepted, from its message."""
    for opening in ("Input should be ", "Input should have ", "Value error, ", "Assertion failed, "):
        message = message.removeprefix(opening)
    return message[:1].lower() + message[1:]


def known_keys(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """Return the keys of the section that a location leads to."""
    model = section_at(model, location)
    return sorted(info.alias or name for name, info in model.model_fields.items())


def description(model: type[BaseModel], location: Sequence[str | int]) -> str:
    """Return what is said of the key that a location leads to."""
    fields = section_at(model, location[:-1]).model_fields
    info = next((info for name, info in fields.items() if location[-1] in (name, info.alias)), None)
    return (info.description if info else None) or ""


def section_at(model: type[BaseModel], location: Sequence[str | int]) -> type[BaseModel]:
    """Return the model of the section that a location leads to."""
    for step in location:
        if isinstance(step, str) and (below := section_of(model, step)) is not None:
            model = below
    return model


def section_meant(model: type[BaseModel], location: Sequence[str | int]) -> type[BaseModel] | None:
    """Return the model of the section that should stand at a location, or be an element of the array there."""
    place = max((number for number, step in enumerate(location) if isinstance(step, str)), default=0)
    return section_of(section_at(model, location[:place]), str(location[place]))


def section_of(model: type[BaseModel], key: str) -> type[BaseModel] | None:
    """Return the model of what stands at a key of a section, looking into arrays, tables and unions."""
    info = next((f for name, f in model.model_fields.items() if key in (name, f.alias)), None)
    if info is None:
        return None
    candidates: list[Any] = [info.annotation]
    while candidates:
        candidate = candidates.pop()
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
        candidates.extend(getattr(candidate, "__args__", ()))
    return None
