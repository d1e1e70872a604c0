# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""The options of every managed object, with the defaults of the agent's own specifications.

A contract test holds keys, choices and defaults together with the agent's; the documentation
twin is ``doc_fragments/_specifications.py``.
"""

from __future__ import annotations

import typing as t

from ansible_collections.peersys.pki.plugins.module_utils._argspec import ArgumentSpec, Options

# What an authenticator's key may be: TLS has none of the others.
TLS_KEY_KINDS = [
    "rsa-2048",
    "rsa-3072",
    "rsa-4096",
    "ec-p256",
    "ec-p384",
    "ec-p521",
    "ed25519",
]
KEY_KINDS = [*TLS_KEY_KINDS, "ml-dsa-44", "ml-dsa-65", "ml-dsa-87"]
SUBJECT_ATTRIBUTES = [
    "common_name",
    "organization",
    "organizational_unit",
    "country",
    "state_or_province",
    "locality",
    "serial_number",
    "email_address",
    "domain_component",
    "user_id",
]

ROLE_TEMPLATES = [
    "publisher",
    "registration_authority",
    "validation_authority",
    "proxy",
    "tenant",
]


def _text(default: str | None = None, **more: t.Any) -> dict[str, t.Any]:
    return {"type": "str", "default": default, **more} if default else {"type": "str", **more}


def _number(default: int | None = None) -> dict[str, t.Any]:
    return {"type": "int"} if default is None else {"type": "int", "default": default}


def _flag(default: bool) -> dict[str, t.Any]:
    return {"type": "bool", "default": default}


def _texts(default: t.Sequence[str] = (), **more: t.Any) -> dict[str, t.Any]:
    return {"type": "list", "elements": "str", "default": list(default), **more}


def _entries(options: Options) -> dict[str, t.Any]:
    return {"type": "list", "elements": "dict", "default": [], "options": options}


def _key_kind(choices: t.Sequence[str]) -> dict[str, t.Any]:
    return _text("ec-p256", choices=choices, no_log=False)


def _crypto_token() -> dict[str, t.Any]:
    return _text("default", no_log=False)


_NAME: Options = {"name": {"type": "str", "required": True}}
_RULES = _entries(
    {
        "resource": {"type": "str", "required": True},
        "effect": _text("allow", choices=["allow", "deny"]),
    }
)

CRYPTO_TOKEN = ArgumentSpec(
    {
        **_NAME,
        "kind": _text("soft", choices=["soft", "pkcs11"]),
        "activation": _text("automatic", choices=["automatic", "on_demand"]),
        "module": _text(),
        "token_label": _text(no_log=False),
        "token_serial": _text(no_log=False),
        "slot": _number(),
        # Where the PIN is, not the PIN.
        "pin_file": _text(no_log=False),
        "pin_credential": _text(no_log=False),
    }
)
AUTHENTICATOR = ArgumentSpec(
    {
        **_NAME,
        "purpose": _text("peer", choices=["peer", "server"]),
        "crypto_token": _crypto_token(),
        "key_kind": _key_kind(TLS_KEY_KINDS),
        "dns_names": _texts(),
        "ip_addresses": _texts(),
        # Absent means "as they are": a certificate is never taken away by not naming it.
        "certificate": _text(),
        "trust_anchors": {"type": "list", "elements": "str"},
        "crls": {"type": "list", "elements": "str"},
        "require_current_crl": _flag(False),
    }
)
CRL: Options = {
    "validity_seconds": _number(7 * 86400),
    "overlap_seconds": _number(86400),
    "delta_validity_seconds": _number(0),
    "on_revocation": _flag(True),
    "shards": _number(0),
}
# A management CA is an ordinary CA whose kind is fixed and that no peer can ask.
MANAGEMENT_CA = ArgumentSpec(
    {
        **_NAME,
        "subject": _text(),
        "crypto_token": _crypto_token(),
        "key_kind": _key_kind(KEY_KINDS),
        "validity_days": _number(3650),
        "crl": {"type": "dict", "options": CRL},
        "crl_urls": _texts(),
    },
    needed=("subject",),
)
CERTIFICATION_AUTHORITY = ArgumentSpec(
    {
        **MANAGEMENT_CA.options,
        "kind": _text(choices=["root", "issuing", "management"]),
        "issuer": _text(),
        "path_length": _number(),
        "profiles": _texts(),
        "ocsp_urls": _texts(),
        "issuer_urls": _texts(),
    },
    needed=("kind", "subject"),
)
CERTIFICATE_PROFILE = ArgumentSpec(
    {
        **_NAME,
        "subject": _entries(
            {
                "attribute": {"type": "str", "required": True, "choices": SUBJECT_ATTRIBUTES},
                "required": _flag(False),
                "pattern": _text(),
                "value": _text(),
            }
        ),
        "san": _entries(
            {
                "kind": {
                    "type": "str",
                    "required": True,
                    "choices": ["dns", "ip", "email", "uri"],
                },
                "pattern": _text(),
                "minimum": _number(0),
                "maximum": _number(100),
            }
        ),
        "key_kinds": _texts(
            ("ec-p256", "ec-p384", "ec-p521", "rsa-2048", "rsa-3072", "rsa-4096", "ed25519"),
            choices=KEY_KINDS,
            no_log=False,
        ),
        "key_usage": _texts(("digital_signature",), no_log=False),
        "extended_key_usage": _texts(("server_auth",), no_log=False),
        "validity_days": _number(90),
        "backdate_seconds": _number(300),
        "policies": _texts(),
        "include_ocsp_url": _flag(True),
        "include_issuer_url": _flag(True),
        "include_crl_url": _flag(True),
        "approvals": _number(0),
        "approval_expiry_seconds": _number(7 * 86400),
    }
)
PEER_ISSUER = ArgumentSpec(
    {
        **_NAME,
        "trust_domain": _text(),
        "trust_anchors": {"type": "list", "elements": "str"},
        # Absent means "as they are": revocations aren't forgotten by not naming them.
        "crls": {"type": "list", "elements": "str"},
    },
    needed=("trust_domain", "trust_anchors"),
)
ROLE_PARAMETERS: Options = {
    "authorities": _texts(),
    "profiles": _texts(),
    "protocols": _texts(("rest",), choices=["rest", "est", "acme", "cmp"]),
    "operations": _texts(
        ("enroll", "revoke", "status", "search"),
        choices=["enroll", "revoke", "status", "search", "approve"],
    ),
    "publishes": _texts(
        ("certificate", "status", "crl", "read"),
        choices=["certificate", "status", "crl", "read", "take_back"],
    ),
}
PEER_ROLE = ArgumentSpec(
    {
        **_NAME,
        "members": _texts(),
        "rules": _RULES,
        "template": _text(choices=ROLE_TEMPLATES),
        "parameters": {"type": "dict", "options": ROLE_PARAMETERS},
        "tenant": _text(),
        "certificate_scope": _text("own", choices=["own", "all"]),
        "max_issued_certificates": _number(),
        "issued_period_seconds": _number(86400),
        "max_valid_certificates": _number(),
        "names": _texts(),
    }
)
PEER_CONNECTOR = ArgumentSpec(
    {
        **_NAME,
        "address": _text(),
        "peer": _text(),
        "authenticator": _text("peer"),
        "enabled": _flag(True),
        "min_connections": _number(1),
        "max_connections": _number(4),
        "max_parallel_requests": _number(50),
        "max_age_seconds": _number(3600),
        "idle_seconds": _number(60),
    },
    needed=("address", "peer"),
)
PUBLISHER = ArgumentSpec(
    {
        **_NAME,
        "peer": _text(),
        "authorities": {"type": "list", "elements": "str"},
        "content": _texts(
            ("certificate", "status", "crl"), choices=["certificate", "status", "crl"]
        ),
        "verify_seconds": {"type": "int", "default": 3600},
        "only_revoked": _flag(False),
    },
    needed=("peer", "authorities"),
)
SIGNER = ArgumentSpec(
    {
        **_NAME,
        "authority": _text(),
        "crypto_token": _crypto_token(),
        "key_kind": _key_kind(KEY_KINDS),
        "validity_seconds": _number(3600),
        "renew_before_seconds": _number(7 * 86400),
        "unknown_serial": _text(choices=["unknown", "unauthorized", "revoked", "good"]),
        "certificate_retrieval": _flag(False),
    },
    needed=("authority",),
)
REQUESTER = ArgumentSpec(
    {
        **_NAME,
        "token_sha256": _text(no_log=True),
        "certificate_sha256": _text(),
        "rules": _RULES,
        "client_trust_anchors": _texts(),
        "names": _texts(),
        "requests_per_second": _number(300),
        "burst_requests": _number(1000),
    }
)

KINDS: dict[str, ArgumentSpec] = {
    "crypto_tokens": CRYPTO_TOKEN,
    "authenticators": AUTHENTICATOR,
    "certificate_profiles": CERTIFICATE_PROFILE,
    "certification_authorities": CERTIFICATION_AUTHORITY,
    "peer_issuers": PEER_ISSUER,
    "peer_roles": PEER_ROLE,
    "peer_connectors": PEER_CONNECTOR,
    "publishers": PUBLISHER,
    "signers": SIGNER,
    "requesters": REQUESTER,
}
"""Every kind, named as in the admin API."""


def specification_from(params: t.Mapping[str, t.Any], spec: ArgumentSpec) -> dict[str, t.Any]:
    """Return the JSON specification that ``params`` describe; what isn't set is left out."""
    return {
        name: _without_unset(params[name]) for name in spec.options if params.get(name) is not None
    }


def _without_unset(value: t.Any) -> t.Any:
    if isinstance(value, list):
        return [_without_unset(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_unset(item) for key, item in value.items() if item is not None}
    return value
