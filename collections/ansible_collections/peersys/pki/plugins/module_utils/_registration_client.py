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
from urllib.parse import urlsplit

from ansible_collections.peersys.pki.plugins.module_utils._client import whole_body

_MAX_ANSWER_BYTES = 64 * 1024 * 1024


class RequestFailed(Exception):
    """No answer, or one that says no."""


class RegistrationClient:
    """Asks one RA with an API token over one kept connection; its certificate is checked."""

    def __init__(
        self, url: str, *, token: str, trust_anchors: t.Sequence[str], timeout_seconds: float
    ) -> None:
        parts = urlsplit(url)
        context = ssl.create_default_context(cadata="\n".join(trust_anchors))
        self._path = parts.path.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._connection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port, timeout=timeout_seconds, context=context
        )

    def post(self, path: str, body: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        """Return the JSON answer to a POST. Raises RequestFailed with the problem's words."""
        try:
            self._connection.request("POST", self._path + path, json.dumps(body), self._headers)
            response = self._connection.getresponse()
            status, payload = response.status, whole_body(response, _MAX_ANSWER_BYTES)
            answer: dict[str, t.Any] = json.loads(payload)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._connection.close()
            raise RequestFailed(f"POST {path}: {error}") from error
        if status >= 400:
            raise RequestFailed(f"POST {path}: {status} {answer.get('detail', answer)}")
        return answer

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


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
