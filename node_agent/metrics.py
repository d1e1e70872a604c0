"""What a node counts and measures, in the form that Prometheus reads.

Names and labels are an interface: ``docs/reference/metrics.md`` lists them. A label never holds
what a stranger chose, or the number of series would be theirs to choose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["MEDIA_TYPE", "Metrics"]

MEDIA_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)


class Metrics:
    """One node's metrics. Counters are counted where things happen; gauges are set when asked."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "peersys_ca_requests",
            "Requests that the node's CAs answered, by operation, CA and outcome.",
            ("operation", "authority", "outcome"),
            registry=registry,
        )
        self.audit = Counter(
            "peersys_audit_entries", "Decisions in the audit log.", ("decision",), registry=registry
        )
        self.commits = Histogram(
            "peersys_store_commit_seconds",
            "Time of a write transaction with its flush to disk.",
            buckets=_BUCKETS,
            registry=registry,
        )
        self._ocsp = self._gauge("peersys_ocsp_answers_total", "OCSP answers by kind.", "kind")
        self._lag_entries = self._gauge(
            "peersys_publisher_lag_entries", "Entries that a peer lacks, at most.", "publisher"
        )
        self._lag_seconds = self._gauge(
            "peersys_publisher_lag_seconds", "Age of the oldest of them.", "publisher"
        )
        self._publisher_up = self._gauge(
            "peersys_publisher_up", "1 while the peer is followed.", "publisher"
        )
        self._differences = self._gauge(
            "peersys_publisher_differences",
            "Certificates and CRLs that the last comparison found different and left so.",
            "publisher",
        )
        self._links = self._gauge(
            "peersys_links", "Live links by peer, and who dialled them.", "peer", "direction"
        )
        self._peer_crls = self._gauge(
            "peersys_peer_crl_next_update_seconds",
            "Until when the CRLs are current by which peers are checked.",
            "object",
        )
        self._signers = self._gauge(
            "peersys_signer_not_after_seconds", "End of a signer's certificate.", "signer"
        )
        self._crls = self._gauge(
            "peersys_crl_next_update_seconds", "End of a CA's newest full CRL.", "authority"
        )
        self._tokens = self._gauge(
            "peersys_crypto_token_usable", "1 while a crypto token can be used.", "crypto_token"
        )
        self._worker_up = self._gauge(
            "peersys_status_worker_up", "1 while a status worker answers.", "worker"
        )
        self._worker_restarts = self._gauge(
            "peersys_status_worker_restarts_total", "How often it was started again.", "worker"
        )
        self._worker_cache = self._gauge(
            "peersys_status_worker_cache_bytes", "Memory of the answers that it keeps.", "worker"
        )
        self._worker_memory = self._gauge(
            "peersys_status_worker_memory_bytes", "Resident memory of its process.", "worker"
        )
        self._healthy = Gauge(
            "peersys_healthy", "1 while every part does its work.", registry=registry
        )

    def set_health(self, is_healthy: bool) -> None:
        """Say whether every part does its work."""
        self._healthy.set(int(is_healthy))

    def set_ocsp(self, answers: Mapping[str, int]) -> None:
        """Say how many OCSP answers there were of each kind."""
        for kind, count in answers.items():
            self._ocsp.labels(kind).set(count)

    def set_publishers(self, rows: Iterable[tuple[str, int, float, bool, int]]) -> None:
        """Say of each publisher: name, entries and seconds of lag, up or not, differences."""
        gauges = (self._lag_entries, self._lag_seconds, self._publisher_up, self._differences)
        for gauge in gauges:
            gauge.clear()
        for name, *values in rows:
            for gauge, value in zip(gauges, values, strict=True):
                gauge.labels(name).set(value)

    def set_links(self, rows: Iterable[tuple[str, str, int]]) -> None:
        """Say of each peer: name, who dialled, live links."""
        self._links.clear()
        for peer, direction, count in rows:
            self._links.labels(peer, direction).set(count)

    def set_signers(self, rows: Iterable[tuple[str, int]]) -> None:
        """Say of each signer: name, end of its certificate."""
        self._signers.clear()
        for name, not_after in rows:
            self._signers.labels(name).set(not_after)

    def set_peer_crls(self, rows: Iterable[tuple[str, float]]) -> None:
        """Say of each authenticator and peer issuer: ``kind.name``, end of its CRLs."""
        self._peer_crls.clear()
        for what, end in rows:
            self._peer_crls.labels(what).set(end)

    def set_crls(self, rows: Iterable[tuple[str, int]]) -> None:
        """Say of each CA with a CRL: name, end of the newest."""
        self._crls.clear()
        for name, next_update in rows:
            self._crls.labels(name).set(next_update)

    def set_crypto_tokens(self, rows: Iterable[tuple[str, bool]]) -> None:
        """Say of each crypto token: name, usable or not."""
        self._tokens.clear()
        for name, is_usable in rows:
            self._tokens.labels(name).set(is_usable)

    def set_status_workers(self, rows: Iterable[tuple[str, bool, int, int, int]]) -> None:
        """Say of each status worker: number, up or not, restarts, octets of answers and of all."""
        gauges = (self._worker_up, self._worker_restarts, self._worker_cache, self._worker_memory)
        for number, *values in rows:
            for gauge, value in zip(gauges, values, strict=True):
                gauge.labels(number).set(value)

    def text(self) -> bytes:
        """Return everything in the text format."""
        return generate_latest(self._registry)

    def observer(self) -> Callable[[float], None]:
        """Return what is told how long each commit took."""
        return self.commits.observe

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self._registry)
