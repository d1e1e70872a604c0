"""Pools of dialled links: a pure plan, and the part that performs it."""

from __future__ import annotations

from node_agent.pool.pool import ConnectorPool
from node_agent.pool.settings import PoolSettings
from node_agent.pool.snapshot import ConnectorSnapshot

__all__ = ["ConnectorPool", "ConnectorSnapshot", "PoolSettings"]
