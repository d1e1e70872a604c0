"""The modules' arguments are the agent's specifications: keys, defaults, choices, nested too."""

from __future__ import annotations

import json
import types
import typing
from typing import Any

import msgspec
import pytest
from ansible_collections.peersys.pki.plugins.module_utils import _node_plan
from ansible_collections.peersys.pki.plugins.module_utils._specifications import (
    CRL,
    KINDS,
    MANAGEMENT_CA,
)

from node_agent import objects
from node_agent.cli import isolation

STAYS_WHEN_ABSENT = {
    *(("authenticators", name) for name in ("certificate", "trust_anchors", "crls")),
    ("peer_issuers", "crls"),
}
"""Absent means "as it is" here; the agent's own default is empty."""
CHOICES_OF_PLANS = {"authenticators.key_kind": objects.TLS_KEY_KINDS}
"""What a plan accepts where the type of a field, which stored objects have too, allows more."""


@pytest.mark.parametrize("kind", KINDS)
def test_arguments_are_the_fields_of_the_specification(kind: str) -> None:
    options = KINDS[kind]
    assert_same(kind, options.options, options.needed, objects.KINDS[kind])


def test_every_kind_has_arguments_in_the_order_of_plans() -> None:
    assert list(KINDS) == list(objects.KINDS)


def test_roles_that_isolate_a_node_are_known_by_one_name() -> None:
    assert isolation.ROLE_PREFIX == _node_plan.ISOLATING_ROLE


def test_crl_arguments_are_the_fields_of_the_specification() -> None:
    assert_same("crl", CRL, (), objects.CrlSpec)


def test_a_management_ca_is_a_ca_without_what_only_peers_use() -> None:
    everything = {
        field.name for field in msgspec.structs.fields(objects.CertificationAuthoritySpec)
    }
    left_out = {"kind", "issuer", "path_length", "profiles", "ocsp_urls", "issuer_urls"}
    assert set(MANAGEMENT_CA.options) == everything - left_out


def assert_same(
    kind: str,
    options: dict[str, dict[str, Any]],
    needed: tuple[str, ...],
    struct: type[msgspec.Struct],
) -> None:
    fields = {field.name: field for field in msgspec.structs.fields(struct)}
    assert set(options) == set(fields), kind
    for name, field in fields.items():
        where, option = f"{kind}.{name}", options[name]
        is_needed = bool(option.get("required")) or name in needed
        assert is_needed == field.required, where
        assert_same_type(where, option, field.type)
        if not field.required and (kind, name) not in STAYS_WHEN_ABSENT:
            assert_same_default(where, option, field)


def assert_same_default(where: str, option: dict[str, Any], field: Any) -> None:
    default = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    if isinstance(default, msgspec.Struct):
        assert "default" not in option, where
    else:
        assert option.get("default") == json.loads(msgspec.json.encode(default)), where


def assert_same_type(where: str, option: dict[str, Any], annotation: Any) -> None:
    annotation = plain(annotation)
    if typing.get_origin(annotation) is tuple:
        assert option["type"] == "list", where
        (item, _dots) = typing.get_args(annotation)
        assert_same_type(f"{where}[]", {**option, "type": option["elements"]}, item)
    elif typing.get_origin(annotation) is typing.Literal:
        choices = CHOICES_OF_PLANS.get(where) or typing.get_args(annotation)
        assert option["choices"] == list(choices), where
    elif isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        assert_same(where, option["options"], (), annotation)
    else:
        assert option["type"] == {str: "str", int: "int", bool: "bool"}[annotation], where


def plain(annotation: Any) -> Any:
    """Return the type without ``Annotated`` and ``| None``."""
    if typing.get_origin(annotation) is typing.Annotated:
        return plain(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        (only,) = (arg for arg in typing.get_args(annotation) if arg is not type(None))
        return plain(only)
    return annotation
