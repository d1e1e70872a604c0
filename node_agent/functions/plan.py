"""Turn a wanted specification into a plan: a pure diff, and the rules that span objects.

Nothing here reads a store or a clock. A plan that would leave the node inconsistent (a CA that
names an unknown profile, a connector that names an unknown authenticator) is refused before
anything changes, naming the object and the field. Which CAs may be named, also because a role lets
another node answer for them, says ``named_authorities.py``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from node_agent.config import parse_address
from node_agent.errors import ConfigError
from node_agent.functions.crl_shards import check_shards, check_shards_kept
from node_agent.functions.token_rules import check_crypto_token, check_key_fits
from node_agent.functions.written_rules import check_written
from node_agent.identity import NodeIdentity
from node_agent.objects import (
    KINDS,
    AuthenticatorSpec,
    CertificateProfileSpec,
    CertificationAuthoritySpec,
    CryptoTokenSpec,
    NodeSpecification,
    ObjectSpec,
    PeerConnectorSpec,
    PeerIssuerSpec,
    PeerRoleSpec,
    PublisherSpec,
    RequesterSpec,
    SignerSpec,
)
from node_agent.pki.profile import Profile
from node_agent.policy import expand_role, parse_requester, parse_role

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "BUILT_IN_TOKEN",
    "Objects",
    "Step",
    "check_objects",
    "copy_objects",
    "plan_node",
    "plan_object",
]

Objects = dict[str, dict[str, ObjectSpec]]
"""kind -> name -> specification."""

BUILT_IN_TOKEN = CryptoTokenSpec(name="default")
"""Exists on every node without being asked for, and can't be deleted."""

# What a CA *is*: changing one of these would make another CA of it under the same name.
_FIXED_CA_FIELDS = ("kind", "subject", "issuer", "crypto_token", "key_kind", "path_length")


@dataclass(frozen=True, slots=True)
class Step:
    """One change of one object. ``before`` is None for create, ``after`` for delete."""

    action: Literal["create", "update", "delete"]
    kind: str
    name: str
    before: ObjectSpec | None
    after: ObjectSpec | None


def plan_node(current: Objects, wanted: NodeSpecification) -> list[Step]:
    """Return the steps from ``current`` to ``wanted``, creations in dependency order, deletions
    (only with ``wanted.purge``) in the reverse order. Raises ConfigError for a name given twice.
    """
    creations: list[Step] = []
    deletions: list[Step] = []
    for kind in KINDS:
        specs = _by_name(kind, getattr(wanted, kind))
        have = current.get(kind, {})
        creations += (step for spec in specs.values() if (step := _step(kind, have, spec)))
        if wanted.purge:
            deletions += (
                Step("delete", kind, name, before, None)
                for name, before in have.items()
                if name not in specs and not _is_built_in(kind, name)
            )
    return _parents_first(creations) + deletions[::-1]


def plan_object(current: Objects, kind: str, name: str, wanted: ObjectSpec | None) -> list[Step]:
    """Return the step (or none) that makes one object what is wanted; None deletes it."""
    have = current.get(kind, {})
    if wanted is not None:
        step = _step(kind, have, wanted)
        return [step] if step else []
    if name not in have:
        return []
    if _is_built_in(kind, name):
        raise ConfigError("is built in and can't be deleted", where=f"{kind}.{name}")
    return [Step("delete", kind, name, have[name], None)]


def copy_objects(current: Objects, steps: Iterable[Step]) -> Objects:
    """Return what the objects are after ``steps``."""
    result = {kind: dict(specs) for kind, specs in current.items()}
    for step in steps:
        specs = result.setdefault(step.kind, {})
        if step.after is None:
            specs.pop(step.name, None)
        else:
            specs[step.name] = step.after
    return result


def check_objects(objects: Objects, steps: Sequence[Step]) -> None:
    """Raise ConfigError when ``objects``, the result of ``steps``, breaks a rule."""
    for step in steps:
        if step.action == "update":
            _check_fixed_fields(step)
    for kind, specs in objects.items():
        for name, spec in specs.items():
            _check_object(objects, f"{kind}.{name}", spec)
    check_written(objects, steps)


def spec_fields(spec: ObjectSpec | None) -> dict[str, Any] | None:
    """Return a specification as plain JSON types."""
    return None if spec is None else json.loads(msgspec.json.encode(spec))


