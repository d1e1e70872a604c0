"""The status port served by several processes: agent's side, worker's side, and what they say."""

from __future__ import annotations

from node_agent.status_workers.workers import StatusWorkers

__all__ = ["StatusWorkers"]
