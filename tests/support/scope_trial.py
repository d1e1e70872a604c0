"""An attacker tries the whole table of ``scope_table`` before one node, which answers by its roles
and audits each denial once.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from node_agent.wire import Status
from tests.support.audit_view import AuditView, is_denial
from tests.support.scope_table import Scope, Try, tries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from node_agent.net import IdentityHolder
    from tests.support.hostile_node import HostileNode
    from tests.support.node_process import Agent

__all__ = ["Trial"]


@dataclass(frozen=True, slots=True)
class Trial:
    """``attacker`` asks the node ``of`` over its link to ``judge``, who has to decide: itself, or
    before it passes anything on. ``chain`` is who asks, as the audit log writes it; ``holder`` is
    whose key signs, where that isn't the attacker's own.
    """

    attacker: HostileNode
    judge: Agent
    scope: Scope
    chain: str
    of: str = ""
    holder: IdentityHolder | None = None
    requester: str = "mallory"

    def check(
        self, method: str, where: Callable[[Try], bool] = lambda case: True, **given: Any
    ) -> None:
        """Try all of one operation that fits ``where``. ``given`` is what the requests are about,
        ``source`` the attacker unless it says so. Raises AssertionError naming what went wrong.
        """
        given = {"source": (self.holder or self.attacker.holder).node.uri, **given}
        log = AuditView(self.judge)
        tried = [self._ask(case, given) for case in tries(method) if where(case)]
        assert tried, f"nothing is tried of {method}"
        entries = log.entries()
        expected = sum(not self.scope.allows(case) for case, _, _ in tried)
        findings = [*self._wrong(tried, entries), *_surplus(entries, expected)]
        assert not findings, "\n".join(findings)

    def _ask(self, case: Try, given: dict[str, Any]) -> tuple[Try, bytes, int]:
        request_id = secrets.token_bytes(16)
        answer = self.attacker.sign_and_send(
            case.operation,
            case.request(**given),
            request_id=request_id,
            requester=self.requester,
            of=self.of or self.judge.identity,
            to=self.judge.identity,
            holder=self.holder,
        )
        return case, request_id, answer.status

    def _wrong(
        self, tried: Iterable[tuple[Try, bytes, int]], entries: Iterable[dict[str, Any]]
    ) -> Iterable[str]:
        denials: dict[str, list[tuple[str, str]]] = {}
        for entry in filter(is_denial, entries):
            asked = entry["detail"].get("request_id", "")
            denials.setdefault(asked, []).append((entry["action"], entry["chain"]))
        for case, request_id, status in tried:
            found = denials.get(request_id.hex(), [])
            allowed = self.scope.outcomes(case)
            wanted = [] if allowed else [(case.operation.method, self.chain)]
            if status not in (allowed or {Status.DENIED}) or found != wanted:
                yield f"{case}: {Status(status).name}, audited {found}, wanted {wanted}"


def _surplus(entries: Iterable[dict[str, Any]], expected: int) -> Iterable[str]:
    found = sum(map(is_denial, entries))
    if found != expected:
        yield f"{found} denials in the log, not {expected}"