def _by_name(kind: str, specs: Iterable[ObjectSpec]) -> dict[str, ObjectSpec]:
    result: dict[str, ObjectSpec] = {}
    for spec in specs:
        if spec.name in result:
            raise ConfigError(
                "is given twice", where=f"{kind}.{spec.name}", remedy="keep one of them"
            )
        result[spec.name] = spec
    return result


def _step(kind: str, have: Mapping[str, ObjectSpec], wanted: ObjectSpec) -> Step | None:
    before = have.get(wanted.name)
    if isinstance(wanted, PeerRoleSpec):
        wanted = expand_role(wanted)
    if before is None:
        return Step("create", kind, wanted.name, None, wanted)
    if isinstance(wanted, AuthenticatorSpec) and isinstance(before, AuthenticatorSpec):
        wanted = _keep_certificate(before, wanted)
    if isinstance(wanted, PeerIssuerSpec) and isinstance(before, PeerIssuerSpec):
        wanted = msgspec.structs.replace(wanted, crls=wanted.crls or before.crls)
    if isinstance(wanted, CertificationAuthoritySpec):
        assert isinstance(before, CertificationAuthoritySpec)
        check_shards_kept(before, wanted, f"certification_authorities.{wanted.name}")
    return None if before == wanted else Step("update", kind, wanted.name, before, wanted)


def _keep_certificate(before: AuthenticatorSpec, wanted: AuthenticatorSpec) -> AuthenticatorSpec:
    """Absent certificate, anchors and CRLs mean "as they are": the specification of a node can be
    applied again without the certificate that was given in between.
    """
    return msgspec.structs.replace(
        wanted,
        certificate=wanted.certificate or before.certificate,
        trust_anchors=wanted.trust_anchors or before.trust_anchors,
        crls=wanted.crls or before.crls,
    )


def _is_built_in(kind: str, name: str) -> bool:
    return kind == "crypto_tokens" and name == BUILT_IN_TOKEN.name


def _parents_first(steps: list[Step]) -> list[Step]:
    """Order the CAs so that an issuer is created before what it signs; keep all else in place."""
    places = [i for i, step in enumerate(steps) if step.kind == "certification_authorities"]
    waiting = [steps[i] for i in places]
    names = {step.name for step in waiting}
    done: set[str] = set()
    ordered: list[Step] = []
    while waiting:
        ready = [step for step in waiting if _issuer_of(step) not in names - done]
        if not ready:
            loop = ", ".join(sorted(step.name for step in waiting))
            raise ConfigError(
                "issuers form a loop", where=f"certification_authorities: {loop}: issuer"
            )
        ordered += ready
        done |= {step.name for step in ready}
        waiting = [step for step in waiting if step.name not in done]
    result = list(steps)
    for place, step in zip(places, ordered, strict=True):
        result[place] = step
    return result


def _issuer_of(step: Step) -> str | None:
    return step.after.issuer if isinstance(step.after, CertificationAuthoritySpec) else None


def _check_fixed_fields(step: Step) -> None:
    match step.before, step.after:
        case CertificationAuthoritySpec() as before, CertificationAuthoritySpec() as after:
            fields: tuple[str, ...] = _FIXED_CA_FIELDS
        case (AuthenticatorSpec() | SignerSpec()) as before, after:
            fields = ("crypto_token", "key_kind", "purpose", "authority")
        case CryptoTokenSpec() as before, after:
            fields = ("kind",)
        case _:
            return
    for field in fields:
        if getattr(before, field, None) != getattr(after, field, None):
            raise ConfigError(
                "can't be changed once the key exists",
                where=f"{step.kind}.{step.name}.{field}",
                remedy="create another object under a new name",
            )


def _check_object(objects: Objects, where: str, spec: ObjectSpec) -> None:
    match spec:
        case PeerIssuerSpec():
            pass
        case CryptoTokenSpec():
            check_crypto_token(spec, where)
        case CertificateProfileSpec():
            Profile.from_spec(spec)
        case AuthenticatorSpec():
            _need_token(objects, spec, where)
        case CertificationAuthoritySpec():
            _check_authority(objects, where, spec)
        case PeerRoleSpec():
            parse_role(spec)
        case PeerConnectorSpec():
            _check_connector(objects, where, spec)
        case PublisherSpec():
            _check_publisher(objects, where, spec)
        case SignerSpec():
            _need_token(objects, spec, where)
        case RequesterSpec():
            _check_requester(where, spec)


