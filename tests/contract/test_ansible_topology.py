"""The shipped inventories, loaded by Ansible itself, are something that the agent accepts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.peersys.pki.plugins.module_utils._node_plan import (
    node_options,
    wanted_objects,
)

from node_agent.functions.named_authorities import check_named_authorities
from node_agent.functions.peer_issuers import check_peer_issuers, read_issuer
from node_agent.functions.plan import BUILT_IN_TOKEN, check_objects, copy_objects, plan_node
from node_agent.identity import NodeIdentity
from node_agent.objects import NodeSpecification, PeerRoleSpec
from node_agent.policy import RESOURCES, expand_role, grants, parse_role
from node_agent.policy.resources import NAME
from tests.support.pki import ThrowawayAuthority, certificate_pem

REPOSITORY = Path(__file__).parents[2]
ROLES = REPOSITORY / "collections/ansible_collections/peersys/pki/roles"
PROGRAM = Path(sys.executable).parent / "ansible-inventory"

# role variable -> argument of the module peersys.pki.node, as the roles' tasks say
CALLS = {
    "certification_authority": {
        "authenticator_authenticators": "authenticators",
        "certification_authority_crypto_tokens": "crypto_tokens",
        "certification_authority_profiles": "certificate_profiles",
        "certification_authority_authorities": "certification_authorities",
        "certification_authority_peer_issuers": "peer_issuers",
        "certification_authority_peer_roles": "peer_roles",
        "certification_authority_peer_connectors": "peer_connectors",
        "certification_authority_publishers": "publishers",
    },
    "registration_authority": {
        "authenticator_authenticators": "authenticators",
        "registration_authority_peer_roles": "peer_roles",
        "registration_authority_peer_connectors": "peer_connectors",
    },
    "validation_authority": {
        "authenticator_authenticators": "authenticators",
        "validation_authority_peer_roles": "peer_roles",
        "validation_authority_peer_connectors": "peer_connectors",
        "validation_authority_publishers": "publishers",
        "validation_authority_signers": "signers",
    },
    "ra_proxy": {
        "authenticator_authenticators": "authenticators",
        "ra_proxy_peer_issuers": "peer_issuers",
        "ra_proxy_peer_roles": "peer_roles",
        "ra_proxy_peer_connectors": "peer_connectors",
    },
}
INVENTORIES = sorted(path.parent.name for path in REPOSITORY.glob("inventories/*/topology.yml"))


def load_inventory(directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, "-i", directory, "--list", "--export"],
        cwd=REPOSITORY,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def trusted(value: Any) -> Any:
    """Return the value without the marks that keep ansible-inventory's text from templating."""
    if isinstance(value, dict):
        if value.keys() == {"__ansible_unsafe"}:
            return value["__ansible_unsafe"]
        return {key: trusted(item) for key, item in value.items()}
    return [trusted(item) for item in value] if isinstance(value, list) else value


def listed(name: str) -> dict[str, Any]:
    done = load_inventory(REPOSITORY / "inventories" / name, PEERSYS_LOCAL_NETWORK="127.0.77")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = trusted(json.loads(done.stdout))
    return found


@pytest.fixture(scope="module", params=INVENTORIES)
def inventory(request: pytest.FixtureRequest) -> dict[str, Any]:
    return listed(request.param)


def specification(variables: dict[str, Any], call: dict[str, str]) -> NodeSpecification:
    """Return what the module would send for these variables, read as the agent reads it."""
    arguments = {argument: variables[name] for name, argument in call.items()}
    if "management_ca_authority" in variables:
        management = {**variables["management_ca_authority"], "kind": "management"}
        authorities = [management, *arguments["certification_authorities"]]
        arguments["certification_authorities"] = authorities
    result = ArgumentSpecValidator(node_options()).validate(arguments)
    assert not result.error_messages
    return msgspec.convert(wanted_objects(result.validated_parameters), NodeSpecification)


@pytest.mark.parametrize("function", CALLS)
def test_agent_accepts_what_the_topology_derives(function: str, inventory: dict[str, Any]) -> None:
    for host in inventory.get(function, {}).get("hosts", ()):
        wanted = specification(inventory["_meta"]["hostvars"][host], CALLS[function])
        fresh = {"crypto_tokens": {BUILT_IN_TOKEN.name: BUILT_IN_TOKEN}}
        steps = plan_node(fresh, wanted)
        check_objects(copy_objects(fresh, steps), steps)
        check_named_authorities(copy_objects(fresh, steps))
        for role in wanted.peer_roles:
            parse_role(role)


@pytest.mark.parametrize("role", [*CALLS, "status_cache"])
def test_each_derived_variable_is_an_argument_of_its_role(
    role: str, inventory: dict[str, Any]
) -> None:
    specification = yaml.safe_load((ROLES / role / "meta/argument_specs.yml").read_text())
    options = specification["argument_specs"]["main"]["options"]
    for host in inventory.get(role, {}).get("hosts", ()):
        names = inventory["_meta"]["hostvars"][host].keys()
        assert {name for name in names if name.startswith(f"{role}_")} <= options.keys()


