"""The RA REST API over real TLS, before a backend that really issues."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import ssl
import uuid
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from node_agent.clock import SystemClock
from node_agent.config import Address
from node_agent.errors import (
    CallTimeout,
    ConfigError,
    LintFailed,
    NodeAgentError,
    PolicyDenied,
    RemoteError,
    StoreError,
    Unavailable,
)
from node_agent.objects import RequesterSpec
from node_agent.web.listen import bind_tcp
from node_agent.web.registration import RegistrationSettings, registration_app
from node_agent.web.serve import HttpServer
from node_agent.web.tls import TlsHolder, rest_context
from node_agent.wire.codes import Status
from tests.support.clock import ManualClock
from tests.support.event_loop import run
from tests.support.pki import ThrowawayAuthority, certificate_pem, key_pem, name
from tests.unit.web.http_client import Answer, Client
from tests.unit.web.registration_double import MemoryRegistration, token_sha256

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from node_agent.clock import Clock
    from tests.support.pki import PrivateKey

    Identity = tuple[PrivateKey, x509.Certificate]

TOKEN = "alices-token-of-many-random-bits"
ALICE = RequesterSpec(name="alice", token_sha256=token_sha256(TOKEN))
EMPTY_PEM = "-----BEGIN CERTIFICATE REQUEST----------END CERTIFICATE REQUEST-----"
AS_ALICE = {"Authorization": f"Bearer {TOKEN}"}


def csr_pem(common_name: str = "www.example") -> str:
    """Return a fresh PEM CSR."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(name(common_name))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


class Site:
    """The PKI around one REST port: its server certificate and its clients'."""

    def __init__(self) -> None:
        self.authority = ThrowawayAuthority("Servers")
        self.clients = ThrowawayAuthority("Clients")
        self.server_key, self.server = self.authority.authenticator("ra1")

    def context(self, *anchors: x509.Certificate) -> ssl.SSLContext:
        """Return a server context that trusts ``anchors`` for clients."""
        return rest_context(
            private_key=self.server_key,
            chain_pem=certificate_pem(self.server),
            client_trust_anchors_pem=[certificate_pem(item) for item in anchors],
        )

    def client_context(
        self,
        tmp_path: Path | None = None,
        identity: Identity | None = None,
    ) -> ssl.SSLContext:
        """Return a client context, with a client certificate where one is given."""
        context = ssl.create_default_context(cadata=certificate_pem(self.authority.certificate))
        context.check_hostname = False
        if identity is not None and tmp_path is not None:
            file = tmp_path / f"{uuid.uuid4()}.pem"
            file.write_text(key_pem(identity[0]) + certificate_pem(identity[1]))
            context.load_cert_chain(file)
        return context


