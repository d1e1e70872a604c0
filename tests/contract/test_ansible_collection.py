"""The collection agrees with itself: action group, topology schema, layout."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.peersys.pki.plugins.module_utils._specifications import (
    CERTIFICATE_PROFILE,
    MANAGEMENT_CA,
)
from ansible_collections.peersys.pki.plugins.plugin_utils import (
    _topology_issuers,
    _topology_model,
    _topology_reader,
    _topology_tenants,
)
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from tests.support.judges import require_program

REPOSITORY = Path(__file__).parents[2]
COLLECTION = REPOSITORY / "collections/ansible_collections/peersys/pki"
NOT_IN_GROUP = {
    "certificate": "asks an RA over the network, as a client",
    "file_set": "writes files, before there is an agent",
    "firewall": "asks the kernel",
    "node_process": "starts the agent",
    "node_service": "installs and starts the agent",
    "port_probe": "connects to ports, as a client",
    "postgresql_server": "runs on a host without an agent",
    "revocation": "asks an RA over the network, as a client",
    "secret_files": "writes files, before there is an agent",
    "status_cache_service": "runs on a host without an agent",
    "trial_certificate": "asks an RA and VAs over the network, as a client",
}
"""Modules that have no admin socket to set, and why."""
TOPOLOGIES = sorted((REPOSITORY / "inventories").glob("*/topology.yml"))
TENANTS = sorted((REPOSITORY / "inventories").glob("*/tenants/*.yml"))


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_the_readme_names_every_part() -> None:
    named = set(re.findall(r"`(\w+)`", (COLLECTION / "README.md").read_text(encoding="utf-8")))
    plugins = {
        path.stem
        for kind in ("filter", "inventory", "modules")
        for path in (COLLECTION / "plugins" / kind).glob("*.py")
    }
    roles = {path.name for path in (COLLECTION / "roles").iterdir()}
    assert plugins | roles <= named


def test_each_module_is_in_the_action_group_or_excluded_with_a_reason() -> None:
    group = set(read_yaml(COLLECTION / "meta/runtime.yml")["action_groups"]["node"])
    modules = {
        path.stem: path.read_text() for path in (COLLECTION / "plugins/modules").glob("*.py")
    }
    assert group == {name for name, text in modules.items() if "peersys.pki._connection" in text}
    assert modules.keys() <= group | NOT_IN_GROUP.keys()
    for name in modules.keys() - group:
        assert "action_group:\n    support: none\n    membership: []" in modules[name], name


def test_each_module_has_an_action_plugin_that_says_why_it_cannot_run() -> None:
    modules = {path.stem for path in (COLLECTION / "plugins/modules").glob("*.py")}
    own = {path.stem for path in (COLLECTION / "plugins/action").glob("*.py")}
    assert "HostAction" in (COLLECTION / "plugins/action/node.py").read_text(encoding="utf-8")
    routed = read_yaml(COLLECTION / "meta/runtime.yml")["plugin_routing"]["modules"]
    assert routed == {name: {"action_plugin": "peersys.pki.node"} for name in modules - own}


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("node_info", {"admin_socket": "/run/peersys/admin.sock"}),
        ("port_probe", {"source": "ra1", "probes": []}),
        ("postgresql_server", {"address": "192.0.2.21", "clients": [], "password": "x"}),
    ],
)
def test_host_that_is_gone_is_named_with_a_remedy(module: str, arguments: dict[str, Any]) -> None:
    require_program("ssh", "openssh-client")
    reached = {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_connection": "ssh"}
    done = subprocess.run(
        [
            *(Path(sys.executable).parent / "ansible", "-i", "ra1,", "ra1"),
            *("-m", f"peersys.pki.{module}", "-a", json.dumps(arguments)),
            *("-e", json.dumps(reached)),
        ],
        cwd=REPOSITORY,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ra1 | UNREACHABLE! =>" in done.stdout
    said = yaml.safe_load(done.stdout.partition("UNREACHABLE! =>")[2])["msg"]
    assert "ra1 can't be reached at 127.0.0.1" in said
    assert "Remedy: see that it runs" in said


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
    assert list(Draft202012Validator(schema).iter_errors(read_yaml(path))) == []


@pytest.mark.parametrize("path", TENANTS, ids=lambda path: path.stem)
def test_shipped_tenants_follow_their_schema(path: Path, schema: Any) -> None:
    text = (REPOSITORY / "docs/reference/tenant.schema.json").read_text(encoding="utf-8")
    of_tenants = json.loads(text)
    assert set(of_tenants["properties"]) == set(_topology_tenants.TENANT_KEYS)
    whole = Registry().with_resource("topology.schema.json", Resource.from_contents(schema))
    Draft202012Validator(of_tenants, registry=whole).validate(read_yaml(path))


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
    node = schema["properties"]["nodes"]["additionalProperties"]["properties"]
    assert node["functions"]["items"]["enum"] == list(_topology_model.FUNCTIONS)
    assert set(node["listen"]["properties"]) == set(_topology_model.PORTS)
    assert keys("stores", *below) == set(_topology_reader.STORE_KEYS)
    assert keys("clients", *below) == set(_topology_reader.CLIENT_KEYS)
    assert keys("status_caches", *below) == set(_topology_reader.CACHE_KEYS)
    assert keys("authorities", *below) == set(_topology_reader.AUTHORITY_KEYS)
    assert keys("profiles", *below) == set(CERTIFICATE_PROFILE.options) - {"name"}
    assert keys("management_ca", "properties") == set(MANAGEMENT_CA.options)
    assert keys("links", "items", "properties") == set(_topology_reader.LINK_KEYS)


def test_schema_of_tenants_has_the_keys_of_their_management_ca() -> None:
    path = REPOSITORY / "docs/reference/tenant.schema.json"
    properties = json.loads(path.read_text(encoding="utf-8"))["properties"]
    known = set(_topology_issuers.CERTIFICATE_KEYS)
    assert set(properties["management_ca"]["properties"]) == known