@pytest.fixture(scope="module")
def with_a_tenant_that_certifies_its_nodes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a shipped inventory with one tenant more."""
    directory = tmp_path_factory.mktemp("tenant") / "inventory"
    shutil.copytree(REPOSITORY / "inventories/multi_tenant", directory)
    beta = (directory / "tenants/beta.yml").read_text(encoding="utf-8")
    issuer = "trust_domain: acme.example\nmanagement_ca: {certificate_file: acme.pem}\n\nzones:"
    acme = beta.replace("beta", "acme").replace("198.18.2", "198.18.9")
    acme = acme.replace("zones:", issuer, 1).replace("listen: {rest: 8443}", "name: ra1")
    (directory / "tenants/acme.yml").write_text(acme, encoding="utf-8")
    anchor = certificate_pem(ThrowawayAuthority("Acme Management CA").certificate)
    (directory / "tenants/acme.pem").write_text(anchor, encoding="ascii")
    return directory


@pytest.mark.parametrize("function", ["certification_authority", "ra_proxy"])
def test_agent_accepts_a_tenant_that_certifies_its_own_nodes(
    function: str, with_a_tenant_that_certifies_its_nodes: Path
) -> None:
    done = load_inventory(with_a_tenant_that_certifies_its_nodes)
    assert done.returncode == 0, done.stderr
    loaded = trusted(json.loads(done.stdout))
    (host,) = loaded[function]["hosts"]
    wanted = specification(loaded["_meta"]["hostvars"][host], CALLS[function])
    steps = plan_node({}, wanted)
    check_peer_issuers(copy_objects({}, steps), steps, NodeIdentity("pki.example.org", host))
    (issuer,) = wanted.peer_issuers
    assert read_issuer(issuer).trust_domain == "acme.example"


def named(resources: set[str], kind: str) -> list[str]:
    return sorted(path.split("/")[2] for path in resources if path.startswith(f"/{kind}/"))


def template_of(granted: set[str]) -> tuple[str, dict[str, list[str]]] | None:
    """Return the template that a peer's rights look like, and its parameters."""
    authorities = {"authorities": named(granted, "ca")}
    asks = {
        **authorities,
        "profiles": named(granted, "profile"),
        "protocols": named(granted, "protocol"),
        "operations": named(granted, "ra"),
    }
    if "/peer/upstream" in granted:
        publishes = [path.split("/")[3] for path in granted if path.startswith("/peer/publish/")]
        # A proxy nearer to the CA, and a CA behind one, take two or three rules and no template.
        if {"/peer/relay", "/peer/incoming"} & granted != {"/peer/incoming"}:
            return None
        return "publisher", {**authorities, "publishes": publishes}
    if "/peer/relay" in granted:
        # A VA that passes on what the VAs behind it ask is both, and no template.
        return None if named(granted, "signer") else ("proxy", asks)
    if named(granted, "signer"):
        # The link of a VA behind a VA ends there.
        return ("validation_authority", authorities) if "/peer/incoming" in granted else None
    return ("registration_authority" if "/peer/incoming" in granted else "tenant"), asks


def granted_by(role: PeerRoleSpec) -> set[str]:
    rules = parse_role(role).rules
    names = {rule.pattern[1] for rule in rules if rule.pattern[0] in ("ca", "profile", "signer")}
    every = {path.replace(NAME, name) for path in RESOURCES for name in names or {"none"}}
    return {path for path in every if grants(rules, path)}


def test_topology_derives_what_the_templates_say(inventory: dict[str, Any]) -> None:
    """The plugin joins the rights of links and chains; what comes of it is a template's."""
    seen = set()
    for host, variables in inventory["_meta"]["hostvars"].items():
        lists = (value for key, value in variables.items() if key.endswith("_peer_roles"))
        for role in msgspec.convert([one for roles in lists for one in roles], list[PeerRoleSpec]):
            granted = granted_by(role)
            found = template_of(granted)
            if found is not None and not role.name.endswith("_approvals"):
                template, parameters = found
                written = {"name": role.name, "template": template, "parameters": parameters}
                expanded = expand_role(msgspec.convert(written, PeerRoleSpec))
                assert granted == granted_by(expanded), (host, role.name)
                seen.add(template)
    assert {"publisher", "validation_authority"} <= seen
    assert {"registration_authority", "proxy"} & seen


def test_no_secret_is_shipped() -> None:
    command = ["git", "ls-files", "--", "inventories/**/vault.yml"]
    assert subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True).stdout == b""


def test_addresses_move_with_the_environment() -> None:
    hosts = listed("local")["_meta"]["hostvars"]
    assert hosts["ca1"]["node_listen"] == {}
    assert hosts["ra1"]["node_listen"] == {"peer": "127.0.77.12:7443", "rest": "127.0.77.12:8443"}
    assert hosts["va1"]["node_listen"] == {"peer": "127.0.77.13:7443", "status": "127.0.77.13:8080"}


def test_refused_topology_ends_ansible_with_file_line_and_key(tmp_path: Path) -> None:
    text = (REPOSITORY / "inventories/local/topology.yml").read_text(encoding="utf-8")
    (tmp_path / "topology.yml").write_text(text.replace("to: va1}", "to: va9}"), encoding="utf-8")
    done = load_inventory(tmp_path)
    line = text[: text.index("to: va1}")].count("\n") + 1
    assert done.returncode != 0
    told = " ".join(done.stderr.split())
    assert f"topology.yml:{line}: links[1].to: unknown node 'va9'" in told
    assert "'yaml' plugin" not in told
    assert "'ini' plugin" not in told


def test_a_list_of_hosts_beside_a_topology_adds_to_it(tmp_path: Path) -> None:
    (tmp_path / "topology.yml").symlink_to(REPOSITORY / "inventories/local/topology.yml")
    (tmp_path / "more.yaml").write_text("lab: {hosts: {ra1: {ansible_port: 2222}}}\n")
    done = load_inventory(tmp_path)
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout)
    assert loaded["lab"] == {"hosts": ["ra1"]}
    assert loaded["_meta"]["hostvars"]["ra1"].keys() >= {"ansible_port", "node_name"}