@contextlib.asynccontextmanager
async def rest(
    backend: MemoryRegistration,
    *,
    settings: RegistrationSettings | None = None,
    site: Site | None = None,
    holder: TlsHolder | None = None,
    client_context: ssl.SSLContext | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[Client]:
    """A REST port over TLS and a client connected to it."""
    site = site or Site()
    holder = holder or TlsHolder(site.context(site.clients.certificate))
    app = registration_app(backend, clock=clock or SystemClock(), settings=settings)
    async with HttpServer(app, bind_tcp(Address("127.0.0.1", 0)), tls=holder) as server:
        port = server.addresses[0][1]
        context = client_context or site.client_context()
        async with await Client.tcp(port, ssl=context, server_hostname="ra1") as client:
            yield client


def exchange(
    method: str,
    target: str,
    body: Any = None,
    *,
    headers: dict[str, str] | None = None,
    backend: MemoryRegistration | None = None,
    settings: RegistrationSettings | None = None,
) -> Answer:
    """One request to a fresh REST port."""

    async def main() -> Answer:
        async with rest(backend or MemoryRegistration(ALICE), settings=settings) as client:
            given = AS_ALICE if headers is None else headers
            return await client.request(method, target, body, headers=given)

    return run(main())


def order(**changes: Any) -> dict[str, Any]:
    """Return an enrolment body."""
    return {"authority": "issuing", "profile": "server", "csr": csr_pem()} | changes


def test_enrolment_returns_the_certificate_and_where_to_find_it() -> None:
    backend = MemoryRegistration(ALICE)
    answer = exchange("POST", "/v1/certificates", order(), backend=backend)
    assert answer.status == 201
    certificate = x509.load_pem_x509_certificate(answer.json["certificate"].encode())
    chain = x509.load_pem_x509_certificates(answer.json["chain"].encode())
    assert chain == [backend.issuing.certificate]
    certificate.verify_directly_issued_by(chain[0])
    assert answer.json["serial"] == f"{certificate.serial_number:x}"
    assert answer.json["not_after"] == certificate.not_valid_after_utc.timestamp()
    assert answer.headers["location"] == f"/v1/certificates/issuing/{answer.json['serial']}"
    assert uuid.UUID(answer.json["request_id"]).bytes in backend.issued
    assert backend.calls == [("enroll", "alice")]


def test_repeated_request_id_returns_the_same_certificate_with_200() -> None:
    body = order()
    key = {"Idempotency-Key": f'"{uuid.uuid4()}"'}

    async def main() -> None:
        async with rest(MemoryRegistration(ALICE)) as client:
            first = await client.request("POST", "/v1/certificates", body, headers=AS_ALICE | key)
            again = await client.request("POST", "/v1/certificates", body, headers=AS_ALICE | key)
            other = await client.request(
                "POST", "/v1/certificates", order(), headers=AS_ALICE | key
            )
            assert (first.status, again.status, other.status) == (201, 200, 409)
            assert again.json["repeated"] is True
            assert again.json["certificate"] == first.json["certificate"]

    run(main())


def test_csr_may_be_bare_base64_of_der() -> None:
    der = x509.load_pem_x509_csr(csr_pem().encode()).public_bytes(Encoding.DER)
    body = order(csr=base64.b64encode(der).decode())
    assert exchange("POST", "/v1/certificates", body).status == 201


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (order(csr="nothing at all"), 422, "csr"),
        (order(csr="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"), 422, "csr"),
        (order(csr=""), 400, "csr"),
        (
            order(csr=EMPTY_PEM),
            422,
            "csr",
        ),
        (order(authority=""), 400, "authority"),
        (order(csr="AAAA"), 422, "csr"),
        (order(request_id="no uuid"), 400, "request_id"),
        (order(validity_seconds=0), 400, "validity_seconds"),
        (order(validity_seconds=10**30), 400, "validity_seconds"),
        ({"authority": "issuing"}, 400, ""),
        (order(subject="CN=forged"), 400, ""),
        (b"", 400, ""),
        (b'{"authority":"\xff"}', 400, ""),
    ],
)
def test_bad_enrolment_names_the_field_at_fault(body: Any, status: int, field: str) -> None:
    answer = exchange("POST", "/v1/certificates", body)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json.get("field", "") == field


@pytest.mark.parametrize("at", ["-1", "253402300800", "9" * 18, "9" * 30, "9" * 6000])
def test_a_time_that_is_none_names_the_field_at_fault(at: str) -> None:
    backend = MemoryRegistration(ALICE)
    body = f'{{"invalidity_at": {at}}}'.encode()
    target = "/v1/certificates/issuing/0a/revocation"
    revoked = exchange("POST", target, body, backend=backend)
    assert (revoked.status, revoked.json["field"]) == (400, "invalidity_at")
    target = f"/v1/certificates?authority=issuing&expires_before={at}"
    found = exchange("GET", target, backend=backend)
    assert (found.status, found.json["field"]) == (400, "expires_before")
    assert backend.calls == []


def test_header_and_body_must_name_the_same_request() -> None:
    headers = AS_ALICE | {"Idempotency-Key": str(uuid.uuid4())}
    body = order(request_id=str(uuid.uuid4()))
    answer = exchange("POST", "/v1/certificates", body, headers=headers)
    assert answer.status == 400
    headers = AS_ALICE | {"Idempotency-Key": "not-a-uuid"}
    assert exchange("POST", "/v1/certificates", order(), headers=headers).status == 400


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic YTpi"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer " + "x" * 600},
    ],
)
def test_every_failed_authentication_gets_the_same_answer(headers: dict[str, str]) -> None:
    backend = MemoryRegistration(ALICE)
    answer = exchange("GET", "/v1/catalogue", headers=headers, backend=backend)
    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.json["detail"] == "no requester of this RA has that credential"
    assert backend.calls == []


