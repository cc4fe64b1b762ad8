"""The words of `hawatch probe`: targets and options as they are typed, and the options that a probe has."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from hawatch.config.validation import section_of
from hawatch.errors import UsageError
from hawatch.model import Route

SEQUENCES = (tuple, list, set, frozenset, Sequence)
TARGETS = '"192.0.2.1", "192.0.2.1:25", "2001:db8::1", "[2001:db8::1]:25"'


def parse_target(text: str) -> tuple[str, int | None]:
    """Return the address and the port in ADDRESS[:PORT]; raise UsageError for anything else."""
    host, port = text, ""
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise UsageError(f'"{text}" is no address; accepted: {TARGETS}')
        port = port[1:]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        ip_address(host)
    except ValueError as error:
        raise UsageError(f'"{text}" is no address; accepted: {TARGETS}') from error
    return host, parse_port(port) if port else None


def parse_port(text: str) -> int:
    """Return a port; raise UsageError."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= 65535):
        raise UsageError(f'"{text}" is no port; accepted: 1 to 65535')
    return int(text)


def parse_route(way: Mapping[str, str]) -> Route | None:
    """Return the way that source, interface and mark describe, None where none is given; raise UsageError."""
    if not way:
        return None
    mark = way.get("mark", "0")
    if not (mark.isascii() and mark.isdigit() and int(mark[:11]) < 1 << 32):
        raise UsageError(f'"{mark}" is no mark; accepted: 0 to 4294967295')
    sources = way["source"].split(",") if "source" in way else []
    try:
        return Route(tuple(str(ip_address(source)) for source in sources), way.get("interface", ""), int(mark))
    except ValueError as error:
        raise UsageError(f"source: {error}") from error


def parse_options(words: Sequence[str], model: type[BaseModel]) -> dict[str, object]:
    """Return the tables that the words key=value and table.key=value stand for.

    What a value is, is decided by the option that it is for; an unknown key is left to validation, which knows what
    is accepted. Raises UsageError for a word that is no key=value.
    """
    tables: dict[str, object] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise UsageError(f'"{word}" is not key=value')
        path = split_key(key, model)
        table = tables
        for step in path[:-1]:
            below = table.setdefault(step, {})
            if not isinstance(below, dict):
                raise UsageError(f'"{key}" is given twice')
            table = below
        if path[-1] in table:
            raise UsageError(f'"{key}" is given twice')
        table[path[-1]] = parse_value(key, text, field_at(model, path))
    return tables


def split_key(key: str, model: type[BaseModel]) -> list[str]:
    """Return the path of a key: a dot divides it where a table of the options is named before it."""
    head, dot, rest = key.partition(".")
    info = field_of(model, head)
    if not dot or info is None:
        return [key]
    section = section_of(model, head)
    if section is not None:
        return [head, *split_key(rest, section)]
    return [head, rest] if is_kind(info.annotation, (dict, Mapping)) else [key]


def field_at(model: type[BaseModel], path: Sequence[str]) -> FieldInfo | None:
    """Return the option that a path leads to; None inside a free table, or where there is none."""
    for step in path[:-1]:
        section = section_of(model, step)
        if section is None:
            return None
        model = section
    return field_of(model, path[-1])


def field_of(model: type[BaseModel], key: str) -> FieldInfo | None:
    """Return the option of a name."""
    return next((info for name, info in model.model_fields.items() if key == (info.alias or name)), None)


def parse_value(key: str, text: str, info: FieldInfo | None) -> object:
    """Return a value in the form that its option takes; numbers and truth values are left to validation."""
    if info is None:
        return text
    listed = is_kind(info.annotation, SEQUENCES)
    if text[:1] in ("[", "{") and (listed or is_kind(info.annotation, (dict, Mapping, BaseModel))):
        try:
            return json.loads(text)
        except ValueError as error:
            raise UsageError(f"{key}: no JSON: {error}") from error
    return text.split(",") if listed else text


def is_kind(annotation: Any, kinds: tuple[Any, ...]) -> bool:
    """Tell whether a value of an annotated type is one of `kinds`, and no plain text."""
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        alternatives = get_args(annotation)
        return str not in alternatives and any(is_kind(alternative, kinds) for alternative in alternatives)
    candidate = origin or annotation
    if hasattr(candidate, "__metadata__"):
        return is_kind(get_args(annotation)[0], kinds)
    if candidate in (str, bytes) or not isinstance(candidate, type):
        return False  # a str is a Sequence, too
    return any(issubclass(candidate, kind) for kind in kinds)


def describe_options(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield each option: its key with what it takes, its default, its description."""
    for name, info in model.model_fields.items():
        key = prefix + (info.alias or name)
        section = section_of(model, info.alias or name)
        if section is not None and not is_kind(info.annotation, SEQUENCES):
            yield from describe_options(section, f"{key}.")
            continue
        if is_kind(info.annotation, (dict, Mapping)):
            yield f"{key}.NAME=text", "", info.description or ""
            continue
        yield f"{key}={takes(info.annotation)}", default_of(info), info.description or ""


def takes(annotation: Any) -> str:
    """Return in a word what an option takes."""
    if is_kind(annotation, SEQUENCES):
        return "a,b,..."
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return "|".join(str(argument) for argument in arguments)
    if origin in (Union, UnionType):
        return "|".join(dict.fromkeys(takes(argument) for argument in arguments if argument is not type(None)))
    if origin is not None and hasattr(annotation, "__metadata__"):
        return takes(arguments[0])
    return {bool: "true|false", int: "number", float: "number"}.get(annotation, "text")


def default_of(info: FieldInfo) -> str:
    """Return an option's default as it would be typed, "" where there is none worth saying."""
    if info.is_required():
        return "required"
    default = info.get_default(call_default_factory=True) if info.default_factory is None else ()
    if default is None or default in ("", (), {}):
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    return ",".join(map(str, default)) if isinstance(default, (tuple, list, frozenset)) else str(default)
