"""One of two CA hosts loses its power under load: every request ends with one certificate."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.deployment import AUTHORITY, Deployment
from tools.test_hosts import lab

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.acceptance.enrolment_load import EnrolmentLoad
    from tests.acceptance.requester import Requester

BEFORE, AFTER = 100, 150
RETURNED_SECONDS = 120
# One after the other, each while the other one is well.
VICTIMS = ("ca1", "ca2")


@pytest.fixture(params=VICTIMS)
def victim(request: pytest.FixtureRequest, deployment: Deployment) -> Iterator[str]:
    """Return the CA host that is to lose its power, and boot it again afterwards."""
    name = request.param
    table = firewall_of(deployment, name)
    yield name
    lab.start([name], deployment.places)
    assert firewall_of(deployment, name) == table, f"{name} booted with another firewall"
    wait_for_links(deployment)


def firewall_of(deployment: Deployment, name: str) -> str:
    listed: str = deployment.host(name).check_output("nft --stateless list table inet peersys")
    return listed


def wait_for_links(deployment: Deployment) -> None:
    """Wait until every node has every link again, and is well."""
    deadline = time.monotonic() + RETURNED_SECONDS
    for name in deployment.nodes:
        while not is_whole(deployment.agent(name, "status")):
            assert time.monotonic() < deadline, f"{name} isn't whole after {RETURNED_SECONDS} s"


def is_whole(status: dict[str, object]) -> bool:
    peers = status.get("peers")
    return (
        status.get("health") == "ok"
        and isinstance(peers, list)
        and all(peer["state"] == "up" for peer in peers)
    )


def test_a_ca_host_without_power_costs_no_certificate_and_makes_none_twice(
    deployment: Deployment,
    load: Callable[[], EnrolmentLoad],
    requester: Requester,
    victim: str,
) -> None:
    with load() as traffic:
        traffic.wait_for(BEFORE, seconds=60)
        lab.kill([victim], deployment.places)
        cut = time.monotonic()
        traffic.wait_for(len(traffic.done) + AFTER, seconds=90)
    assert not traffic.failures
    done = traffic.done
    assert len(done) >= BEFORE + AFTER
    for value in ("name", "request_id", "serial"):
        assert max(Counter(getattr(one, value) for one in done).values()) == 1, value
    issued = requester.issued(AUTHORITY, f"{traffic.label}.example.org")
    names = Counter(name for one in issued for name in set(one["names"]))
    assert {one["serial"] for one in issued} == {one.serial for one in done}
    assert len(issued) == len(done)
    assert names
    assert max(names.values()) == 1
    report(traffic, victim, cut)


def report(traffic: EnrolmentLoad, victim: str, cut: float) -> None:
    ends = sorted(one.ended for one in traffic.done)
    pause = max(later - earlier for earlier, later in itertools.pairwise(ends))
    again = sum(one.attempts > 1 for one in traffic.done)
    before = sum(end < cut for end in ends)
    print(
        f"{victim} lost its power after {before} of {len(ends)} enrolments: none was lost or made "
        f"twice; {again} were asked for again; the longest pause was {pause:.2f} s"
    )
