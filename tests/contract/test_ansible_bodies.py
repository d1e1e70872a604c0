"""What the collection sends and reads is what the agent's HTTP bodies say."""

from __future__ import annotations

import importlib
import json
import typing
from typing import Any

import msgspec
import pytest
import yaml

from node_agent.objects import KeyKind
from node_agent.web import backends
from node_agent.web.bodies import StatusWord

MODULES = "ansible_collections.peersys.pki.plugins.modules"
# What modules and playbooks read of each answer.
READ = {
    backends.PlanResult: {"changed", "steps", "objects"},
    backends.PlanStep: {"action", "kind", "name", "before", "after"},
    backends.ObjectView: {"spec", "state"},
    backends.NodeDescription: {"identity", "version", "objects"},
    backends.StatusReport: {"health", "reasons"},
    backends.PingResult: {"round_trip_ms"},
    backends.IssuedCertificate: {"certificate", "chain", "serial"},
    backends.CertificateInfo: {"status", "profile"},
    backends.Problem: {"detail", "title", "field", "remedy"},
}


def field_names(struct: type[msgspec.Struct]) -> set[str]:
    return {field.name for field in msgspec.structs.fields(struct)}


def documented(module: str, key: str) -> Any:
    return yaml.safe_load(importlib.import_module(f"{MODULES}.{module}").RETURN)[key]["contains"]


@pytest.mark.parametrize("struct", READ, ids=lambda struct: struct.__name__)
def test_fields_that_the_collection_reads_exist(struct: type[msgspec.Struct]) -> None:
    assert READ[struct] <= field_names(struct)


def test_documented_peers_are_the_agents() -> None:
    assert set(documented("peer_info", "peers")) <= field_names(backends.PeerStatus)


def test_management_certificate_arguments_are_the_order() -> None:
    module = importlib.import_module(f"{MODULES}.management_certificate")
    fields = {
        field.name: field for field in msgspec.structs.fields(backends.ManagementCertificateOrder)
    }
    assert set(module.REQUEST.options) == set(fields)
    for name, option in module.REQUEST.options.items():
        field = fields[name]
        assert option.get("required", False) == field.required, name
        if not field.required:
            assert option.get("default") == json.loads(msgspec.json.encode(field.default)), name


def test_management_certificate_returns_the_whole_answer() -> None:
    module = importlib.import_module(f"{MODULES}.management_certificate")
    returned = set(yaml.safe_load(module.RETURN)) | {"changed"}
    assert returned == field_names(backends.ManagementCertificate)


def test_trial_certificate_sends_what_an_ra_takes() -> None:
    order = {
        "authority": "issuing",
        "profile": "tls_server",
        "csr": "PEM",
        "request_id": "6f1a3c0e-3c77-4a0e-9f0e-8a53a0e1f0aa",
    }
    assert msgspec.convert(order, backends.EnrollOrder).authority == "issuing"
    assert (
        msgspec.convert({"reason": "superseded"}, backends.RevocationOrder).reason == "superseded"
    )


@pytest.mark.parametrize("state", ["revoked", "on_hold", "good"])
def test_revocation_knows_the_states_and_reasons_of_an_ra(state: str) -> None:
    module = importlib.import_module(f"{MODULES}.revocation")
    assert state in typing.get_args(StatusWord)
    for reason in module.REASONS:
        sent = module.reason({"state": state, "reason": reason})
        assert sent in backends.REASON_NUMBERS


def test_certificate_makes_keys_that_a_profile_can_allow() -> None:
    openssl = importlib.import_module(MODULES.replace("modules", "module_utils._openssl"))
    assert set(openssl.KEY_KINDS) <= set(typing.get_args(KeyKind))
    module = importlib.import_module(f"{MODULES}.certificate")
    assert set(module.REASONS) <= set(backends.REASON_NUMBERS)