def test_unknown_authority_and_forbidden_one_look_the_same() -> None:
    unknown = exchange("POST", "/v1/certificates", order(authority="none"))
    backend = MemoryRegistration(ALICE)
    backend.fault = RemoteError("denied by rule 7 of ca1", status=Status.DENIED)
    forbidden = exchange("POST", "/v1/certificates", order(), backend=backend)
    assert unknown.status == 403
    assert unknown.json == forbidden.json
    assert "rule" not in str(unknown.json)


@pytest.mark.parametrize(
    ("fault", "status", "told"),
    [
        (Unavailable("no link to ca1.internal", retry_after_seconds=9), 503, ""),
        (CallTimeout("ca1.internal"), 504, ""),
        (StoreError("disk of ra1 is full"), 503, ""),
        (PolicyDenied("inner reason"), 403, "you may not do this here, or it does not exist"),
        (LintFailed(["e_too_long"]), 422, "e_too_long"),
        (
            RemoteError("weak key", status=Status.INVALID, problem="bad-csr"),
            422,
            "weak key",
        ),
        (RemoteError("trace of ca1", status=Status.INTERNAL), 502, ""),
        (NodeAgentError("secret"), 500, ""),
        (ValueError("secret"), 500, ""),
    ],
)
def test_errors_tell_a_requester_only_what_was_written_for_it(
    fault: Exception, status: int, told: str
) -> None:
    backend = MemoryRegistration(ALICE)
    backend.fault = fault
    answer = exchange("POST", "/v1/certificates", order(), backend=backend)
    assert answer.status == status
    assert answer.json.get("detail", "") == told
    if status == 503:
        assert int(answer.headers["retry-after"]) >= 1


def test_missing_certificate_is_404_without_inner_names() -> None:
    answer = exchange("GET", "/v1/certificates/issuing/0a")
    assert answer.status == 404
    assert b"ca1" not in answer.body


def test_other_operations_reach_the_backend() -> None:
    async def main() -> None:
        backend = MemoryRegistration(ALICE)
        async with rest(backend) as client:
            target = "/v1/certificates/issuing/0a/revocation"
            answer = await client.request(
                "POST", target, {"reason": "superseded"}, headers=AS_ALICE
            )
            assert answer.json["reason"] == "superseded"
            page = await client.request(
                "GET", "/v1/certificates?authority=issuing&after=x", headers=AS_ALICE
            )
            assert page.json == {"certificates": [], "next": "x"}
            everywhere = await client.request("GET", "/v1/certificates", headers=AS_ALICE)
            assert (everywhere.status, everywhere.json["field"]) == (400, "authority")
            catalogue = await client.request("GET", "/v1/catalogue", headers=AS_ALICE)
            assert catalogue.json["authorities"][0]["profiles"] == ["server"]
        assert [verb for verb, _ in backend.calls] == ["revoke", "search", "catalogue"]

    run(main())


def test_requester_over_its_rate_waits_while_others_go_on() -> None:
    bob = RequesterSpec(name="bob", token_sha256=token_sha256("bobs-token"))
    alice = msgspec.structs.replace(ALICE, requests_per_second=1, burst_requests=2)
    clock = ManualClock()

    async def main() -> None:
        async with rest(MemoryRegistration(alice, bob), clock=clock) as client:
            statuses = [
                (await client.request("GET", "/v1/catalogue", headers=AS_ALICE)).status
                for _ in range(2)
            ]
            limited = await client.request("GET", "/v1/catalogue", headers=AS_ALICE)
            assert statuses == [200, 200]
            assert limited.status == 429
            assert limited.headers["retry-after"] == "1"
            headers = {"Authorization": "Bearer bobs-token"}
            assert (await client.request("GET", "/v1/catalogue", headers=headers)).status == 200
            clock.advance(1)
            again = await client.request("GET", "/v1/catalogue", headers=AS_ALICE)
            assert again.status == 200

    run(main())


