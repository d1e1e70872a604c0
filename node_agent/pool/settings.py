"""What a pool may do: validated numbers, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from node_agent.errors import ConfigError

if TYPE_CHECKING:
    from node_agent.objects import PeerConnectorSpec

__all__ = ["PoolSettings"]

# EJBCA's peer connectors allow 1,000 connections; each of ours carries many requests at once.
_MAX_CONNECTIONS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """The limits and times of one connector's pool.

    ``max_parallel_requests`` is what we serve for the peer at once, over all its links. The times
    that an operator can't set are argued in ``docs/why/pools.md``. Raises ConfigError.
    """

    enabled: bool = True
    min_connections: int = 1
    max_connections: int = 4
    max_parallel_requests: int = 50
    max_age_seconds: float = 3600
    idle_seconds: float = 60
    dial_timeout_seconds: float = 10
    dial_patience_seconds: float = 1.5
    """A dial older than this no longer keeps the next one from starting."""
    backoff_base_seconds: float = 0.1
    backoff_cap_seconds: float = 1.5
    """The longest pause while requests wait or the outage is young: a healed partition must carry
    requests again within two seconds."""
    outage_backoff_cap_seconds: float = 30
    """The longest pause in a long outage that nobody feels."""
    drain_seconds: float = 30
    settle_seconds: float = 5
    """A link that ends sooner counts as a failed dial: the peer accepts and throws out."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_connections <= _MAX_CONNECTIONS:
            raise ConfigError(
                f"{self.max_connections} is too many or none",
                where="max_connections",
                remedy=f"give from 1 to {_MAX_CONNECTIONS}",
            )
        if not 1 <= self.min_connections <= self.max_connections:
            raise ConfigError(
                f"{self.min_connections} doesn't fit max_connections, {self.max_connections}",
                where="min_connections",
                remedy="give from 1 to max_connections",
            )
        if self.max_parallel_requests < self.max_connections:
            raise ConfigError(
                f"{self.max_parallel_requests} is below max_connections, {self.max_connections}, "
                "so a link could carry nothing",
                where="max_parallel_requests",
                remedy="allow at least one request per connection",
            )

    @classmethod
    def from_spec(cls, spec: PeerConnectorSpec) -> PoolSettings:
        """Return what a connector asks for. Raises ConfigError naming it and the field."""
        try:
            return cls(
                enabled=spec.enabled,
                min_connections=spec.min_connections,
                max_connections=spec.max_connections,
                max_parallel_requests=spec.max_parallel_requests,
                max_age_seconds=spec.max_age_seconds,
                idle_seconds=spec.idle_seconds,
            )
        except ConfigError as error:
            where = f"peer_connectors.{spec.name}.{error.where}"
            raise ConfigError(error.detail, where=where, remedy=error.remedy) from error

    @property
    def requests_per_connection(self) -> int:
        """How many requests of the peer one link carries when the pool is fully grown."""
        return max(1, self.max_parallel_requests // self.max_connections)
