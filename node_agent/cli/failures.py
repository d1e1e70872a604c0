"""What can go wrong in a client command, and the exit status that each of it becomes.

The statuses are part of the interface: scripts and playbooks branch on them.
"""

from __future__ import annotations

import enum

from node_agent.errors import ConfigError, ConnectError, NodeAgentError

__all__ = ["AdminRefused", "AgentUnreachable", "ExitStatus", "UsageError", "exit_status_of"]


class ExitStatus(enum.IntEnum):
    """What ``peersys`` exits with."""

    OK = 0
    CHECK_FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    INTERRUPTED = 130


class UsageError(NodeAgentError):
    """The command can't be carried out as typed; ``remedy`` says what to type instead."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        self.remedy = remedy
        super().__init__(message)


class AgentUnreachable(ConnectError):
    """No agent answers on the socket; ``remedy`` says how to start or name it."""

    def __init__(self, message: str, *, remedy: str) -> None:
        self.remedy = remedy
        super().__init__(message)


class AdminRefused(NodeAgentError):
    """The agent answered with a problem document (RFC 9457); the attributes are its members."""

    def __init__(self, problem: dict[str, object], *, status: int) -> None:
        self.status = status
        self.problem = problem
        self.field = str(problem.get("field") or "")
        self.remedy = str(problem.get("remedy") or "")
        detail = str(problem.get("detail") or problem.get("title") or f"HTTP status {status}")
        named = self.field and self.field not in detail
        super().__init__(f"{self.field}: {detail}" if named else detail)


def exit_status_of(error: NodeAgentError) -> ExitStatus:
    """Return the exit status for ``error``: a request the agent can't accept is a usage error."""
    if isinstance(error, AgentUnreachable):
        return ExitStatus.UNREACHABLE
    if isinstance(error, AdminRefused) and error.status >= 500:
        return ExitStatus.CHECK_FAILED
    if isinstance(error, (AdminRefused, ConfigError, UsageError)):
        return ExitStatus.USAGE
    return ExitStatus.CHECK_FAILED
