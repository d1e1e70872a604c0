"""The peer protocol without I/O: see ``connection.py`` for how to drive it."""

from __future__ import annotations

from node_agent.wire.codes import Code, Status
from node_agent.wire.connection import Connection
from node_agent.wire.settings import HelloInfo, WireSettings
from node_agent.wire.states import ConnectionState

__all__ = ["Code", "Connection", "ConnectionState", "HelloInfo", "Status", "WireSettings"]
