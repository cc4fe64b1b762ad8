"""The agent's modules as an installation has them: one package, without the checkout around it."""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def copy_modules(target: Path) -> None:
    """Copy the package `hawatch` into a folder of packages; probes and actions are parts of it."""
    for source, part in (("hawatch", "hawatch"), ("probes", "hawatch/probes"), ("actions", "hawatch/actions")):
        shutil.copytree(ROOT / source, target / part, ignore=shutil.ignore_patterns("__pycache__"))
