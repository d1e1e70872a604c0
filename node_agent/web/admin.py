"""The admin API: the only way to manage a node, on a Unix socket of its own host.

Who may connect at all is decided at connection time (``unix_socket.py``); who asked is then known
to every call as ``LocalCaller``. ``docs/reference/admin-api.md`` describes the operations.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import msgspec

from node_agent.metrics import MEDIA_TYPE
from node_agent.objects import KINDS, NodeSpecification, ObjectSpec
from node_agent.web.admin_bodies import (
    AccessExplanation,
    AccessQuestion,
    ApprovalSelection,
    ApprovalView,
    AuditItem,
    AuditSelection,
    AuditVerification,
    CrlView,
    CryptoTokenStatus,
    LocalCaller,
    ManagementCertificate,
    ManagementCertificateOrder,
    NodeDescription,
    NodeHealth,
    ObjectPage,
    ObjectView,
    PeerStatus,
    PingResult,
    PlanResult,
    PublisherVerification,
    RecoveryOrder,
    RecoveryReport,
    StatusReport,
)
from node_agent.web.api import ApiAnswer, ApiCall, ApiSettings, Route, json_answer
from node_agent.web.approval_bodies import APPROVAL_PATTERN
from node_agent.web.bodies import (
    CertificateFilter,
    CertificateInfo,
    RevocationOrder,
    RevocationOutcome,
)
from node_agent.web.openapi import openapi_document
from node_agent.web.parameters import SERIAL_PATTERN, parse_approval, parse_serial
from node_agent.web.problems import Audience, refuse
from node_agent.web.routing import build_app

if TYPE_CHECKING:
    from collections.abc import Callable

    from node_agent.web.asgi import AsgiApp, Scope
    from node_agent.web.backends import ManagementBackend

__all__ = ["CALLER_EXTENSION", "admin_app", "admin_openapi", "admin_routes"]

CALLER_EXTENSION = "peersys.local_caller"
# A whole node specification with 10,000 profiles of about 1 KB is 10 MB.
_MAX_BODY_BYTES = 32 * 1024 * 1024
_OBJECT_PATH = "/v1/objects/{kind}/{name}"


class DryRun(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``dry_run=true``: say what would change, change nothing."""

    dry_run: bool = False


class VerificationOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``repair``: put right what differs. ``recompute``: trust no digest that was made before."""

    repair: bool = False
    recompute: bool = False


class CrlChoice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``delta=true``: the newest delta CRL instead of the full one; ``shard``: that part's."""

    delta: bool = False
    shard: int = 0


def admin_app(backend: ManagementBackend) -> AsgiApp:
    """Return the admin API's ASGI application. Serve it with ``serve.HttpServer`` on the socket."""
    settings = ApiSettings(admit=_caller, audience=Audience.LOCAL, max_body_bytes=_MAX_BODY_BYTES)
    return build_app(admin_routes(backend), settings)


def admin_openapi(routes: list[Route]) -> bytes:
    """Return the OpenAPI document of ``routes``."""
    return openapi_document(
        routes,
        title="Peersys admin API",
        description="Management of one node, on its own host, over a Unix socket. "
        "The socket's permissions and the kernel's peer credentials are the authentication.",
        version=version("peersys"),
        security_schemes={},
    )


def admin_routes(backend: ManagementBackend) -> list[Route]:
    """Return the route table."""
    api = _AdminApi(backend)
    routes = [*_object_routes(api), *_certificate_routes(api)]
    routes += [*_approval_routes(api), *_observation_routes(api)]
    document = ApiAnswer(admin_openapi(routes))
    routes.append(
        _get("/v1/openapi.json", "openapi", "This API as OpenAPI 3.1", None, _constant(document))
    )
    return routes


def _object_routes(api: _AdminApi) -> list[Route]:
    return [
        _get("/v1/node", "get_node", "Every object of the node", NodeDescription, api.node),
        Route(
            method="PUT",
            path="/v1/node",
            name="put_node",
            summary="Plan and apply a whole node specification in one transaction",
            handle=api.put_node,
            body=NodeSpecification,
            query=DryRun,
            answer=PlanResult,
        ),
        _get(
            "/v1/objects/{kind}",
            "list_objects",
            "Objects of one kind",
            list[ObjectView],
            api.objects,
            query=ObjectPage,
        ),
        _get(_OBJECT_PATH, "get_object", "One object", ObjectView, api.object),
        Route(
            method="PUT",
            path=_OBJECT_PATH,
            name="put_object",
            summary="Create or change one object; the name may be left out of the body",
            handle=api.put_object,
            body=dict[str, Any],
            query=DryRun,
            answer=PlanResult,
        ),
        Route(
            method="DELETE",
            path=_OBJECT_PATH,
            name="delete_object",
            summary="Delete one object; an absent one is no change",
            handle=api.delete_object,
            query=DryRun,
            answer=PlanResult,
        ),
    ]


