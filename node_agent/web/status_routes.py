"""What the status port answers to one parsed request."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec
import structlog

from node_agent.errors import DeadlineExceeded, NodeAgentError, RequestRefused, Unavailable
from node_agent.web.backends import OcspAnswer
from node_agent.web.certificate_search import (
    CERTIFICATE_ATTRIBUTES,
    CRL_ATTRIBUTES,
    parse_search,
)
from node_agent.web.found_certificates import found_download
from node_agent.web.ocsp_path import is_ocsp_path, request_from_path
from node_agent.web.problems import PROBLEM_MEDIA_TYPE, Audience, problem_of
from node_agent.web.status_answers import (
    INTERNAL_ERROR,
    MALFORMED_REQUEST,
    TRY_LATER,
    Answer,
    download_answer,
    ocsp_answer,
    plain_answer,
    problem_answer,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from node_agent.web.backends import Download, StatusBackend
    from node_agent.web.status_settings import StatusSettings

__all__ = ["OCSP_TARGETS", "StatusRequest", "StatusRoutes"]

_log = structlog.get_logger(__name__)
_CERTIFICATE_SEARCH = b"/certificates/search.cgi"
_CRL_SEARCH = b"/crls/search.cgi"
_CERTIFICATE = re.compile(r"/certificates/([a-z0-9_-]{1,63})/([0-9a-f]{1,40})\.cer")
OCSP_TARGETS = frozenset({b"/", b"/ocsp", b"/ocsp/"})
_SHARD = re.compile(r"([^/]+)/([1-9][0-9]{0,2})(-delta)?\.crl")
_MAX_LAG = re.compile(rb"(?:max_lag_seconds=(\d{1,6}))?")
_DEFAULT_MAX_LAG_SECONDS = 60
_READ_METHODS = frozenset({b"GET", b"HEAD"})


@dataclass(frozen=True, slots=True)
class StatusRequest:
    """One request. ``headers`` has only those that change an answer, names in lower case."""

    method: bytes
    target: bytes
    headers: Mapping[bytes, bytes]
    body: bytes
    is_last: bool


class StatusRoutes:
    """Answers requests that need more than a look into the cache."""

    def __init__(self, backend: StatusBackend, settings: StatusSettings) -> None:
        self._backend = backend
        self._settings = settings
        self.paths: dict[bytes, bytes] = {}
        """GET targets and the OCSP requests in them, decoded before."""

    async def answer(self, request: StatusRequest, second: int) -> Answer:
        """Return the answer; errors become OCSP error responses or problem documents."""
        is_ocsp = _is_ocsp(request)
        try:
            async with asyncio.timeout(self._settings.answer_seconds):
                if is_ocsp:
                    return await self._ocsp(request, second)
                return await self._file(request, second)
        except (NodeAgentError, TimeoutError) as error:
            return _ocsp_failure(error, request) if is_ocsp else _failure(error)
        except Exception as error:  # the root of this request: one failure must not end the server
            _log.error("status request failed", target=request.target[:200], exc_info=error)
            return _ocsp_failure(error, request) if is_ocsp else _failure(error)

    async def _ocsp(self, request: StatusRequest, second: int) -> Answer:
        der = request.body if request.method == b"POST" else self._request_in(request.target)
        if der is None:
            return ocsp_answer(OcspAnswer(der=MALFORMED_REQUEST), second=second)
        cached = self._backend.cached_response(der)
        if cached is not None and (cached.answer.expires_at or 0) > second:
            answer = cached.answer
        else:
            answer = await self._backend.ocsp_response(der)
        tags = request.headers.get(b"if-none-match") if request.method != b"POST" else None
        known = None if tags is None else tags.decode("latin-1")
        return ocsp_answer(answer, second=second, if_none_match=known)

    def _request_in(self, target: bytes) -> bytes | None:
        """Return the OCSP request in a GET's target and keep it decoded for the next time."""
        path = target.partition(b"?")[0]
        der = request_from_path(path)
        if der is None or len(der) > self._settings.body_bytes:
            return None
        if len(target) <= self._settings.kept_path_bytes:
            if len(self.paths) >= self._settings.kept_paths:
                self.paths.clear()  # cheaper than an order of use: what is asked for comes again
            self.paths[target] = der
        return der

    async def _file(self, request: StatusRequest, second: int) -> Answer:
        path, _, query = request.target.partition(b"?")
        if path in OCSP_TARGETS:
            return _not_allowed(b"POST")
        if path == b"/health/fresh" and request.method in _READ_METHODS:
            return self._freshness(query)
        if path in (_CERTIFICATE_SEARCH, _CRL_SEARCH) and request.method in _READ_METHODS:
            try:
                is_known, download = True, await self._search(path, query)
            except RequestRefused as refusal:
                return problem_answer(HTTPStatus.BAD_REQUEST, "bad-query", str(refusal))
        else:
            is_known, download = await self._find(path.decode("latin-1"))
        if not is_known and path != b"/health":
            return problem_answer(HTTPStatus.NOT_FOUND, "not-found", "there is no such path here")
        if request.method not in _READ_METHODS:
            return _not_allowed(b"GET, HEAD")
        if path == b"/health":
            return self._health()
        if download is None:
            return problem_answer(HTTPStatus.NOT_FOUND, "not-found", "there is no such file here")
        max_age_seconds = self._settings.download_max_age_seconds
        return download_answer(
            download, request.headers, second=second, max_age_seconds=max_age_seconds
        )

    async def _find(self, path: str) -> tuple[bool, Download | None]:
        """Return whether the path is of a kind served here, and its file."""
        folder, _, name = path.removeprefix("/").partition("/")
        if (item := _CERTIFICATE.fullmatch(path)) is not None:
            return True, await self._backend.retrieval.certificate(item[1], int(item[2], 16))
        if folder == "ca" and name.endswith(".p7c"):
            return True, await self._backend.retrieval.issuer_chain(name.removesuffix(".p7c"))
        if folder == "ca" and name.endswith(".cer"):
            return True, await self._backend.issuer_certificate(name.removesuffix(".cer"))
        if folder != "crl" or not name.endswith(".crl"):
            return False, None
        if (part := _SHARD.fullmatch(name)) is not None:
            return True, await self._backend.crl(part[1], part[3] is not None, int(part[2]))
        authority = name.removesuffix(".crl")
        found = await self._backend.crl(authority, False)
        if found is None and authority.endswith("-delta"):
            found = await self._backend.crl(authority.removesuffix("-delta"), True)
        return True, found

    async def _search(self, path: bytes, query: bytes) -> Download | None:
        """Return what a query of the certificate store finds. Raises RequestRefused."""
        retrieval = self._backend.retrieval
        if path == _CRL_SEARCH:
            issuer = await retrieval.crl_issuer(parse_search(query, CRL_ATTRIBUTES))
            return None if issuer is None else await self._backend.crl(issuer, False)
        key = parse_search(query, CERTIFICATE_ATTRIBUTES)
        found = await retrieval.certificates(key)
        return found_download(found, names_content=key.attribute in ("certHash", "iAndSHash"))

    def _freshness(self, query: bytes) -> Answer:
        """Answer a load balancer: 200 while what is served is new enough, else 503."""
        match = _MAX_LAG.fullmatch(query)
        if match is None:
            detail = "write max_lag_seconds=<number>"
            return problem_answer(HTTPStatus.BAD_REQUEST, "bad-query", detail)
        most = int(match[1] or _DEFAULT_MAX_LAG_SECONDS)
        lag = self._backend.lag_seconds()
        is_fresh = lag is not None and lag <= most and self._backend.health().status != "failed"
        body = msgspec.json.encode(
            {"fresh": is_fresh, "lag_seconds": None if lag is None else round(lag, 1)}
        )
        status = HTTPStatus.OK if is_fresh else HTTPStatus.SERVICE_UNAVAILABLE
        return plain_answer(body, content_type=b"application/json", status=status)

    def _health(self) -> Answer:
        health = self._backend.health()
        failed = health.status == "failed"
        status = HTTPStatus.SERVICE_UNAVAILABLE if failed else HTTPStatus.OK
        body = msgspec.json.encode(health)
        return plain_answer(body, content_type=b"application/json", status=status)


def _is_ocsp(request: StatusRequest) -> bool:
    path = request.target.partition(b"?")[0]
    if request.method == b"POST":
        return path in OCSP_TARGETS
    if request.method not in _READ_METHODS or path in OCSP_TARGETS:
        return False
    return is_ocsp_path(path)


def _not_allowed(allow: bytes) -> Answer:
    detail = f"only {allow.decode('ascii')} here"
    return problem_answer(HTTPStatus.METHOD_NOT_ALLOWED, "method-not-allowed", detail, allow=allow)


def _ocsp_failure(error: BaseException, request: StatusRequest) -> Answer:
    passing = isinstance(error, Unavailable | DeadlineExceeded | TimeoutError)
    der = TRY_LATER if passing else INTERNAL_ERROR
    return ocsp_answer(OcspAnswer(der=der), second=0)


def _failure(error: BaseException) -> Answer:
    known = DeadlineExceeded() if isinstance(error, TimeoutError) else error
    answer = problem_of(known, Audience.PUBLIC)
    return plain_answer(
        answer.body, content_type=PROBLEM_MEDIA_TYPE, status=answer.problem.status
    ).with_headers(answer.headers)
