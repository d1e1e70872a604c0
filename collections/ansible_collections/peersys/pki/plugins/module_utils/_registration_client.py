# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""A requester's side of an RA's REST interface, and downloads from a VA."""

from __future__ import annotations

import http.client
import json
import ssl
import typing as t
from urllib.parse import quote, urlsplit

from ansible_collections.peersys.pki.plugins.module_utils._argspec import ArgumentSpec
from ansible_collections.peersys.pki.plugins.module_utils._client import whole_body

_MAX_ANSWER_BYTES = 64 * 1024 * 1024
_RETRY_SECONDS = 1.0
# Too many requests; no CA in reach, or too many wait; no answer in time.
_WORTH_A_RETRY = (429, 502, 503, 504)


REGISTRATION = ArgumentSpec(
    {
        "url": {"type": "str", "required": True},
        "token": {"type": "str", "required": True, "no_log": True},
        "trust_anchors": {"type": "list", "elements": "str", "required": True},
        "timeout_seconds": {"type": "float", "default": 30.0},
    }
)
"""How a requester reaches its RA; keep in sync with ``doc_fragments/_registration.py``."""


class RequestFailed(Exception):
    """No answer, or one that says no.

    ``status`` is 0 without an answer. ``retry_seconds`` is None where asking again is no use.
    """

    def __init__(
        self, message: str, *, status: int = 0, retry_seconds: float | None = None
    ) -> None:
        self.status = status
        self.retry_seconds = retry_seconds
        super().__init__(message)


class WaitsForApproval(RequestFailed):
    """People have to approve the request first; ``waiting`` is what the RA says of that."""

    def __init__(self, waiting: dict[str, t.Any], *, retry_seconds: float | None) -> None:
        self.waiting = waiting
        given, needed = waiting.get("approvals_given"), waiting.get("approvals_needed")
        super().__init__(
            f"the request waits for approval: {given} of {needed} given",
            status=202,
            retry_seconds=retry_seconds,
        )


class RegistrationClient:
    """Asks one RA with an API token over one kept connection; its certificate is checked."""

    def __init__(
        self, url: str, *, token: str, trust_anchors: t.Sequence[str], timeout_seconds: float
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise RequestFailed(f"url: {url!r} is no address of an RA. Write https://host:port")
        try:
            context = ssl.create_default_context(cadata="\n".join(trust_anchors))
        except ssl.SSLError as error:
            raise RequestFailed(
                f"trust_anchors: {error}. Give the Management CA's certificate as PEM"
            ) from error
        self._path = parts.path.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._connection = http.client.HTTPSConnection(
            parts.hostname, parts.port, timeout=timeout_seconds, context=context
        )

    def get(self, path: str) -> dict[str, t.Any]:
        """Return the JSON answer to a GET; raises as ``post`` does."""
        return self._request("GET", path, None)

    def post(self, path: str, body: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        """Return the JSON answer to a POST. Raises RequestFailed with the problem's words."""
        return self._request("POST", path, json.dumps(body))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _request(self, method: str, path: str, body: str | None) -> dict[str, t.Any]:
        try:
            self._connection.request(method, self._path + path, body, self._headers)
            response = self._connection.getresponse()
            payload = whole_body(response, _MAX_ANSWER_BYTES)
            answer: dict[str, t.Any] = json.loads(payload)
        except ssl.SSLError as error:
            # The same certificate would be shown again.
            self._connection.close()
            raise RequestFailed(f"{method} {path}: {error}") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._connection.close()
            raise RequestFailed(
                f"{method} {path}: {error or type(error).__name__}", retry_seconds=_RETRY_SECONDS
            ) from error
        if response.status >= 400:
            raise _refused(f"{method} {path}", response, answer)
        if response.status == 202:
            raise WaitsForApproval(answer, retry_seconds=_retry_seconds(response))
        return answer


def client_from(params: t.Mapping[str, t.Any]) -> RegistrationClient:
    """Return the client that a module's options describe. Raises RequestFailed."""
    return RegistrationClient(
        params["url"],
        token=params["token"],
        trust_anchors=params["trust_anchors"],
        timeout_seconds=params["timeout_seconds"],
    )


def certificate_path(authority: str, serial: str) -> str:
    """Return where an RA has one certificate."""
    return f"/v1/certificates/{quote(authority, safe='')}/{serial}"


def _refused(
    what: str, response: http.client.HTTPResponse, problem: t.Mapping[str, t.Any]
) -> RequestFailed:
    text = f"{what}: {response.status} {problem.get('detail', problem)}"
    if problem.get("field"):
        text += f" [field: {problem['field']}]"
    remedy = problem.get("remedy") or ""
    if remedy not in text:
        text = f"{text.rstrip('.')}. {remedy}"
    retry_seconds = None
    if response.status in _WORTH_A_RETRY:
        retry_seconds = _retry_seconds(response)
    return RequestFailed(text, status=response.status, retry_seconds=retry_seconds)


def _retry_seconds(response: http.client.HTTPResponse) -> float:
    after = response.getheader("Retry-After") or ""
    return float(after) if after.isdecimal() else _RETRY_SECONDS


def download(url: str, timeout_seconds: float) -> bytes:
    """Return what a GET on a plain HTTP address brings. Raises RequestFailed."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(
        parts.hostname or "", parts.port, timeout=timeout_seconds
    )
    try:
        connection.request("GET", parts.path)
        response = connection.getresponse()
        payload = whole_body(response, _MAX_ANSWER_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise RequestFailed(f"GET {url}: {error}") from error
    finally:
        connection.close()
    if response.status != 200:
        raise RequestFailed(f"GET {url}: status {response.status}")
    return payload
