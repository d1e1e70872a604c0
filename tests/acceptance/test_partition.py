"""The router between the CA and its RA and VA drops everything; after healing, work flows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from cryptography.x509.ocsp import OCSPCertStatus

from tests.acceptance.deployment import AUTHORITY, PROFILE, Deployment
from tests.acceptance.status import issuer_of, status_of
from tools.test_hosts import lab

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.x509 import Certificate

    from tests.acceptance.enrolment_load import EnrolmentLoad
    from tests.acceptance.requester import Requester

CUT = ("ca", "service")
# DESIGN.md, "Bars": links and queued work flow again.
FLOWS_AGAIN_SECONDS = 2.0
CA, RA, VA = "ca1", "ra1", "va1"
NOTICED_SECONDS = 120
# Between two looks.
LOOK_SECONDS = 0.01


def link_is_down(deployment: Deployment) -> bool:
    """Return whether both ends have found out by themselves that the link is dead."""
    states = [
        peer["state"]
        for name in (CA, RA)
        for peer in deployment.agent(name, "status")["peers"]
        if peer["peer"].endswith((f"/{CA}", f"/{RA}"))
    ]
    return "up" not in states


def is_cut(deployment: Deployment) -> bool:
    return True


def wait_until(is_so: Callable[[Deployment], bool], deployment: Deployment) -> None:
    deadline = time.monotonic() + NOTICED_SECONDS
    while not is_so(deployment):
        assert time.monotonic() < deadline, f"not {is_so.__name__} after {NOTICED_SECONDS} s"


@pytest.mark.usefixtures("healed_after")
@pytest.mark.parametrize("noticed", [is_cut, link_is_down], ids=["at-once", "after-it-is-noticed"])
def test_work_and_publishing_resume_by_themselves(
    deployment: Deployment,
    load: Callable[[], EnrolmentLoad],
    requester: Requester,
    noticed: Callable[[Deployment], bool],
) -> None:
    va = f"http://{deployment.variables[VA]['ansible_host']}"
    issuer = issuer_of(va, AUTHORITY)
    known = requester.enrol(
        f"known-{time.monotonic_ns()}.example.org",
        authority=AUTHORITY,
        profile=PROFILE,
        deadline=time.monotonic() + 30,
    )
    wait_for_status(va, known.serial, issuer, OCSPCertStatus.GOOD, seconds=10)
    with load() as traffic:
        traffic.wait_for(20, seconds=30)
        lab.cut(CUT, deployment.places)
        deployment.agent(CA, "certificate", "revoke", AUTHORITY, known.serial)
        wait_until(noticed, deployment)
        assert status_of(va, known.serial, issuer) is OCSPCertStatus.GOOD
        waiting = len(traffic.done)
        lab.heal(deployment.places)
        healed = time.monotonic()
        told = wait_for_status(va, known.serial, issuer, OCSPCertStatus.REVOKED, seconds=60)
        # Each of the eight that wait, and then some.
        traffic.wait_for(waiting + 16, seconds=60)
    flowed = traffic.done[waiting + 15].ended - healed
    print(f"after healing: requests flow {flowed:.2f} s, the VA knows {told - healed:.2f} s")
    assert flowed <= FLOWS_AGAIN_SECONDS
    assert told - healed <= FLOWS_AGAIN_SECONDS
    issued = requester.issued(AUTHORITY, f"{traffic.label}.example.org")
    assert {one["serial"] for one in issued} == {one.serial for one in traffic.done}


def wait_for_status(
    va: str, serial: str, issuer: Certificate, wanted: OCSPCertStatus, *, seconds: float
) -> float:
    """Return when the VA first said so."""
    deadline = time.monotonic() + seconds
    while status_of(va, serial, issuer) is not wanted:
        assert time.monotonic() < deadline, f"the VA didn't say {wanted} within {seconds} s"
        time.sleep(LOOK_SECONDS)
    return time.monotonic()