def _certificate_routes(api: _AdminApi) -> list[Route]:
    return [
        Route(
            method="POST",
            path="/v1/management-certificates",
            name="certify",
            summary="Certify a node's key by a management CA of this node",
            handle=api.certify,
            body=ManagementCertificateOrder,
            query=DryRun,
            answer=ManagementCertificate,
        ),
        Route(
            method="POST",
            path="/v1/certificates/{authority}/{serial}/revocation",
            name="revoke_certificate",
            summary="Revoke, hold or release a certificate of a CA of this node",
            handle=api.revoke,
            body=RevocationOrder,
            answer=RevocationOutcome,
            path_patterns={"serial": SERIAL_PATTERN},
        ),
        _get(
            "/v1/certificates",
            "list_certificates",
            "Certificates that this node's CAs issued, newest first",
            list[CertificateInfo],
            api.certificates,
            query=CertificateFilter,
        ),
        Route(
            method="GET",
            path="/v1/certificates/{authority}/{serial}",
            name="get_certificate",
            summary="One certificate of a CA of this node",
            handle=api.certificate,
            answer=CertificateInfo,
            path_patterns={"serial": SERIAL_PATTERN},
        ),
        _get(
            "/v1/crls/{authority}",
            "get_crl",
            "The newest CRL of a CA of this node",
            CrlView,
            api.crl,
            query=CrlChoice,
        ),
    ]


def _approval_routes(api: _AdminApi) -> list[Route]:
    return [
        _get(
            "/v1/approvals",
            "list_approvals",
            "Requests for approval at this node's CAs, oldest first",
            list[ApprovalView],
            api.approvals,
            query=ApprovalSelection,
        ),
        Route(
            method="GET",
            path="/v1/approvals/{approval}",
            name="get_approval",
            summary="One request for approval, with its CSR",
            handle=api.approval,
            answer=ApprovalView,
            path_patterns={"approval": APPROVAL_PATTERN},
        ),
    ]


def _observation_routes(api: _AdminApi) -> list[Route]:
    return [
        _get("/v1/health", "health", "The agent answers", NodeHealth, api.health),
        _get("/v1/status", "status", "The whole node at a glance", StatusReport, api.status),
        _get(
            "/v1/metrics", "metrics", "Metrics in the text format of Prometheus", None, api.metrics
        ),
        _get("/v1/peers", "list_peers", "Connectors and peers", list[PeerStatus], api.peers),
        Route(
            method="POST",
            path="/v1/publishers/{name}/verification",
            name="verify_publisher",
            summary="Compare what a publisher's peer holds with this node, and repair it",
            handle=api.verify_publisher,
            body=VerificationOrder,
            answer=PublisherVerification,
        ),
        Route(
            method="POST",
            path="/v1/crypto_tokens/{name}/opening",
            name="open_crypto_token",
            summary="Try to open a crypto token now, also after its PIN was refused",
            handle=api.open_token,
            answer=CryptoTokenStatus,
        ),
        Route(
            method="POST",
            path="/v1/recovery",
            name="recover",
            summary="Bring a store restored from an old copy up to what its peers have seen",
            handle=api.recover,
            body=RecoveryOrder,
            answer=RecoveryReport,
        ),
        Route(
            method="POST",
            path="/v1/peers/{peer}/ping",
            name="ping_peer",
            summary="Measure each live link to a connector's or node's name, or a node URI",
            handle=api.ping,
            answer=PingResult,
        ),
        _get(
            "/v1/audit",
            "list_audit",
            "Audit entries",
            list[AuditItem],
            api.audit,
            query=AuditSelection,
        ),
        Route(
            method="POST",
            path="/v1/audit/verify",
            name="verify_audit",
            summary="Recompute the audit log's hash chain and compare it with signed checkpoints",
            handle=api.verify_audit,
            answer=AuditVerification,
        ),
        Route(
            method="POST",
            path="/v1/access/explain",
            name="explain_access",
            summary="Decide without doing, and say why",
            handle=api.explain,
            body=AccessQuestion,
            answer=AccessExplanation,
        ),
    ]


def _get(
    path: str,
    name: str,
    summary: str,
    answer: Any,
    handle: Any,
    *,
    query: type[msgspec.Struct] | None = None,
) -> Route:
    return Route(
        method="GET",
        path=path,
        name=name,
        summary=summary,
        handle=handle,
        answer=answer,
        query=query,
    )


def _constant(answer: ApiAnswer) -> Callable[[ApiCall], Any]:
    async def handle(call: ApiCall) -> ApiAnswer:
        return answer

    return handle