def test_large_body_is_refused_by_length_and_by_count() -> None:
    big = order(csr="A" * 70_000)
    assert exchange("POST", "/v1/certificates", big).status == 413

    async def main() -> Answer:
        async with rest(MemoryRegistration(ALICE)) as client:
            head = f"POST /v1/certificates HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\n"
            await client.send(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
            with contextlib.suppress(ConnectionError):
                for _ in range(20):
                    await client.send(b"1000\r\n" + b"a" * 0x1000 + b"\r\n")
            return await client.receive()

    assert run(main()).status == 413


def test_body_is_not_waited_for_when_the_requester_is_unknown() -> None:
    async def main() -> Answer:
        async with rest(MemoryRegistration(ALICE)) as client:
            await client.send(b"POST /v1/certificates HTTP/1.1\r\nHost: a\r\n")
            await client.send(b"Content-Length: 60000\r\n\r\n")
            return await client.receive()

    assert run(main()).status == 401


def test_client_certificate_authenticates_by_its_fingerprint(tmp_path: Path) -> None:
    site = Site()
    identity = site.clients.authenticator("machine")
    sha256 = hashlib.sha256(identity[1].public_bytes(Encoding.DER)).hexdigest()
    machine = RequesterSpec(name="machine", certificate_sha256=sha256.upper())
    stranger = site.clients.authenticator("stranger")

    async def status(known: Identity) -> int:
        context = site.client_context(tmp_path, known)
        async with rest(MemoryRegistration(machine), site=site, client_context=context) as client:
            return (await client.request("GET", "/v1/catalogue")).status

    assert run(status(identity)) == 200
    assert run(status(stranger)) == 401


def test_invalid_token_is_not_rescued_by_a_client_certificate(tmp_path: Path) -> None:
    site = Site()
    identity = site.clients.authenticator("machine")
    sha256 = hashlib.sha256(identity[1].public_bytes(Encoding.DER)).hexdigest()
    machine = RequesterSpec(name="machine", certificate_sha256=sha256)

    async def main() -> int:
        context = site.client_context(tmp_path, identity)
        async with rest(MemoryRegistration(machine), site=site, client_context=context) as client:
            headers = {"Authorization": "Bearer wrong"}
            return (await client.request("GET", "/v1/catalogue", headers=headers)).status

    assert run(main()) == 401


def test_untrusted_client_certificate_ends_the_handshake(tmp_path: Path) -> None:
    site = Site()
    context = site.client_context(tmp_path, ThrowawayAuthority("Others").authenticator("x"))

    async def main() -> None:
        # In TLS 1.3 the client learns of it with its first read.
        async with rest(MemoryRegistration(ALICE), site=site, client_context=context) as client:
            await client.request("GET", "/v1/catalogue", headers=AS_ALICE)

    with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
        run(main())


def test_replaced_tls_identity_and_trust_serve_the_next_handshake(tmp_path: Path) -> None:
    site = Site()
    others = ThrowawayAuthority("Others")
    identity = others.authenticator("machine")
    sha256 = hashlib.sha256(identity[1].public_bytes(Encoding.DER)).hexdigest()
    backend = MemoryRegistration(ALICE, RequesterSpec(name="machine", certificate_sha256=sha256))
    holder = TlsHolder(site.context(site.clients.certificate))

    async def main() -> None:
        async with rest(backend, site=site, holder=holder) as old:
            assert (await old.request("GET", "/v1/catalogue", headers=AS_ALICE)).status == 200
            first = old.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            site.server_key, site.server = site.authority.authenticator("ra1")
            holder.replace(site.context(others.certificate))
            port = old.writer.get_extra_info("peername")[1]
            context = site.client_context(tmp_path, identity)
            async with await Client.tcp(port, ssl=context, server_hostname="ra1") as new:
                second = new.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
                assert second != first
                assert second == site.server.public_bytes(Encoding.DER)
                assert (await new.request("GET", "/v1/catalogue")).status == 200
            assert (await old.request("GET", "/v1/catalogue", headers=AS_ALICE)).status == 200

    run(main())


def test_holder_refuses_a_context_that_would_not_ask_for_certificates() -> None:
    site = Site()
    holder = TlsHolder(site.context())
    weaker = site.context()
    weaker.verify_mode = ssl.CERT_NONE
    with pytest.raises(ValueError, match="verify mode"):
        holder.replace(weaker)


def test_key_that_does_not_fit_the_chain_is_a_config_error() -> None:
    site = Site()
    with pytest.raises(ConfigError, match="not usable for TLS"):
        rest_context(
            private_key=ec.generate_private_key(ec.SECP256R1()),
            chain_pem=certificate_pem(site.server),
        )
