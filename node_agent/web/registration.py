"""The RA's REST API. ``docs/reference/rest.md`` describes the operations.

The edge authenticates (before it reads a body), limits the rate, decodes and encodes; whether the
requester may do what it asks is decided behind the backend, never here.
"""

from __future__ import annotations

import math
import urllib.parse
import uuid
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from importlib.metadata import version
from typing import TYPE_CHECKING

from cryptography import x509

from node_agent.errors import AwaitsApproval
from node_agent.web.api import ApiAnswer, ApiCall, ApiSettings, Route, json_answer
from node_agent.web.approval_bodies import WaitingRequest
from node_agent.web.approval_routes import approval_routes, waiting_answer
from node_agent.web.bodies import (
    CertificateFilter,
    CertificateInfo,
    RevocationOrder,
    RevocationOutcome,
)
from node_agent.web.credentials import credential_of, unauthenticated
from node_agent.web.openapi import openapi_document
from node_agent.web.parameters import SERIAL_PATTERN, parse_serial
from node_agent.web.pem import decode_csr, pem_certificate, pem_chain
from node_agent.web.problems import Audience, refuse
from node_agent.web.rate_limit import TokenBuckets
from node_agent.web.registration_bodies import (
    Catalogue,
    CertificatePage,
    EnrollCall,
    EnrollOrder,
    EnrollOutcome,
    IssuedCertificate,
    Requester,
)
from node_agent.web.routing import build_app

if TYPE_CHECKING:
    from node_agent.clock import Clock
    from node_agent.web.asgi import AsgiApp, Scope
    from node_agent.web.backends import RegistrationBackend

__all__ = [
    "RegistrationSettings",
    "registration_app",
    "registration_openapi",
    "registration_routes",
]

_ONE_CERTIFICATE = "/v1/certificates/{authority}/{serial}"
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A UUID of the client's choice; a retry with it returns the same certificate.",
    "schema": {"type": "string", "format": "uuid"},
}
_SECURITY = {
    "token": {"type": "http", "scheme": "bearer"},
    "clientCertificate": {"type": "mutualTLS"},
}
_SERIAL = {"serial": SERIAL_PATTERN}


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationSettings:
    """Limits of an RA port. How often each requester may ask says its object.

    A P-256 CSR with a hundred names is about 6 KiB of PEM, one with an ML-DSA-87 key and
    signature about 10 KiB.
    """

    max_body_bytes: int = 64 * 1024


def registration_app(
    backend: RegistrationBackend, *, clock: Clock, settings: RegistrationSettings | None = None
) -> AsgiApp:
    """Return the REST API's ASGI application. Serve it with ``serve.HttpServer`` over TLS."""
    limits = settings or RegistrationSettings()
    api_settings = ApiSettings(
        audience=Audience.PUBLIC,
        max_body_bytes=limits.max_body_bytes,
        admit=partial(_admit, backend, TokenBuckets(clock)),
    )
    return build_app(registration_routes(backend), api_settings)


def registration_openapi(routes: list[Route]) -> bytes:
    """Return the OpenAPI document of ``routes``."""
    return openapi_document(
        routes,
        title="Peersys registration authority",
        description="Enrolment, revocation, status and search of certificates.",
        version=version("peersys"),
        security_schemes=_SECURITY,
    )


def registration_routes(backend: RegistrationBackend) -> list[Route]:
    """Return the route table."""
    api = _RegistrationApi(backend)
    routes = [*_writing_routes(api), *_reading_routes(api), *approval_routes(backend)]
    document = ApiAnswer(registration_openapi(routes))

    async def openapi(call: ApiCall) -> ApiAnswer:
        return document

    routes.append(
        Route(
            method="GET",
            path="/v1/openapi.json",
            name="openapi",
            summary="This API as OpenAPI 3.1",
            handle=openapi,
            answer=None,
            is_open=True,
        )
    )
    return routes


def _writing_routes(api: _RegistrationApi) -> list[Route]:
    return [
        Route(
            method="POST",
            path="/v1/certificates",
            name="enroll",
            summary="Ask for a certificate; 200 instead of 201 when the request id had one "
            "already, 202 while it waits for approval",
            handle=api.enroll,
            body=EnrollOrder,
            answer=IssuedCertificate,
            status=HTTPStatus.CREATED,
            other_statuses=(HTTPStatus.OK,),
            other_answers={HTTPStatus.ACCEPTED: WaitingRequest},
            headers=(_IDEMPOTENCY_KEY,),
        ),
        Route(
            method="POST",
            path=_ONE_CERTIFICATE + "/revocation",
            name="revoke",
            summary="Revoke, hold (certificateHold) or release (removeFromCRL) a certificate",
            handle=api.revoke,
            body=RevocationOrder,
            answer=RevocationOutcome,
            path_patterns=_SERIAL,
        ),
    ]


