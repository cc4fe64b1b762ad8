"""How many files and sockets a process of the agent may have open."""

from __future__ import annotations

import resource

from hawatch.errors import LocalError
from hawatch.model import Plan

FILES_BESIDE_CHECKS = 160
"""Descriptors beside those of checks under way: ctl clients, work channels, netlink, files."""
CHECKS_AT_ONCE = 8192
"""As many checks as a prober has under way at most."""


def files_wanted(plan: Plan) -> int:
    """Return how many descriptors a process may need at once, when every check waits for its time-out."""
    return FILES_BESIDE_CHECKS + min(len(plan.checks), CHECKS_AT_ONCE)


def raise_file_limit(plan: Plan) -> None:
    """Raise this process's limit of open files as far as is needed; raise LocalError when that may not be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < files_wanted(plan):
        raise LocalError(
            f"at most {hard} files may be open, and {len(plan.checks)} checks need {files_wanted(plan)}: "
            "raise LimitNOFILE in the unit, or `ulimit -n`"
        )
    if soft != resource.RLIM_INFINITY and soft < files_wanted(plan):
        resource.setrlimit(resource.RLIMIT_NOFILE, (files_wanted(plan), hard))
