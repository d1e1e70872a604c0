"""What a scraper and a load balancer see of real nodes."""

from __future__ import annotations

import contextlib
import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.agents import Topology
from tests.support.openssl import make_csr
from tests.support.processes import free_address, wait_until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(180)


def get(address: str, path: str) -> tuple[int, str]:
    try:
        with contextlib.closing(
            urllib.request.urlopen(f"http://{address}{path}", timeout=10)
        ) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def freshness(topology: Topology, most: int = 60) -> tuple[int, Any]:
    path = f"/health/fresh?max_lag_seconds={most}"
    status, body = get(topology.va.listen["status"], path)
    return status, json.loads(body)


def test_lag_and_counts_are_seen_from_outside(tmp_path: Path) -> None:
    topology = Topology(tmp_path)
    for agent in (topology.ca, topology.va):
        agent.listen["metrics"] = free_address()
    with topology:
        issued = topology.rest().enroll(make_csr(tmp_path))[1]
        assert topology.rest().revoke(issued["serial"])[0] == 200
        status, text = get(topology.ca.listen["metrics"], "/metrics")
        assert status == 200
        counted = 'peersys_ca_requests_total{authority="issuing",operation="ra.enroll",outcome='
        assert f'{counted}"done"}} 1.0' in text
        assert 'peersys_publisher_up{publisher="va1"} 1.0' in text
        assert "peersys_store_commit_seconds_count" in text
        assert get(topology.ca.listen["metrics"], "/")[0] == 404
        of_va = get(topology.va.listen["metrics"], "/metrics")[1]
        assert "peersys_signer_not_after_seconds" in of_va

        wait_until(lambda: freshness(topology)[0] == 200, what="the VA knows that it is fresh")
        topology.ca.pause()
        wait_until(
            lambda: freshness(topology, most=3)[0] == 503, timeout_seconds=20, what="it is stale"
        )
        topology.ca.resume()
        wait_until(
            lambda: freshness(topology, most=3)[0] == 200, timeout_seconds=30, what="fresh again"
        )