def _reading_routes(api: _RegistrationApi) -> list[Route]:
    return [
        Route(
            method="GET",
            path=_ONE_CERTIFICATE,
            name="get_certificate",
            summary="One certificate and its status",
            handle=api.status,
            answer=CertificateInfo,
            path_patterns=_SERIAL,
        ),
        Route(
            method="GET",
            path="/v1/certificates",
            name="search",
            summary="Certificates of one CA, newest first, in pages",
            handle=api.search,
            query=CertificateFilter,
            required_query=("authority",),
            answer=CertificatePage,
        ),
        Route(
            method="GET",
            path="/v1/catalogue",
            name="catalogue",
            summary="The CAs and profiles that the requester may use",
            handle=api.catalogue,
            answer=Catalogue,
        ),
    ]


def _admit(backend: RegistrationBackend, buckets: TokenBuckets, scope: Scope) -> Requester:
    """Return who asks. Raises ProblemRaised: 401, or 429 for one who asks too often."""
    requester = backend.authenticate(credential_of(scope))
    if requester is None:
        raise unauthenticated()
    wait_seconds = buckets.take(requester.name, requester.rate)
    if wait_seconds > 0:
        raise refuse(
            HTTPStatus.TOO_MANY_REQUESTS,
            "too-many-requests",
            "this requester asks more often than this RA allows",
            headers={"Retry-After": str(math.ceil(wait_seconds))},
        )
    return requester


@dataclass(frozen=True, slots=True)
class _RegistrationApi:
    """The handlers: decode, call the backend, encode. One per operation."""

    backend: RegistrationBackend

    async def enroll(self, call: ApiCall) -> ApiAnswer:
        order = call.body(EnrollOrder)
        request_id = _request_id(order, call.header(b"idempotency-key"))
        enrollment = EnrollCall(
            authority=order.authority,
            profile=order.profile,
            csr=decode_csr(order.csr),
            request_id=request_id.bytes,
            validity_seconds=order.validity_seconds,
        )
        try:
            outcome = await self.backend.enroll(call.principal, enrollment)
        except AwaitsApproval as waits:
            return waiting_answer(order, request_id, waits)
        issued = _issued(order, request_id, outcome)
        place = f"/v1/certificates/{urllib.parse.quote(order.authority, safe='')}/{issued.serial}"
        status = HTTPStatus.OK if outcome.repeated else HTTPStatus.CREATED
        return json_answer(issued, status=status, headers={"Location": place})

    async def revoke(self, call: ApiCall) -> ApiAnswer:
        authority, serial = call.path["authority"], parse_serial(call.path["serial"])
        order = call.body(RevocationOrder)
        return json_answer(await self.backend.revoke(call.principal, authority, serial, order))

    async def status(self, call: ApiCall) -> ApiAnswer:
        authority, serial = call.path["authority"], parse_serial(call.path["serial"])
        return json_answer(await self.backend.status(call.principal, authority, serial))

    async def search(self, call: ApiCall) -> ApiAnswer:
        query = call.query(CertificateFilter)
        if query.authority is None:
            raise refuse(
                HTTPStatus.BAD_REQUEST,
                "bad-query",
                "a search is within one CA",
                field_name="authority",
                remedy="add authority=<name>; GET /v1/catalogue lists the names",
            )
        return json_answer(await self.backend.search(call.principal, query))

    async def catalogue(self, call: ApiCall) -> ApiAnswer:
        return json_answer(await self.backend.catalogue(call.principal))


def _request_id(order: EnrollOrder, header: str | None) -> uuid.UUID:
    """Return the request id: from the header or the body, which must agree, or a fresh one."""
    given = order.request_id
    if header is None:
        return given or uuid.uuid4()
    try:
        # The header's standard draft quotes the value; most clients don't.
        key = uuid.UUID(header.strip().strip('"'))
    except ValueError as error:
        raise _bad_key("the Idempotency-Key is not a UUID") from error
    if given is not None and given != key:
        raise _bad_key("the Idempotency-Key is not the body's request_id")
    return key


def _bad_key(detail: str) -> Exception:
    remedy = "send one UUID per wanted certificate, the same one on every retry"
    return refuse(
        HTTPStatus.BAD_REQUEST, "bad-request-id", detail, field_name="request_id", remedy=remedy
    )


def _issued(order: EnrollOrder, request_id: uuid.UUID, outcome: EnrollOutcome) -> IssuedCertificate:
    certificate = x509.load_der_x509_certificate(outcome.chain[0])
    return IssuedCertificate(
        certificate=pem_certificate(outcome.chain[0]),
        chain=pem_chain(outcome.chain[1:]),
        serial=f"{certificate.serial_number:x}",
        not_before=int(certificate.not_valid_before_utc.timestamp()),
        not_after=int(certificate.not_valid_after_utc.timestamp()),
        request_id=str(request_id),
        authority=order.authority,
        profile=order.profile,
        repeated=outcome.repeated,
    )