@dataclass(frozen=True, slots=True)
class _AdminApi:
    """The handlers: decode, call the backend, encode. One per operation."""

    backend: ManagementBackend

    async def health(self, call: ApiCall) -> ApiAnswer:
        return json_answer(await self.backend.health())

    async def node(self, call: ApiCall) -> ApiAnswer:
        return json_answer(await self.backend.node())

    async def put_node(self, call: ApiCall) -> ApiAnswer:
        dry_run = call.query(DryRun).dry_run
        specification = call.body(NodeSpecification)
        return json_answer(
            await self.backend.apply_node(specification, dry_run=dry_run, caller=call.principal)
        )

    async def objects(self, call: ApiCall) -> ApiAnswer:
        return json_answer(await self.backend.objects(_kind(call), call.query(ObjectPage)))

    async def object(self, call: ApiCall) -> ApiAnswer:
        return json_answer(await self.backend.object(_kind(call), call.path["name"]))

    async def put_object(self, call: ApiCall) -> ApiAnswer:
        spec = _spec(call)
        dry_run = call.query(DryRun).dry_run
        return json_answer(
            await self.backend.apply_object(spec, dry_run=dry_run, caller=call.principal)
        )

    async def delete_object(self, call: ApiCall) -> ApiAnswer:
        kind, name = _kind(call), call.path["name"]
        dry_run = call.query(DryRun).dry_run
        return json_answer(
            await self.backend.delete_object(kind, name, dry_run=dry_run, caller=call.principal)
        )

    async def certify(self, call: ApiCall) -> ApiAnswer:
        order = call.body(ManagementCertificateOrder)
        dry_run = call.query(DryRun).dry_run
        return json_answer(
            await self.backend.certify(order, dry_run=dry_run, caller=call.principal)
        )

    async def revoke(self, call: ApiCall) -> ApiAnswer:
        serial = parse_serial(call.path["serial"])
        order = call.body(RevocationOrder)
        authority = call.path["authority"]
        return json_answer(
            await self.backend.revoke_certificate(authority, serial, order, caller=call.principal)
        )

    async def certificates(self, call: ApiCall) -> ApiAnswer:
        return json_answer(await self.backend.certificates(call.query(CertificateFilter)))

    async def certificate(self, call: ApiCall) -> ApiAnswer:
        serial = parse_serial(call.path["serial"])
        return json_answer(await self.backend.certificate(call.path["authority"], serial))

    async def approvals(self, call: ApiCall) -> ApiAnswer:
        return json_answer(await self.backend.approvals(call.query(ApprovalSelection)))

    async def approval(self, call: ApiCall) -> ApiAnswer:
        approval = parse_approval(call.path["approval"])
        return json_answer(await self.backend.approval(approval))

    async def crl(self, call: ApiCall) -> ApiAnswer:
        choice = call.query(CrlChoice)
        return json_answer(
            await self.backend.crl(call.path["authority"], delta=choice.delta, shard=choice.shard)
        )

    async def status(self, call: ApiCall) -> ApiAnswer:
        return json_answer(await self.backend.status())

    async def metrics(self, call: ApiCall) -> ApiAnswer:
        return ApiAnswer(self.backend.metrics(), media_type=MEDIA_TYPE)

    async def peers(self, call: ApiCall) -> ApiAnswer:
        return json_answer(await self.backend.peers())

    async def verify_publisher(self, call: ApiCall) -> ApiAnswer:
        order = call.body(VerificationOrder)
        return json_answer(
            await self.backend.verify_publisher(
                call.path["name"], repair=order.repair, recompute=order.recompute
            )
        )

    async def open_token(self, call: ApiCall) -> ApiAnswer:
        name = call.path["name"]
        return json_answer(await self.backend.open_token(name, caller=call.principal))

    async def recover(self, call: ApiCall) -> ApiAnswer:
        order = call.body(RecoveryOrder)
        return json_answer(await self.backend.recover(order, caller=call.principal))

    async def ping(self, call: ApiCall) -> ApiAnswer:
        return json_answer(await self.backend.ping(call.path["peer"]))

    async def audit(self, call: ApiCall) -> ApiAnswer:
        wanted = call.query(AuditSelection)
        limit = min(max(wanted.limit, 1), 10_000)
        return json_answer(await self.backend.audit(msgspec.structs.replace(wanted, limit=limit)))

    async def verify_audit(self, call: ApiCall) -> ApiAnswer:
        return json_answer(await self.backend.verify_audit())

    async def explain(self, call: ApiCall) -> ApiAnswer:
        return json_answer(await self.backend.explain(call.body(AccessQuestion)))


def _caller(scope: Scope) -> LocalCaller:
    caller = (scope.get("extensions") or {}).get(CALLER_EXTENSION)
    if not isinstance(caller, LocalCaller):
        # Only a server that checked the peer's credentials may carry this application.
        raise refuse(HTTPStatus.FORBIDDEN, "no-credentials", "the caller isn't known")
    return caller


def _kind(call: ApiCall) -> str:
    kind = call.path["kind"]
    if kind not in KINDS:
        raise refuse(
            HTTPStatus.NOT_FOUND,
            "unknown-kind",
            f"{kind[:100]!r} is not a kind of object",
            field_name="kind",
            remedy="use one of " + ", ".join(KINDS),
        )
    return kind


def _spec(call: ApiCall) -> ObjectSpec:
    """Return the body as the specification of the object that the path names."""
    kind, name = _kind(call), call.path["name"]
    given = call.body(dict[str, Any])
    if given.setdefault("name", name) != name:
        raise refuse(
            HTTPStatus.BAD_REQUEST,
            "name-mismatch",
            "the name in the body is not the name in the path",
            field_name="name",
            remedy="leave it out of the body",
        )
    return call.convert(given, KINDS[kind])
