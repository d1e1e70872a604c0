# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""Waiting for a condition, never for a time."""

from __future__ import annotations

import time
import typing as t

from ansible_collections.peersys.pki.plugins.module_utils._errors import AgentError

_POLL_SECONDS = 0.1
Answer = t.TypeVar("Answer")


class WaitedInVain(AgentError):
    """The condition did not come true in time; the message says what was still missing."""


def wait_until(
    ask: t.Callable[[], Answer], missing: t.Callable[[Answer], str], seconds: float
) -> Answer:
    """Return the first answer of ``ask`` of which ``missing`` finds nothing to complain.

    Raises WaitedInVain with the last complaint after ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while True:
        answer = ask()
        complaint = missing(answer)
        if not complaint:
            return answer
        if time.monotonic() >= deadline:
            raise WaitedInVain(f"{complaint} (waited {seconds:g} s)")
        time.sleep(_POLL_SECONDS)
