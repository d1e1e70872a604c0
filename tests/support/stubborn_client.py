"""A client that goes on asking for its certificate while nodes die, freeze and come back."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from tests.support.processes import wait_until

if TYPE_CHECKING:
    from tests.support.agents import Topology

__all__ = ["StubbornClient"]


class StubbornClient:
    """Enrols one CSR under one request id until it has a certificate, whatever happens."""

    def __init__(self, topology: Topology, csr: str) -> None:
        self._topology = topology
        self._csr = csr
        self.request_id = uuid.uuid4()
        self.certificates: set[str] = set()
        self.failures: list[Any] = []

    def enroll(self) -> None:
        """Return with a certificate. Raises TimeoutError when there is none for too long."""
        wait_until(
            self._has_certificate,
            timeout_seconds=90,
            what=lambda: f"a certificate; it was refused with {self.failures[-2:]}",
        )

    def _has_certificate(self) -> bool:
        try:
            status, answer = self._topology.rest().enroll(self._csr, request_id=self.request_id)
        except OSError as error:
            self.failures.append(str(error))
            return False
        if status not in (200, 201):
            self.failures.append(answer)
            return False
        self.certificates.add(answer["certificate"])
        return True
