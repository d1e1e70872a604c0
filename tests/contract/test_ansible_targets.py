"""Every module and plugin of the collection is tried with ``ansible-test integration``.

That includes what makes such a target worth having: check mode before and after the real run, a
look at the diff, and input that must be refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
COLLECTION = REPOSITORY / "collections/ansible_collections/peersys/pki"
TARGETS = COLLECTION / "tests/integration/targets"
MODULES = sorted(path.stem for path in (COLLECTION / "plugins/modules").glob("*.py"))
ROLES = {path.name for path in (COLLECTION / "roles").iterdir()}
PLUGINS = sorted(
    f"{kind}_{path.stem}"
    for kind in ("filter", "inventory")
    for path in (COLLECTION / f"plugins/{kind}").glob("*.py")
)
CHECK_RUN_CHECK_RUN = "loop: [true, false, true, false]"

ON_HOSTS = REPOSITORY / "tests/acceptance/modules"
TRIED_ON_HOSTS = {
    "firewall": "replaces a table of the running kernel",
    "node_service": "makes a user and a systemd service",
    "postgresql_server": "installs a package, makes a cluster",
    "status_cache_service": "installs a package, runs a unit",
}
"""Modules that need root and a host of their own: molecule/high_availability tries them there."""

NEVER_THE_SAME = {"trial_certificate": "each run issues and revokes a certificate"}
"""Modules that change something however often they run."""


def target_of(module: str) -> Path:
    """Return the target's directory, or the task file that is one on hosts.

    A role of the collection would be taken for a target that has its name.
    """
    if module in TRIED_ON_HOSTS:
        return ON_HOSTS / f"{module}.yml"
    return TARGETS / (f"module_{module}" if module in ROLES else module)


def text_of(target: Path) -> str:
    if target.is_file():
        return target.read_text(encoding="utf-8")
    return "".join(path.read_text(encoding="utf-8") for path in sorted(target.rglob("*.yml")))


def documentation_of(module: str) -> Any:
    source = (COLLECTION / f"plugins/modules/{module}.py").read_text(encoding="utf-8")
    return yaml.safe_load(source.partition('DOCUMENTATION = r"""')[2].partition('"""')[0])


@pytest.mark.parametrize("module", MODULES)
def test_each_module_has_a_target_that_runs_it(module: str) -> None:
    target = target_of(module)
    assert target.is_file() or (target / "tasks/main.yml").exists(), f"write {target}"
    assert f"peersys.pki.{module}:" in text_of(target)


@pytest.mark.parametrize("module", MODULES)
def test_each_module_is_checked_run_checked_and_run(module: str) -> None:
    text = text_of(target_of(module))
    assert (CHECK_RUN_CHECK_RUN in text) == (module not in NEVER_THE_SAME)
    assert 'check_mode: "{{ foreseen }}"' in text
    assert "changed" in text
    shows_difference = "_attributes.object" in str(documentation_of(module)) or (
        documentation_of(module).get("attributes", {}).get("diff_mode", {}).get("support") == "full"
    )
    assert not shows_difference or ".diff" in text


@pytest.mark.parametrize("name", sorted({*MODULES, *PLUGINS}))
def test_each_target_has_input_that_must_be_refused(name: str) -> None:
    text = text_of(target_of(name) if name in MODULES else TARGETS / name)
    assert "ignore_errors: true" in text
    assert "is failed" in text


@pytest.mark.parametrize("plugin", PLUGINS)
def test_each_plugin_has_a_target(plugin: str) -> None:
    assert (TARGETS / plugin / "tasks/main.yml").exists()


def test_a_target_that_isnt_named_after_its_module_says_whose_it_is() -> None:
    for target in TARGETS.glob("module_*"):
        aliases = (target / "aliases").read_text(encoding="utf-8").split()
        assert target.name.removeprefix("module_") in aliases


def test_every_target_is_of_something_that_exists() -> None:
    modules = set(MODULES) - TRIED_ON_HOSTS.keys()
    expected = {target_of(module).name for module in modules} | {*PLUGINS}
    found = {path.name for path in TARGETS.iterdir() if not path.name.startswith("setup_")}
    assert found <= expected


def test_what_is_tried_on_hosts_is_tried_in_full() -> None:
    plays = yaml.safe_load((ON_HOSTS / "main.yml").read_text(encoding="utf-8"))
    run = [task["ansible.builtin.import_tasks"] for play in plays for task in play["tasks"]]
    assert sorted(run) == [f"{module}.yml" for module in sorted(TRIED_ON_HOSTS)]


def test_exceptions_are_of_something_that_exists_and_say_why() -> None:
    for exceptions in (TRIED_ON_HOSTS, NEVER_THE_SAME):
        assert exceptions.keys() <= {*MODULES}
        assert all(exceptions.values())
