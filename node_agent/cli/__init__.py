"""The ``peersys`` command: a client of the admin socket, and the way an agent is started.

``commands`` declares every command and ``program`` dispatches to it; each handler module is
imported only when its command runs, so that ``peersys status`` never pays for the agent's
libraries.
"""

from __future__ import annotations

from node_agent.cli.program import main

__all__ = ["main"]
