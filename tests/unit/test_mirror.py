"""Every module has its own test file, or is named here with the reason why not. The list is to get shorter."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests" / "unit"
MODULES = sorted(
    path.relative_to(ROOT)
    for folder in ("hawatch", "probes", "actions")
    for path in (ROOT / folder).rglob("*.py")
    if path.name != "__init__.py"
)
EXCEPTIONS = {
    # Words only: nothing in them can go wrong by itself.
    "hawatch/agent/messages.py": "message types; test_link carries them",
    "hawatch/errors.py": "exception types",
    "hawatch/model.py": "data types of everything",
    "hawatch/plugin.py": "the plug-ins' interface; every probe's test goes through it",
    # Parts of one thing that is tested as a whole, by its tables of good and bad files.
    "hawatch/config/alerts.py": "test_schema",
    "hawatch/config/probes.py": "test_load",
    "hawatch/config/rules_alert.py": "test_rules",
    "hawatch/config/rules_cluster.py": "test_rules",
    "hawatch/config/rules_group.py": "test_rules",
    "hawatch/config/rules_probe.py": "test_rules",
    "hawatch/config/rules_server.py": "test_rules",
    "hawatch/config/rules_service.py": "test_rules",
    "hawatch/config/service.py": "test_schema",
    "hawatch/config/validation.py": "test_load",
    "hawatch/control/access.py": "test_server",
    "hawatch/control/client.py": "test_server",
    "hawatch/agent/child.py": "test_process and test_keeper",
    "hawatch/agent/core_commands.py": "test_core, over the socket",
    "hawatch/agent/core_reload.py": "test_core, over the socket",
    "hawatch/agent/settings.py": "test_main and test_core",
    "hawatch/agent/status.py": "test_core and test_render",
    "hawatch/console/answers.py": "test_main of the console, by ctl",
    "hawatch/console/catalogue.py": "test_collector, and test_monitoring of etc",
    "hawatch/console/exposition.py": "test_metrics, and test_main of the console",
    "hawatch/console/text_format.py": "test_collector, with prometheus-client's parser",
    "hawatch/console/dependencies.py": "test_policy",
    "hawatch/console/history.py": "test_policy and test_store",
    "hawatch/console/rules.py": "test_policy",
    "hawatch/config/rules_console.py": "test_rules",
    "hawatch/console/page/render.py": "test_pages",
    "hawatch/console/page/feed.py": "test_pages, and test_app over HTTP",
    "hawatch/console/page/ask.py": "test_app",
    "hawatch/cluster/effects.py": "what enters and leaves a node; small_site and tests/sim carry it out",
    "hawatch/cluster/group.py": "test_ownership and test_states",
    "hawatch/cluster/membership.py": "test_settling and test_node",
    "hawatch/cluster/report.py": "test_node on a perfect network, tests/sim on a bad one",
    "hawatch/cluster/site.py": "test_node on a perfect network, tests/sim on a bad one",
    "hawatch/cluster/telling.py": "test_node on a perfect network, tests/sim on a bad one",
}


def mirror(module: Path) -> Path:
    """Return where a module's test file belongs."""
    inside = module.relative_to("hawatch") if module.parts[0] == "hawatch" else module
    return TESTS / inside.with_name(f"test_{inside.name}")


@pytest.mark.parametrize("module", [str(path) for path in MODULES])
def test_every_module_has_its_test_file(module: str) -> None:
    if mirror(Path(module)).exists():
        assert module not in EXCEPTIONS, "it has its file now: take it off the list"
    else:
        assert module in EXCEPTIONS, f"{mirror(Path(module)).relative_to(ROOT)} is missing"


def test_the_list_names_only_what_there_is() -> None:
    assert set(EXCEPTIONS) <= {str(path) for path in MODULES}
