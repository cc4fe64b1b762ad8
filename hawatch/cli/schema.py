"""`hawatch schema`: the JSON Schema of the configuration, for editors."""

from __future__ import annotations

import argparse
import json

from hawatch.config.jsonschema import make_schema


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments: it has none."""


def run(arguments: argparse.Namespace) -> int:
    """Print the schema; return the exit status."""
    print(json.dumps(make_schema(), indent=2))
    return 0
