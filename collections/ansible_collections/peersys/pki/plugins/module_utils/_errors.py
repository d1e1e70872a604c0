# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""What can go wrong between a module and the node agent, as one tree.

::

    AgentError
    |-- AgentUnreachable     no socket, nobody listens, no answer in time
    |-- AgentBroken          an answer that isn't the admin API's
    `-- AgentRefused         an RFC 9457 problem document
"""

from __future__ import annotations

import re
import typing as t


class AgentError(Exception):
    """Root; ``details()`` are further keys for ``fail_json``."""

    def details(self) -> dict[str, t.Any]:
        """Return what a play may want to read besides the message."""
        return {}


class AgentUnreachable(AgentError):
    """The admin socket is missing, refuses, or doesn't answer in time.

    ``sent`` tells whether the request may have reached the agent.
    """

    def __init__(self, message: str, *, sent: bool = False) -> None:
        self.sent = sent
        super().__init__(message)


class AgentBroken(AgentError):
    """The answer isn't JSON of the admin API."""


class AgentRefused(AgentError):
    """The agent said no. The message names the object, the field at fault and the remedy."""

    def __init__(self, about: str, status: int, problem: dict[str, t.Any]) -> None:
        self.status = status
        self.problem = problem
        super().__init__(_sentence(about, status, problem))

    def details(self) -> dict[str, t.Any]:
        """Return the problem document and its HTTP status."""
        return {"problem": self.problem, "status": self.status}


def _sentence(about: str, status: int, problem: dict[str, t.Any]) -> str:
    detail = problem.get("detail") or problem.get("title") or f"refused with status {status}"
    text = detail if _names(detail, about) else f"{about}: {detail}"
    # Many details tell field and remedy themselves.
    field, remedy = problem.get("field") or "", problem.get("remedy") or ""
    if not detail.startswith(field):
        text += f" [field: {field}]"
    if remedy not in text:
        text = f"{text.rstrip('.')}. {remedy}"
    return text


def _names(detail: str, about: str) -> bool:
    """Return whether the agent names the object first, as ``kind/name`` or ``kind.name``."""
    kind, _space, name = about.partition(" ")
    return bool(name and re.match(rf"{re.escape(kind)}[./]{re.escape(name)}(?![\w-])", detail))
