"""Two VAs: one is changed by hand, one gets an old copy of its store, one loses it. All heal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from cryptography.x509.ocsp import OCSPCertStatus

from tests.acceptance.deployment import AUTHORITY, PROFILE
from tests.acceptance.status import issuer_of, status_of

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from tests.acceptance.deployment import Deployment
    from tests.acceptance.requester import Requester

STATE = "/var/lib/peersys"
OLD_COPY = "/var/tmp/peersys-old-copy"
HEALS_SECONDS = 60.0
SITE_SECONDS = 240.0
LOOK_SECONDS = 0.05
# Run on the VA's host with its own Python; the serial is the store's key, twenty octets.
MAKE_GOOD = """\
import sqlite3
with sqlite3.connect("{state}/store.sqlite3", timeout=10) as store:
    print(store.execute(
        "UPDATE certificates SET status = 'good', revoked_at = NULL, reason = NULL"
        " WHERE serial = ?", (bytes.fromhex("{serial}"),)
    ).rowcount)
"""


class Statuses:
    """Certificates that a test had issued, and what the VAs say of them."""

    def __init__(self, deployment: Deployment, requester: Requester) -> None:
        self._requester = requester
        self._urls = {
            name: f"http://{deployment.variables[name]['ansible_host']}" for name in ("va1", "va2")
        }
        self._issuer: Certificate = issuer_of(self._urls["va1"], AUTHORITY)

    def issue(self, *, revoke: bool) -> str:
        """Return the serial number of a new certificate that both VAs know."""
        deadline = time.monotonic() + 30
        name = f"{uuid4().hex}.example.org"
        enrolled = self._requester.enrol(
            name, authority=AUTHORITY, profile=PROFILE, deadline=deadline
        )
        if revoke:
            self._requester.revoke(AUTHORITY, enrolled.serial)
        wanted = OCSPCertStatus.REVOKED if revoke else OCSPCertStatus.GOOD
        for va in self._urls:
            self.wait(va, enrolled.serial, wanted)
        return enrolled.serial

    def wait(self, va: str, serial: str, wanted: OCSPCertStatus) -> float:
        """Return after how many seconds the VA said so."""
        began = time.monotonic()
        while self._says(va, serial) is not wanted:
            waited = time.monotonic() - began
            assert waited < HEALS_SECONDS, f"{va} doesn't say {wanted} of {serial}"
            time.sleep(LOOK_SECONDS)
        return time.monotonic() - began

    def _says(self, va: str, serial: str) -> OCSPCertStatus | None:
        try:
            return status_of(self._urls[va], serial, self._issuer)
        except (OSError, ValueError):
            # It doesn't run yet, or its signer has no certificate yet.
            return None


@pytest.fixture
def statuses(deployment: Deployment, requester: Requester) -> Statuses:
    return Statuses(deployment, requester)


def compared(deployment: Deployment, va: str, *options: str) -> dict[str, Any]:
    """Return what the CA node that publishes to the VA finds there, of the issuing CA."""
    said = [
        deployment.agent(name, "publisher", "verify", va, *options)
        for name in deployment.authorities
    ]
    found = [one for answer in said for one in answer.get("authorities", ())]
    assert found, f"no CA node could compare {va}: {said}"
    return next(one for one in found if one["authority"] == AUTHORITY)


def test_a_status_changed_by_hand_is_found_and_repaired(
    deployment: Deployment, statuses: Statuses
) -> None:
    serial = statuses.issue(revoke=True)
    code = MAKE_GOOD.format(state=STATE, serial=serial.rjust(40, "0"))
    assert deployment.host("va2").check_output("python3 -c %s", code) == "1"
    assert compared(deployment, "va2")["changed"] == 1
    repaired = compared(deployment, "va2", "--repair")
    assert (repaired["changed"], repaired["repaired"]) == (1, 1)
    assert compared(deployment, "va2")["changed"] == 0
    # Whatever it kept in memory: what is on its disk is right again.
    deployment.host("va2").check_output("systemctl restart peersys")
    statuses.wait("va2", serial, OCSPCertStatus.REVOKED)


def test_a_va_from_an_old_copy_of_its_store_heals_by_itself(
    deployment: Deployment, statuses: Statuses
) -> None:
    va1 = deployment.host("va1")
    va1.check_output(
        f"systemctl stop peersys && rm -rf {OLD_COPY} && cp -a {STATE} {OLD_COPY} "
        "&& systemctl start peersys"
    )
    revoked, good = statuses.issue(revoke=True), statuses.issue(revoke=False)
    va1.check_output(
        f"systemctl stop peersys && find {STATE} -mindepth 1 -delete "
        f"&& cp -a {OLD_COPY}/. {STATE}/ && rm -rf {OLD_COPY} && systemctl start peersys"
    )
    seconds = statuses.wait("va1", revoked, OCSPCertStatus.REVOKED)
    statuses.wait("va1", good, OCSPCertStatus.GOOD)
    print(f"va1 knew again what its old copy lacked after {seconds:.1f} s")
    assert compared(deployment, "va1")["missing"] == 0


def test_a_va_that_lost_its_store_needs_only_the_playbook_that_made_it(
    deployment: Deployment, statuses: Statuses
) -> None:
    revoked, good = statuses.issue(revoke=True), statuses.issue(revoke=False)
    deployment.host("va2").check_output(
        f"systemctl stop peersys && find {STATE} -mindepth 1 -delete"
    )
    command = deployment.play("site.yml")
    status, said = deployment.run_playbook(command, timeout_seconds=SITE_SECONDS)
    assert status == 0, said
    seconds = statuses.wait("va2", revoked, OCSPCertStatus.REVOKED)
    statuses.wait("va2", good, OCSPCertStatus.GOOD)
    print(f"va2 knew everything again {seconds:.1f} s after the playbook")
    assert compared(deployment, "va2")["missing"] == 0
