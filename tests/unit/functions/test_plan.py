"""The pure planner: diffs, order, and every cross-object rule."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from node_agent.errors import ConfigError
from node_agent.functions.plan import check_objects, copy_objects, plan_node, plan_object
from node_agent.objects import (
    AuthenticatorSpec,
    CertificationAuthoritySpec,
    CryptoTokenSpec,
    NodeSpecification,
    PeerConnectorSpec,
    PublisherSpec,
)
from tests.support.pki import ThrowawayAuthority


def specification(**kinds: Any) -> NodeSpecification:
    return msgspec.convert(kinds, NodeSpecification)


WORKING = {
    "crypto_tokens": [{"name": "offline", "activation": "on_demand"}],
    "authenticators": [{"name": "peer"}],
    "certificate_profiles": [{"name": "server", "san": [{"kind": "dns"}]}],
    "certification_authorities": [
        {
            "name": "issuing",
            "kind": "issuing",
            "subject": "CN=Issuing",
            "issuer": "root",
            "profiles": ["server"],
        },
        {"name": "root", "kind": "root", "subject": "CN=Root", "crypto_token": "offline"},
    ],
    "peer_roles": [
        {
            "name": "ra",
            "members": ["spiffe://test.example/node/ra1"],
            "rules": [{"resource": "/ra/enroll"}],
        }
    ],
    "peer_connectors": [
        {"name": "ra1", "address": "192.0.2.1:7443", "peer": "spiffe://test.example/node/ra1"}
    ],
    "publishers": [
        {"name": "va1", "peer": "spiffe://test.example/node/va1", "authorities": ["issuing"]}
    ],
    "signers": [{"name": "issuing", "authority": "issuing"}],
    "requesters": [{"name": "tester", "token_sha256": "ab" * 32}],
}


def test_a_role_written_by_template_is_kept_as_rules_and_is_the_same_when_written_again() -> None:
    template = {
        "name": "ra",
        "members": ["spiffe://test.example/node/ra1"],
        "template": "tenant",
        "parameters": {"authorities": ["issuing"], "operations": ["search"]},
    }
    rules = ["/ra/search", "/protocol/rest", "/ca/issuing"]
    plain = {
        "name": "ra",
        "members": template["members"],
        "rules": [{"resource": resource} for resource in rules],
    }
    for first, second in ((template, plain), (plain, template), (template, template)):
        steps = plan_node({}, specification(peer_roles=[first]))
        assert steps[0].after == specification(peer_roles=[plain]).peer_roles[0]
        assert plan_node(copy_objects({}, steps), specification(peer_roles=[second])) == []
        (alone,) = specification(peer_roles=[second]).peer_roles
        assert plan_object(copy_objects({}, steps), "peer_roles", "ra", alone) == []


def test_an_issuer_is_created_before_what_it_signs() -> None:
    steps = plan_node({}, specification(**WORKING))
    names = [step.name for step in steps if step.kind == "certification_authorities"]
    assert names == ["root", "issuing"]


def test_the_same_specification_again_plans_nothing() -> None:
    wanted = specification(**WORKING)
    after = copy_objects({}, plan_node({}, wanted))
    check_objects(after, plan_node({}, wanted))
    assert plan_node(after, wanted) == []


def test_purge_deletes_what_is_not_listed_users_before_what_they_use() -> None:
    after = copy_objects({}, plan_node({}, specification(**WORKING)))
    steps = plan_node(after, NodeSpecification(purge=True))
    assert {step.action for step in steps} == {"delete"}
    kinds = [step.kind for step in steps]
    assert kinds.index("requesters") < kinds.index("certification_authorities")
    assert kinds.index("certification_authorities") < kinds.index("crypto_tokens")
    assert copy_objects(after, steps)["certification_authorities"] == {}


def test_the_built_in_token_survives_purge_and_refuses_deletion() -> None:
    current = {"crypto_tokens": {"default": CryptoTokenSpec(name="default")}}
    assert plan_node(current, NodeSpecification(purge=True)) == []
    with pytest.raises(ConfigError, match="built in"):
        plan_object(current, "crypto_tokens", "default", None)


def test_deleting_an_absent_object_plans_nothing() -> None:
    assert plan_object({}, "publishers", "va1", None) == []


def test_a_name_given_twice_is_refused_naming_it() -> None:
    twice = [{"name": "a"}, {"name": "a"}]
    with pytest.raises(ConfigError, match=r"certificate_profiles\.a: is given twice"):
        plan_node({}, specification(certificate_profiles=twice))


def test_an_authenticator_keeps_its_certificate_when_it_is_left_out() -> None:
    certified = AuthenticatorSpec(name="peer", certificate="PEM", trust_anchors=("ANCHOR",))
    current = {"authenticators": {"peer": certified}}
    assert plan_node(current, specification(authenticators=[{"name": "peer"}])) == []


def test_issuers_that_form_a_loop_are_refused() -> None:
    loop = [
        {"name": "a", "kind": "issuing", "subject": "CN=A", "issuer": "b"},
        {"name": "b", "kind": "issuing", "subject": "CN=B", "issuer": "a"},
    ]
    with pytest.raises(ConfigError, match="loop"):
        plan_node({}, specification(certification_authorities=loop))


MANAGEMENT, STRANGER = ThrowawayAuthority(), ThrowawayAuthority("Somebody else")


def pem(item: x509.Certificate | x509.CertificateRevocationList) -> str:
    return item.public_bytes(Encoding.PEM).decode()


def authenticator(*crls: x509.CertificateRevocationList) -> dict[str, Any]:
    return {
        "name": "x",
        "trust_anchors": [pem(MANAGEMENT.certificate)],
        "crls": [pem(crl) for crl in crls],
    }


def connector(**fields: Any) -> dict[str, Any]:
    return {"name": "x", "address": "host:1", "peer": "spiffe://test.example/node/x", **fields}


PARTIAL = x509.IssuingDistributionPoint(
    full_name=None,
    relative_name=None,
    only_contains_user_certs=True,
    only_contains_ca_certs=False,
    only_some_reasons=None,
    indirect_crl=False,
    only_contains_attribute_certs=False,
)

BROKEN: dict[str, tuple[str, dict[str, Any], str]] = {
    "profile that allows no name": (
        "certificate_profiles",
        {"name": "x"},
        "certificate_profiles/x",
    ),
    "unknown token": (
        "authenticators",
        {"name": "x", "crypto_token": "nope"},
        r"authenticators\.x\.crypto_token",
    ),
    "unknown profile": (
        "certification_authorities",
        {"name": "x", "kind": "root", "subject": "CN=X", "profiles": ["nope"]},
        r"certification_authorities\.x\.profiles",
    ),
    "issuing without issuer": (
        "certification_authorities",
        {"name": "x", "kind": "issuing", "subject": "CN=X"},
        "needs an issuer",
    ),
    "root with issuer": (
        "certification_authorities",
        {"name": "x", "kind": "root", "subject": "CN=X", "issuer": "root"},
        "signs itself",
    ),
    "management with profiles": (
        "certification_authorities",
        {"name": "x", "kind": "management", "subject": "CN=X", "profiles": ["server"]},
        "only issues authenticators",
    ),
    "overlap as long as validity": (
        "certification_authorities",
        {
            "name": "x",
            "kind": "root",
            "subject": "CN=X",
            "crl": {"validity_seconds": 60, "overlap_seconds": 60},
        },
        "overlap_seconds",
    ),
    "connector without port": (
        "peer_connectors",
        {"name": "x", "address": "host", "peer": "spiffe://test.example/node/x"},
        r"peer_connectors\.x\.address",
    ),
    "connector to nobody": (
        "peer_connectors",
        {"name": "x", "address": "host:1", "peer": "https://test.example"},
        r"peer_connectors\.x\.peer",
    ),
    "connector with min above max": (
        "peer_connectors",
        connector(min_connections=5),
        r"peer_connectors\.x\.min_connections: 5 doesn't fit max_connections, 4",
    ),
    "connector with fewer requests than connections": (
        "peer_connectors",
        connector(max_parallel_requests=2),
        r"peer_connectors\.x\.max_parallel_requests: 2 is below max_connections, 4",
    ),
    "connector with more connections than a pool has": (
        "peer_connectors",
        connector(max_connections=65, max_parallel_requests=100),
        r"peer_connectors\.x\.max_connections: .*from 1 to 64",
    ),
    "authenticator with a key that TLS can't use": (
        "authenticators",
        {"name": "x", "key_kind": "ml-dsa-65"},
        r"authenticators\.x\.key_kind: .*ed25519",
    ),
    "server certificate that requires the CRL of peers": (
        "authenticators",
        {"name": "x", "purpose": "server", "require_current_crl": True},
        r"authenticators\.x\.require_current_crl",
    ),
    "authenticator with a certificate that isn't PEM": (
        "authenticators",
        {"name": "x", "certificate": "PEM"},
        r"authenticators\.x\.certificate: isn't readable PEM",
    ),
    "authenticator with a trust anchor that isn't PEM": (
        "authenticators",
        {"name": "x", "trust_anchors": ["PEM"]},
        r"authenticators\.x\.trust_anchors: isn't readable PEM",
    ),
    "authenticator with a CRL that isn't PEM": (
        "authenticators",
        {**authenticator(), "crls": [pem(MANAGEMENT.certificate)]},
        r"authenticators\.x\.crls: isn't readable PEM",
    ),
    "authenticator with somebody's CRL": (
        "authenticators",
        authenticator(MANAGEMENT.crl(), STRANGER.crl()),
        r"authenticators\.x\.crls: .*Somebody else.* can't be used: no trusted CA",
    ),
    "authenticator with a CRL under its issuer's name": (
        "authenticators",
        authenticator(MANAGEMENT.crl(signed_with=STRANGER.key)),
        r"authenticators\.x\.crls: .*no trusted CA",
    ),
    "authenticator with a delta CRL": (
        "authenticators",
        authenticator(MANAGEMENT.crl(extra_extensions=[(x509.DeltaCRLIndicator(1), True)])),
        r"authenticators\.x\.crls: .*2\.5\.29\.27",
    ),
    "authenticator with a CRL of some certificates": (
        "authenticators",
        authenticator(MANAGEMENT.crl(extra_extensions=[(PARTIAL, True)])),
        r"authenticators\.x\.crls: .*doesn't cover all",
    ),
    "publisher to nobody": (
        "publishers",
        {"name": "x", "peer": "va1", "authorities": []},
        r"publishers\.x\.peer",
    ),
    "certificates without statuses": (
        "publishers",
        {
            "name": "x",
            "peer": "spiffe://test.example/node/x",
            "authorities": ["issuing"],
            "content": ["certificate", "crl"],
        },
        r"publishers\.x\.content: .*would all be good",
    ),
    "nothing to publish": (
        "publishers",
        {
            "name": "x",
            "peer": "spiffe://test.example/node/x",
            "authorities": ["issuing"],
            "content": [],
        },
        r"publishers\.x\.content: is empty",
    ),
    "publisher of no CA": (
        "publishers",
        {"name": "x", "peer": "spiffe://test.example/node/x", "authorities": []},
        r"publishers\.x\.authorities: is empty",
    ),
    "only revoked CRLs": (
        "publishers",
        {
            "name": "x",
            "peer": "spiffe://test.example/node/x",
            "authorities": ["issuing"],
            "content": ["crl"],
            "only_revoked": True,
        },
        r"publishers\.x\.content: only_revoked",
    ),
    "only revoked where another publishes all": (
        "publishers",
        {
            "name": "x",
            "peer": "spiffe://test.example/node/va1",
            "authorities": ["root", "issuing"],
            "only_revoked": True,
        },
        r"publishers\.x\.only_revoked: .*'va1' publishes all",
    ),
    "requester without credential": ("requesters", {"name": "x"}, "exactly one"),
    "requester with a token instead of its hash": (
        "requesters",
        {"name": "x", "token_sha256": "secret"},
        r"requesters\.x\.token_sha256",
    ),
    "requester with a trust anchor that isn't PEM": (
        "requesters",
        {
            "name": "x",
            "token_sha256": "ab" * 32,
            "client_trust_anchors": [pem(MANAGEMENT.certificate), "PEM"],
        },
        r"requesters\.x\.client_trust_anchors\[1\]: isn't a certificate in PEM",
    ),
    "requester by a certificate that nobody vouches for": (
        "requesters",
        {"name": "x", "certificate_sha256": "ab" * 32},
        r"requesters\.x\.client_trust_anchors: no requester has",
    ),
    "second signer for a CA": (
        "signers",
        {"name": "x", "authority": "issuing"},
        r"signers\.\w+\.authority: .* has the signer '\w+' already",
    ),
    "role with a rule for nothing": (
        "peer_roles",
        {"name": "x", "rules": [{"resource": "/nothing/here"}]},
        "peer_roles/x",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_reference_is_refused_naming_object_and_field(case: str) -> None:
    kind, fields, message = BROKEN[case]
    wanted = specification(**{**WORKING, kind: [*WORKING[kind], fields]})
    steps = plan_node({}, wanted)
    with pytest.raises(ConfigError, match=message):
        check_objects(copy_objects({}, steps), steps)


def test_what_was_stored_before_a_rule_hinders_no_plan_about_something_else() -> None:
    """So an operator can mend one object after the other."""
    old = [connector(name=name, max_parallel_requests=2) for name in ("a", "b")]
    objects = copy_objects({}, plan_node({}, specification(**{**WORKING, "peer_connectors": old})))
    mended = PeerConnectorSpec(**{**old[0], "max_parallel_requests": 8})
    steps = plan_object(objects, "peer_connectors", "a", mended)
    check_objects(copy_objects(objects, steps), steps)


def test_the_last_trust_anchor_of_requesters_by_certificate_stays() -> None:
    anchored = {
        "name": "anchored",
        "token_sha256": "ab" * 32,
        "client_trust_anchors": [pem(MANAGEMENT.certificate)],
    }
    pinned = {"name": "pinned", "certificate_sha256": "cd" * 32}
    wanted = specification(requesters=[pinned, anchored])
    objects = copy_objects({}, plan_node({}, wanted))
    check_objects(objects, plan_node({}, wanted))
    steps = plan_object(objects, "requesters", "anchored", None)
    with pytest.raises(ConfigError, match=r"requesters\.pinned\.client_trust_anchors"):
        check_objects(copy_objects(objects, steps), steps)


def test_a_signer_may_take_the_place_of_another_in_one_plan() -> None:
    objects = copy_objects({}, plan_node({}, specification(**WORKING)))
    wanted = {**WORKING, "signers": [{"name": "other", "authority": "issuing"}], "purge": True}
    steps = plan_node(objects, specification(**wanted))
    check_objects(copy_objects(objects, steps), steps)


@pytest.mark.parametrize(
    "change", [{"subject": "CN=Other"}, {"key_kind": "ec-p384"}, {"kind": "management"}]
)
def test_what_a_ca_is_cannot_be_changed(change: dict[str, Any]) -> None:
    root = {"name": "root", "kind": "root", "subject": "CN=Root"}
    before = copy_objects({}, plan_node({}, specification(certification_authorities=[root])))
    wanted = specification(certification_authorities=[{**root, **change}])
    steps = plan_node(before, wanted)
    with pytest.raises(ConfigError, match="can't be changed"):
        check_objects(copy_objects(before, steps), steps)


def test_a_ca_that_others_are_signed_by_cannot_be_deleted() -> None:
    objects = copy_objects({}, plan_node({}, specification(**WORKING)))
    steps = plan_object(objects, "certification_authorities", "root", None)
    with pytest.raises(ConfigError, match=r"issuing\.issuer"):
        check_objects(copy_objects(objects, steps), steps)


NAMES = st.sampled_from(["a", "b", "c"])
SPECS = st.builds(
    lambda names, content: NodeSpecification(
        publishers=tuple(
            PublisherSpec(
                name=name,
                peer=f"spiffe://test.example/node/{name}",
                authorities=("x",),
                content=content,
            )
            for name in sorted(names)
        ),
        certification_authorities=tuple(
            CertificationAuthoritySpec(name=name, kind="root", subject=f"CN={name}")
            for name in sorted(names)
        ),
        purge=True,
    ),
    st.sets(NAMES),
    st.sampled_from([("crl",), ("status",), ("certificate", "status", "crl")]),
)


@given(first=SPECS, second=SPECS)
def test_a_plan_leads_from_anything_to_what_is_wanted(
    first: NodeSpecification, second: NodeSpecification
) -> None:
    before = copy_objects({}, plan_node({}, first))
    after = copy_objects(before, plan_node(before, second))
    assert plan_node(after, second) == []
    assert set(after.get("publishers", {})) == {spec.name for spec in second.publishers}