def _check_authority(objects: Objects, where: str, spec: CertificationAuthoritySpec) -> None:
    _need_token(objects, spec, where)
    for profile in spec.profiles:
        _need(objects, "certificate_profiles", profile, f"{where}.profiles")
    if spec.kind == "issuing":
        if spec.issuer is None:
            raise ConfigError("an issuing CA needs an issuer", where=f"{where}.issuer")
        _need(objects, "certification_authorities", spec.issuer, f"{where}.issuer")
        _check_parent(objects, where, spec)
    elif spec.issuer is not None:
        raise ConfigError(
            f"a {spec.kind} CA signs itself", where=f"{where}.issuer", remedy="leave it out"
        )
    if spec.kind == "management" and spec.profiles:
        raise ConfigError(
            "a management CA only issues authenticators",
            where=f"{where}.profiles",
            remedy="leave it out",
        )
    if spec.name.endswith("-delta"):
        raise ConfigError(
            "a CA's name can't end in -delta: so the file of its delta CRL is called",
            where=where,
            remedy="choose another name",
        )
    if spec.crl.overlap_seconds >= spec.crl.validity_seconds:
        raise ConfigError(
            "must be shorter than validity_seconds", where=f"{where}.crl.overlap_seconds"
        )
    check_shards(spec, f"{where}.crl.shards")


def _check_parent(objects: Objects, where: str, spec: CertificationAuthoritySpec) -> None:
    seen = {spec.name}
    parent = spec
    while parent.issuer is not None:
        if parent.issuer in seen:
            raise ConfigError("issuers form a loop", where=f"{where}.issuer")
        seen.add(parent.issuer)
        above = objects["certification_authorities"].get(parent.issuer)
        if not isinstance(above, CertificationAuthoritySpec):
            return
        parent = above
    if parent.kind == "management":
        raise ConfigError(
            "a management CA issues no CA",
            where=f"{where}.issuer",
            remedy="name a root or issuing CA",
        )


def _check_connector(objects: Objects, where: str, spec: PeerConnectorSpec) -> None:
    parse_address(spec.address, where=f"{where}.address")
    _identity(spec.peer, f"{where}.peer")
    _need(objects, "authenticators", spec.authenticator, f"{where}.authenticator")


def _check_publisher(objects: Objects, where: str, spec: PublisherSpec) -> None:
    _identity(spec.peer, f"{where}.peer")
    if not spec.content:
        raise ConfigError("is empty", where=f"{where}.content", remedy="certificate, status or crl")
    if "certificate" in spec.content and "status" not in spec.content:
        raise ConfigError(
            "certificates without their statuses would all be good",
            where=f"{where}.content",
            remedy="add status",
        )
    if not spec.only_revoked:
        return
    if "status" not in spec.content:
        raise ConfigError(
            "only_revoked is about statuses", where=f"{where}.content", remedy="add status"
        )
    for other in objects.get("publishers", {}).values():
        if (
            isinstance(other, PublisherSpec)
            and (other.peer, other.only_revoked) == (spec.peer, False)
            and "status" in other.content
            and set(other.authorities) & set(spec.authorities)
        ):
            raise ConfigError(
                f"publishes only revoked certificates where {other.name!r} publishes all",
                where=f"{where}.only_revoked",
                remedy="publish each CA to a peer in one way",
            )


def _check_requester(where: str, spec: RequesterSpec) -> None:
    if (spec.token_sha256 is None) == (spec.certificate_sha256 is None):
        raise ConfigError(
            "needs exactly one of token_sha256 and certificate_sha256",
            where=where,
            remedy="make a token with `peersys token new`",
        )
    digest = spec.token_sha256 or spec.certificate_sha256 or ""
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        field = "token_sha256" if spec.token_sha256 else "certificate_sha256"
        raise ConfigError("is not a lower-case hexadecimal SHA-256", where=f"{where}.{field}")
    parse_requester(spec)


def _identity(uri: str, where: str) -> NodeIdentity:
    try:
        return NodeIdentity.parse(uri)
    except ConfigError as error:
        raise ConfigError(str(error), where=where) from error


def _need_token(
    objects: Objects, spec: AuthenticatorSpec | CertificationAuthoritySpec | SignerSpec, where: str
) -> None:
    _need(objects, "crypto_tokens", spec.crypto_token, f"{where}.crypto_token")
    check_key_fits(objects.get("crypto_tokens", {}), spec, where)


def _need(objects: Objects, kind: str, name: str, where: str) -> None:
    if name in objects.get(kind, {}):
        return
    if _is_built_in(kind, name):
        return
    known = ", ".join(sorted(objects.get(kind, {}))) or "none"
    raise ConfigError(
        f"names {name!r}, which isn't among {kind}", where=where, remedy=f"known: {known}"
    )
