"""Metrics: what is documented is there, what is gone is gone, and each node has its own."""

from __future__ import annotations

import re
from pathlib import Path

from node_agent.metrics import Metrics

PAGE = Path(__file__).parents[2] / "docs/reference/metrics.md"


def filled() -> Metrics:
    metrics = Metrics()
    metrics.requests.labels("ra.enroll", "issuing", "done").inc()
    metrics.audit.labels("denied").inc()
    metrics.observer()(0.003)
    metrics.set_health(True)
    metrics.set_ocsp({"kept": 7, "signed": 2})
    metrics.set_publishers([("va1", 3, 1.5, True, 0)])
    metrics.set_links([("va1", "out", 2)])
    metrics.set_signers([("issuing", 1_900_000_000)])
    metrics.set_crypto_tokens([("default", True), ("hsm", False)])
    return metrics


def lines(metrics: Metrics) -> list[str]:
    return metrics.text().decode().splitlines()


def test_what_was_set_is_shown() -> None:
    shown = lines(filled())
    for expected in (
        'peersys_ca_requests_total{authority="issuing",operation="ra.enroll",outcome="done"} 1.0',
        'peersys_audit_entries_total{decision="denied"} 1.0',
        'peersys_store_commit_seconds_bucket{le="0.005"} 1.0',
        'peersys_ocsp_answers_total{kind="kept"} 7.0',
        'peersys_publisher_lag_seconds{publisher="va1"} 1.5',
        'peersys_links{direction="out",peer="va1"} 2.0',
        'peersys_signer_not_after_seconds{signer="issuing"} 1.9e+09',
        'peersys_crypto_token_usable{crypto_token="hsm"} 0.0',
        "peersys_healthy 1.0",
    ):
        assert expected in shown


def test_every_metric_is_documented_and_the_other_way_round() -> None:
    given = {
        line.split()[2]
        for line in lines(filled())
        if line.startswith("# TYPE") and not line.split()[2].endswith("_created")
    }
    documented = set(re.findall(r"^\| `(peersys_\w+)`", PAGE.read_text(), flags=re.MULTILINE))
    assert given == documented


def test_what_is_gone_is_not_shown_any_more() -> None:
    metrics = filled()
    metrics.set_publishers([])
    metrics.set_links([])
    metrics.set_signers([])
    gone = ("peersys_publisher", "peersys_links", "peersys_signer")
    assert not [line for line in lines(metrics) if line.startswith(gone)]


def test_two_nodes_in_one_process_count_apart() -> None:
    filled()
    assert not [line for line in lines(Metrics()) if line.startswith("peersys_ca_requests_total{")]
