"""The smaller commands: peers, access, authorities, certificates, audit, tokens, start-up file."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from node_agent.cli.authorities import pem_body
from node_agent.cli.certificates import serial_hex
from node_agent.cli.failures import UsageError
from tests.support.admin_documents import audit_entries

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.admin_stand_in import AdminStandIn
    from tests.unit.cli.conftest import CommandLine

ROLE = {
    "spec": {
        "name": "ra",
        "members": ["spiffe://pki.test/node/ra1"],
        "rules": [
            {"resource": "/ra/enroll", "effect": "allow"},
            {"resource": "/ca/root", "effect": "deny"},
        ],
    }
}

VIEW = {
    "spec": {
        "name": "issuing",
        "kind": "issuing",
        "subject": "CN=Issuing",
        "profiles": ["tls"],
    },
    "state": {"certificate": "-----BEGIN CERTIFICATE-----\nAA==", "not_after": 4_000_000_000},
}

CRL = "-----BEGIN X509 CRL-----\naGVs\nbG8=\n-----END X509 CRL-----\n"

INFO = {
    "authority": "issuing",
    "serial": "3f2a",
    "subject": "CN=www.example.org",
    "names": ["www.example.org"],
    "profile": "tls-server",
    "requester": "demo",
    "not_before": 1,
    "not_after": 4_000_000_000,
    "status": "revoked",
    "revoked_at": 2,
    "reason": "superseded",
    "certificate": None,
}


def audit_pages(count: int) -> Callable[[str, Any], tuple[int, Any]]:
    entries = audit_entries(count)

    def answer(path: str, _: Any) -> tuple[int, Any]:
        query = dict(part.split("=") for part in path.partition("?")[2].split("&"))
        behind = [entry for entry in entries if entry["sequence"] > int(query["after"])]
        if "denied" in query:
            behind = [entry for entry in behind if not entry["allowed"]]
        limit = int(query["limit"])
        return 200, behind[-limit:] if "last" in query else behind[:limit]

    return answer


class TestPeers:
    def test_ping_prints_a_time_per_link(self, peersys: CommandLine, agent: AdminStandIn) -> None:
        agent.answer("POST", "/v1/peers/ra1/ping", {"round_trip_ms": [0.5, 12.25]})
        run = peersys("peer", "ping", "spiffe://pki.test/node/ra1")
        assert run.out == "ra1: link 1 of 2: 0.50 ms\nra1: link 2 of 2: 12.25 ms\n"
        assert run.status == 0

    def test_ping_of_a_peer_that_is_down_is_a_failed_check(
        self, peersys: CommandLine, agent: AdminStandIn
    ) -> None:
        agent.answer("POST", "/v1/peers/ra1/ping", {"detail": "no live link"}, status=503)
        run = peersys("peer", "ping", "ra1")
        assert (run.status, run.out) == (1, "ra1: down: no live link\n")

    def test_ping_of_an_unknown_peer_is_a_wrong_name(
        self, peersys: CommandLine, agent: AdminStandIn
    ) -> None:
        assert peersys("peer", "ping", "nobody").status == 2

    def test_node_without_peers_says_so(self, peersys: CommandLine, agent: AdminStandIn) -> None:
        agent.answer("GET", "/v1/peers", [])
        assert "No peers" in peersys("peer", "list").out


class TestAccess:
    def test_roles_are_listed_with_members_and_denials(
        self, peersys: CommandLine, agent: AdminStandIn
    ) -> None:
        agent.answer("GET", "/v1/objects/peer_roles", [ROLE])
        out = peersys("role", "list").out
        assert "ra1" in out
        assert "NOT /ca/root" in out

    def test_one_role_is_shown_rule_by_rule(
        self, peersys: CommandLine, agent: AdminStandIn
    ) -> None:
        bounds = {"max_issued_certificates": 9, "max_valid_certificates": 5}
        role = {**ROLE["spec"], **bounds, "names": ["dns:example.org"]}
        agent.answer("GET", "/v1/objects/peer_roles/ra", {"spec": role})
        shown = peersys("role", "show", "ra").out.splitlines()
        assert "9 issued in 24 h, 5 valid at one time" in shown[3]
        assert [line.split() for line in (*shown[:3], *shown[4:])] == [
            ["role", "ra"],
            ["tenant", "ra"],
            ["sees", "certificates", "of", "its", "tenant"],
            ["member", "spiffe://pki.test/node/ra1"],
            ["may", "ask", "for", "dns:example.org"],
            ["allow", "/ra/enroll"],
            ["deny", "/ca/root"],
        ]

    def test_requesters_are_listed_without_what_they_prove_themselves_by(
        self, peersys: CommandLine, agent: AdminStandIn
    ) -> None:
        spec = {"name": "demo", "token_sha256": "ab" * 32, "rules": []}
        agent.answer("GET", "/v1/objects/requesters", [{"spec": spec}])
        out = peersys("requester", "list").out
        assert "API token" in out
        assert "abab" not in out

    @pytest.mark.parametrize(("allowed", "status"), [(True, 0), (False, 1)])
    def test_explain_gives_the_verdict_as_exit_status_and_the_rule_behind_it(
        self, peersys: CommandLine, agent: AdminStandIn, allowed: bool, status: int
    ) -> None:
        own = "spiffe://pki.test/node/ca1"
        step = {
            "link": "via 1",
            "identity": "spiffe://pki.test/node/ra1",
            "resource": "/ca/issuing",
            "allowed": allowed,
            "rule": "role ra: allow /ca/issuing",
            "reason": "because",
        }
        answer = {
            "allowed": allowed,
            "reason": "because",
            "rule": "",
            "resources": ["/ca/issuing"],
            "decided_by": None if allowed else step,
            "trace": [step],
        }
        agent.answer("GET", "/v1/health", {"status": "ok", "node": own})
        agent.answer("POST", "/v1/access/explain", answer)
        run = peersys("role", "explain", "ra1", "ra.enroll", "--authority", "issuing")
        assert run.status == status
        assert "role ra: allow /ca/issuing" in run.out
        assert ("via 1, spiffe://pki.test/node/ra1" in run.out) == (not allowed)
        assert agent.requests[-1][2]["identity"] == "spiffe://pki.test/node/ra1"
        words = ("--name", "www.example.org", "--name", "email:a@example.org")
        run = peersys("--json", "role", "explain", "requester:alice", "ra.enroll", *words)
        assert json.loads(run.out) == answer
        asked = agent.requests[-1][2]
        assert asked["identity"] == "alice"
        assert asked["names"] == ["dns:www.example.org", "email:a@example.org"]


class TestAuthorities:
    def test_list_and_show_name_subject_and_end(
        self, peersys: CommandLine, agent: AdminStandIn
    ) -> None:
        agent.answer("GET", "/v1/objects/certification_authorities", [VIEW])
        agent.answer("GET", "/v1/objects/certification_authorities/issuing", VIEW)
        for words in (["list"], ["show", "issuing"]):
            out = peersys("ca", *words).out
            assert "CN=Issuing" in out
            assert "2096-10-02" in out

    def test_certificate_and_chain_are_exported_as_pem(
        self, peersys: CommandLine, agent: AdminStandIn, tmp_path: Path
    ) -> None:
        view = {"spec": VIEW["spec"], "state": {"certificate": "LEAF\n", "chain": "LEAF\nTOP\n"}}
        agent.answer("GET", "/v1/objects/certification_authorities/issuing", view)
        file = tmp_path / "chain.pem"
        assert peersys("ca", "certificate", "issuing").out == "LEAF\n"
        peersys("ca", "certificate", "issuing", "--chain", "--output", file)
        assert file.read_text() == "LEAF\nTOP\n"

    def test_crl_is_printed_as_pem(self, peersys: CommandLine, agent: AdminStandIn) -> None:
        agent.answer("GET", "/v1/crls/issuing", {"crl": CRL})
        assert peersys("ca", "crl", "issuing").out == CRL

    def test_crl_is_written_as_der(
        self, peersys: CommandLine, agent: AdminStandIn, tmp_path: Path
    ) -> None:
        agent.answer("GET", "/v1/crls/issuing", {"crl": CRL})
        file = tmp_path / "issuing.crl"
        run = peersys("ca", "crl", "issuing", "--delta", "--der", "--output", file)
        assert run.status == 0
        assert file.read_bytes() == pem_body(CRL) == b"hello"
        assert agent.requests == [("GET", "/v1/crls/issuing?delta=true", None)]

    def test_der_is_kept_off_the_terminal(self, peersys: CommandLine, agent: AdminStandIn) -> None:
        agent.answer("GET", "/v1/crls/issuing", {"crl": CRL})
        run = peersys("ca", "crl", "issuing", "--der")
        assert (run.status, run.out) == (2, "")


class TestCertificates:
    def test_search_passes_its_filters(self, peersys: CommandLine, agent: AdminStandIn) -> None:
        agent.answer("GET", "/v1/certificates", [INFO])
        out = peersys("certificate", "list", "--authority", "issuing", "--status", "revoked").out
        assert "CN=www.example.org" in out
        assert agent.requests[0][1] == (
            "/v1/certificates?authority=issuing&status=revoked&limit=50"
        )

    def test_show_has_status_and_reason(self, peersys: CommandLine, agent: AdminStandIn) -> None:
        agent.answer("GET", "/v1/certificates/issuing/3f2a", INFO)
        out = peersys("certificate", "show", "issuing", "3F:2A").out
        assert "revoked" in out
        assert "superseded" in out

    @pytest.mark.parametrize(("changed", "word"), [(True, "now"), (False, "already")])
    def test_revocation_tells_news_from_a_repeat(
        self, peersys: CommandLine, agent: AdminStandIn, changed: bool, word: str
    ) -> None:
        answer = {"changed": changed, "status": "revoked"}
        agent.answer("POST", "/v1/certificates/issuing/3f2a/revocation", answer)
        run = peersys("certificate", "revoke", "issuing", "0x3F2A", "--reason", "keyCompromise")
        assert run.out == f"Certificate 3f2a is {word} revoked.\n"
        assert agent.requests[0][2] == {"reason": "keyCompromise"}

    @pytest.mark.parametrize("text", ["", "0", "xyz", "1" * 41, "3f/2a"])
    def test_what_is_no_serial_number_is_refused(self, text: str) -> None:
        with pytest.raises(UsageError, match="not a serial number"):
            serial_hex(text)


class TestAudit:
    def test_list_asks_for_the_newest_only(self, peersys: CommandLine, agent: AdminStandIn) -> None:
        asked: list[str] = []
        pages = audit_pages(10_003)

        def answer(path: str, body: Any) -> tuple[int, Any]:
            asked.append(path)
            return pages(path, body)

        agent.answers["GET", "/v1/audit"] = answer
        run = peersys("audit", "list", "--limit", "2", "--peer", "ra1", "--json")
        assert [entry["sequence"] for entry in json.loads(run.out)] == [10_002, 10_003]
        (path,) = asked
        assert "limit=2" in path
        assert "peer=ra1" in path

    def test_denied_filters(self, peersys: CommandLine, agent: AdminStandIn) -> None:
        agent.answers["GET", "/v1/audit"] = audit_pages(7)
        out = peersys("audit", "list", "--denied").out
        assert "no rule grants /ca/issuing" in out
        assert "granted" not in out

    def test_whole_chain_verifies(self, peersys: CommandLine, agent: AdminStandIn) -> None:
        answer = {"ok": True, "entries": 9, "first_bad": None, "reason": ""}
        agent.answer("POST", "/v1/audit/verify", answer)
        run = peersys("audit", "verify")
        assert run.status == 0
        assert "9 entries" in run.out
        assert "No signed checkpoint" in run.out
        agent.answer("POST", "/v1/audit/verify", {**answer, "checkpoints": 3, "checkpoint": 7})
        assert "agree up to entry 7" in peersys("audit", "verify").out

    def test_broken_chain_is_a_failed_check(
        self, peersys: CommandLine, agent: AdminStandIn
    ) -> None:
        answer = {"ok": False, "entries": 9, "first_bad": 4, "reason": "hash differs"}
        agent.answer("POST", "/v1/audit/verify", answer)
        run = peersys("audit", "verify")
        assert run.status == 1
        assert "BROKEN at entry 4: hash differs" in run.out

    def test_export_writes_every_entry_as_a_line(
        self, peersys: CommandLine, agent: AdminStandIn, tmp_path: Path
    ) -> None:
        agent.answers["GET", "/v1/audit"] = audit_pages(5_700)
        file = tmp_path / "audit.jsonl"
        run = peersys("audit", "export", "--output", file)
        assert run.out == f"5700 entries written to {file}\n"
        assert [json.loads(line) for line in file.read_text().splitlines()] == audit_entries(5_700)

    def test_export_without_a_file_goes_to_standard_output(
        self, peersys: CommandLine, agent: AdminStandIn
    ) -> None:
        agent.answers["GET", "/v1/audit"] = audit_pages(3)
        out = peersys("audit", "export", "--after", "1").out
        assert [json.loads(line)["sequence"] for line in out.splitlines()] == [2, 3]

    def test_export_asks_for_a_span_in_each_page(
        self, peersys: CommandLine, agent: AdminStandIn
    ) -> None:
        agent.answers["GET", "/v1/audit"] = audit_pages(5_001)
        span = ("--since", "2026-11-23T20:00:00Z", "--until", "2026-11-23T21:00:00Z")
        assert peersys("audit", "export", *span).status == 0
        asked = [path.partition("limit=5000")[2] for _, path, _ in agent.requests]
        assert asked == ["&since=1795464000.0&until=1795467600.0"] * 3
        assert peersys("audit", "export", "--until", "tomorrow").status == 2


class TestTokens:
    def test_hash_belongs_to_the_token_and_tokens_differ(self, peersys: CommandLine) -> None:
        first, second = (json.loads(peersys("token", "new", "--json").out) for _ in range(2))
        assert hashlib.sha256(first["token"].encode()).hexdigest() == first["token_sha256"]
        assert first["token"] != second["token"]
        assert len(first["token"]) >= 43

    def test_token_file_is_its_owners_alone_and_the_token_is_not_printed(
        self, peersys: CommandLine, tmp_path: Path
    ) -> None:
        file = tmp_path / "web.token"
        run = peersys("token", "new", "--output", file)
        assert file.stat().st_mode & 0o777 == 0o600
        token = file.read_text().strip()
        assert token not in run.out
        assert hashlib.sha256(token.encode()).hexdigest() in run.out

    def test_token_file_is_never_written_over(self, peersys: CommandLine, tmp_path: Path) -> None:
        file = tmp_path / "web.token"
        file.write_text("old")
        assert peersys("token", "new", "--output", file).status == 2
        assert file.read_text() == "old"


class TestStartUpFile:
    def write(self, directory: Path, **extra: str) -> Path:
        file = directory / "node.yaml"
        keys = {
            "name": "ca1",
            "trust_domain": "pki.test",
            "state_directory": str(directory),
            "runtime_directory": str(directory),
            **extra,
        }
        file.write_text("".join(f"{key}: {value}\n" for key, value in keys.items()))
        return file

    def test_good_file_is_called_good(self, peersys: CommandLine, tmp_path: Path) -> None:
        secret = tmp_path / "passphrase"
        secret.write_text("x")
        secret.chmod(0o600)
        file = self.write(tmp_path, passphrase_file=str(secret))
        run = peersys("check-config", "--config", file)
        assert run.status == 0
        assert "spiffe://pki.test/node/ca1" in run.out

    def test_error_names_file_and_key(self, peersys: CommandLine, tmp_path: Path) -> None:
        file = self.write(tmp_path, workers="0")
        run = peersys("check-config", "--config", file)
        assert run.status == 2
        assert f"{file}: workers: must be from 1 to 64" in run.err

    @pytest.mark.parametrize(
        ("lines", "complaint"),
        [
            ({"store_trust_anchors": "/x.pem"}, "is only for a PostgreSQL store"),
            (
                {
                    "store_url": "postgresql://db.example.org/x?sslmode=require",
                    "store_trust_anchors": "/x.pem",
                },
                "says already how to verify",
            ),
            (
                {"store_password_file": "/x", "store_password_credential": "y"},
                "store_password_file and store_password_credential exclude each other",
            ),
            ({"shared_passphrase_credential": "y"}, "the service manager passed none"),
            ({"shared_passphrase_file": "/nowhere/x"}, "shared_passphrase_file: /nowhere/x"),
        ],
    )
    def test_what_a_shared_store_needs_is_checked(
        self, peersys: CommandLine, tmp_path: Path, lines: dict[str, str], complaint: str
    ) -> None:
        run = peersys("check-config", "--config", self.write(tmp_path, **lines))
        assert run.status == 2
        assert complaint in run.err

    @pytest.mark.parametrize(
        ("mode", "content", "complaint"),
        [
            (0o644, "x", "can be read by others"),
            (0o600, "", "is empty"),
            (None, "", "can't be read"),
        ],
    )
    def test_passphrase_file_that_cannot_serve_is_refused(
        self, peersys: CommandLine, tmp_path: Path, mode: int | None, content: str, complaint: str
    ) -> None:
        secret = tmp_path / "passphrase"
        if mode is not None:
            secret.write_text(content)
            secret.chmod(mode)
        file = self.write(tmp_path, passphrase_file=str(secret))
        run = peersys("check-config", "--config", file)
        assert run.status == 2
        assert complaint in run.err
