"""Answers of the admin API as three nodes of the local topology would give them."""

from __future__ import annotations

from typing import Any

__all__ = ["audit_entries", "ca_status", "identity", "peer", "ra_status", "va_status"]

_NOT_AFTER = 4_000_000_000


def identity(name: str) -> str:
    """Return the node identity of ``name`` in the test's trust domain."""
    return f"spiffe://pki.test/node/{name}"


def peer(name: str, direction: str, **changes: Any) -> dict[str, Any]:
    """Return one peer as ``GET /v1/peers`` lists it."""
    document: dict[str, Any] = {
        "peer": identity(name),
        "direction": direction,
        "connector": f"to-{name}" if direction == "out" else None,
        "address": "127.0.0.12:7443",
        "state": "up",
        "connections": 1,
        "min": 1,
        "max": 4,
        "in_flight": 0,
        "queued": 0,
        "round_trip_ms": 0.61,
        "roles": [],
        "last_error": None,
        "last_seen": 1_790_000_000.0,
    }
    return {**document, **changes}


def _status(name: str, **changes: Any) -> dict[str, Any]:
    document: dict[str, Any] = {
        "node": {"identity": identity(name), "version": "0.1.0", "started_at": 1_790_000_000.0},
        "health": "ok",
        "reasons": [],
        "peers": [],
        "publishers": [],
        "signers": [],
        "authorities": [],
        "urls": {"rest": None, "status": None},
    }
    return {**document, **changes}


def ca_status(**changes: Any) -> dict[str, Any]:
    """Return the status of ca1, which dials ra1 and va1."""
    publisher = {
        "name": "va1",
        "peer": identity("va1"),
        "position": 12,
        "last_position": 14,
        "lag_entries": 2,
        "lag_seconds": 0.4,
        "state": "streaming",
        "last_error": None,
    }
    authority = {
        "name": "issuing",
        "kind": "issuing",
        "subject": "CN=Issuing CA",
        "not_after": _NOT_AFTER,
        "crl_number": 3,
        "crl_next_update": _NOT_AFTER,
        "certificates": 7,
    }
    peers = [peer("ra1", "out", roles=["ra"]), peer("va1", "out", roles=["va"], max=2)]
    defaults: dict[str, Any] = {
        "peers": peers,
        "publishers": [publisher],
        "authorities": [authority],
    }
    return _status("ca1", **{**defaults, **changes})


def ra_status(**changes: Any) -> dict[str, Any]:
    """Return the status of ra1, which ca1 dials."""
    defaults: dict[str, Any] = {
        "peers": [peer("ca1", "in", roles=["upstream"], address="127.0.0.1:40112")],
        "urls": {"rest": "https://127.0.0.12:8443", "status": None},
    }
    return _status("ra1", **{**defaults, **changes})


def va_status(**changes: Any) -> dict[str, Any]:
    """Return the status of va1, which ca1 dials and which answers OCSP."""
    signer = {
        "name": "issuing",
        "authority": "issuing",
        "state": "active",
        "not_after": _NOT_AFTER,
        "serial": "3f2a",
    }
    defaults: dict[str, Any] = {
        "peers": [peer("ca1", "in", roles=["publisher"])],
        "signers": [signer],
        "urls": {"rest": None, "status": "http://127.0.0.13:8080"},
    }
    return _status("va1", **{**defaults, **changes})


def audit_entries(count: int) -> list[dict[str, Any]]:
    """Return entries 1 to ``count``; every third was denied."""
    return [
        {
            "sequence": number,
            "at": 1_790_000_000.0 + number,
            "action": "ra.enroll",
            "allowed": number % 3 != 0,
            "chain": "demo via ra1",
            "resources": ["/ra/enroll", "/ca/issuing"],
            "reason": "granted" if number % 3 else "no rule grants /ca/issuing",
            "detail": {},
            "hash": f"{number:064x}",
        }
        for number in range(1, count + 1)
    ]
