"""The collection agrees with itself: role arguments, action group, topology schema, layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.peersys.pki.plugins.module_utils._specifications import (
    CERTIFICATE_PROFILE,
    MANAGEMENT_CA,
)
from ansible_collections.peersys.pki.plugins.plugin_utils import _topology_reader
from jsonschema import Draft202012Validator

REPOSITORY = Path(__file__).parents[2]
COLLECTION = REPOSITORY / "collections/ansible_collections/peersys/pki"
ROLES = sorted(path.name for path in (COLLECTION / "roles").iterdir())
TOPOLOGIES = sorted((REPOSITORY / "inventories").glob("*/topology.yml"))


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def entry_points(role: str) -> dict[str, dict[str, Any]]:
    specification: dict[str, dict[str, Any]] = read_yaml(
        COLLECTION / "roles" / role / "meta/argument_specs.yml"
    )["argument_specs"]
    return specification


@pytest.mark.parametrize("role", ROLES)
def test_defaults_of_a_role_are_those_of_its_arguments(role: str) -> None:
    defaults = read_yaml(COLLECTION / "roles" / role / "defaults/main.yml")
    declared: dict[str, Any] = {}
    for entry_point in entry_points(role).values():
        declared |= {
            name: option["default"]
            for name, option in entry_point["options"].items()
            if "default" in option
        }
    assert declared == defaults


@pytest.mark.parametrize("role", ROLES)
def test_each_callable_task_file_has_an_entry_point(role: str) -> None:
    files = {path.stem for path in (COLLECTION / "roles" / role / "tasks").glob("*.yml")}
    assert set(entry_points(role)) <= files


@pytest.mark.parametrize("role", ROLES)
def test_arguments_of_a_role_carry_its_name_and_no_secret_has_a_default(role: str) -> None:
    for entry_point in entry_points(role).values():
        for name, option in entry_point["options"].items():
            assert name.startswith(f"{role}_")
            if name.endswith(("passphrase", "token")):
                assert option["no_log"]
                assert "default" not in option


def test_action_group_has_every_module_that_asks_the_agent() -> None:
    group = set(read_yaml(COLLECTION / "meta/runtime.yml")["action_groups"]["node"])
    modules = (COLLECTION / "plugins/modules").glob("*.py")
    asking = {path.stem for path in modules if "peersys.pki._connection" in path.read_text()}
    assert group == asking


def test_no_package_marker_below_collections() -> None:
    assert list((REPOSITORY / "collections").rglob("__init__.py")) == []


def test_short_path_is_a_symlink_to_the_real_files() -> None:
    assert (REPOSITORY / "collections/peersys").readlink() == Path("ansible_collections/peersys")


def test_collection_never_imports_the_agent() -> None:
    for path in (COLLECTION / "plugins").rglob("*.py"):
        assert "node_agent" not in path.read_text(encoding="utf-8"), path


@pytest.fixture(scope="module")
def schema() -> Any:
    path = REPOSITORY / "docs/reference/topology.schema.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(document)
    return document


@pytest.mark.parametrize("path", TOPOLOGIES, ids=lambda path: path.parent.name)
def test_shipped_topologies_follow_the_schema(path: Path, schema: Any) -> None:
    Draft202012Validator(schema).validate(read_yaml(path))


def test_schema_has_exactly_the_keys_that_the_plugin_knows(schema: Any) -> None:
    def keys(*steps: str) -> set[str]:
        found = schema["properties"]
        for step in steps:
            found = found[step]
        return set(found)

    assert keys() == set(_topology_reader.TOP_KEYS)
    below = ("additionalProperties", "properties")
    zone = schema["properties"]["zones"]["additionalProperties"]["oneOf"][1]
    assert set(zone["properties"]) == set(_topology_reader.ZONE_KEYS)
    assert keys("nodes", *below) == set(_topology_reader.NODE_KEYS)
    assert keys("stores", *below) == set(_topology_reader.STORE_KEYS)
    assert keys("clients", *below) == set(_topology_reader.CLIENT_KEYS)
    assert keys("authorities", *below) == set(_topology_reader.AUTHORITY_KEYS)
    assert keys("profiles", *below) == set(CERTIFICATE_PROFILE.options) - {"name"}
    assert keys("management_ca", "properties") == set(MANAGEMENT_CA.options)
    assert keys("links", "items", "properties") == set(_topology_reader.LINK_KEYS)
