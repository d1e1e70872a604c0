"""Limits of the status port."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["StatusSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusSettings:
    """Limits of the status port.

    RFC 5019 requests are below 255 bytes; ``body_bytes`` leaves room for requests with many
    certificates. ``kept_paths`` bounds how many GET paths are remembered decoded, none of them
    longer than ``kept_path_bytes``: strangers choose them. ``kept_requests`` and
    ``kept_request_bytes`` do the same for whole requests.
    """

    header_bytes: int = 8 * 1024
    body_bytes: int = 8 * 1024
    request_seconds: float = 10.0
    idle_seconds: float = 30.0
    stall_seconds: float = 20.0
    answer_seconds: float = 10.0
    shutdown_seconds: float = 5.0
    max_pipelined: int = 128
    max_connections: int = 10_000
    download_max_age_seconds: int = 3600
    kept_paths: int = 4096
    kept_path_bytes: int = 512
    kept_requests: int = 4096
    kept_request_bytes: int = 1024
    backlog: int = 4096
