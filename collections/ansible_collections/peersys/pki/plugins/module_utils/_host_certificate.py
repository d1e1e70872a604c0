# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""A host's own key and certificate, and the request for them that isn't answered yet.

Key and request id are written down before anything is asked, and stay until key and certificate
are in place. So whatever ends a run in between, the next one asks for the same certificate again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
import typing as t
import uuid

from ansible_collections.peersys.pki.plugins.module_utils._file_set import WantedFile
from ansible_collections.peersys.pki.plugins.module_utils._openssl import (
    Described,
    Names,
    Openssl,
    OpensslFailed,
)
from ansible_collections.peersys.pki.plugins.module_utils._registration_client import (
    RegistrationClient,
    RequestFailed,
    certificate_path,
)

# What was asked can't be granted, so nothing was issued; anything else may be put right elsewhere.
_FINAL_REFUSAL = (400, 409, 413, 422)


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What the host is to have."""

    authority: str
    profile: str
    names: Names
    key_kind: str
    validity_seconds: int | None
    renew_before_seconds: int


class HostCertificate:
    """The two files, and the third beside the key while a request waits for its answer."""

    def __init__(
        self, openssl: Openssl, *, key_path: str, certificate_path: str, key_mode: int
    ) -> None:
        self._openssl = openssl
        self._key_path = key_path
        self._certificate_path = certificate_path
        self._pending_path = f"{key_path}.request"
        self._key_mode = key_mode

    def present(self) -> Described | None:
        """Return what the certificate in place says, None when there is none that can be read."""
        text = _read(self._certificate_path)
        if text is None:
            return None
        try:
            return self._openssl.describe(text)
        except (OpensslFailed, KeyError, ValueError):
            return None

    def files(self) -> list[str]:
        """Return the paths that exist."""
        paths = (self._certificate_path, self._key_path, self._pending_path)
        return [path for path in paths if os.path.lexists(path)]

    def remove(self) -> None:
        """Remove the files."""
        for path in self.files():
            os.unlink(path)

    def complaint(self, wanted: Wanted, found: Described | None) -> str:
        """Return why a certificate is to be enrolled as far as the files tell; nothing if not."""
        if os.path.lexists(self._pending_path):
            return "an earlier request has no answer yet"
        if found is None:
            return "there is no certificate"
        if found.names != wanted.names:
            return "its names differ"
        if found.public_key != self._public_key():
            return "the key isn't the certificate's"
        if found.not_after - time.time() < wanted.renew_before_seconds:
            return "it is near its end"
        return ""

    def enrol(self, client: RegistrationClient, wanted: Wanted, seconds: float) -> Described:
        """Have a certificate issued, and put it and its key in place. Raises RequestFailed."""
        pending = self._pending(wanted)
        try:
            issued = _asked(client, pending["order"], seconds)
        except RequestFailed as error:
            if error.status in _FINAL_REFUSAL:
                os.unlink(self._pending_path)
            raise
        chain = issued["certificate"] + (issued["chain"] or "")
        self._write(self._key_path, pending["key"], self._key_mode)
        self._write(self._certificate_path, chain, 0o644)
        os.unlink(self._pending_path)
        return self._openssl.describe(chain)

    def _pending(self, wanted: Wanted) -> dict[str, t.Any]:
        """Return key and order of an earlier run that asked for the same, or new ones."""
        asked = {**dataclasses.asdict(wanted), "names": wanted.names.lines()}
        asked.pop("renew_before_seconds")
        with contextlib.suppress(ValueError):
            pending: dict[str, t.Any] = json.loads(_read(self._pending_path) or "{}")
            if pending.get("asked") == asked:
                return pending
        key = self._openssl.make_key(wanted.key_kind)
        order: dict[str, t.Any] = {
            "authority": wanted.authority,
            "profile": wanted.profile,
            "csr": self._openssl.make_request(key, wanted.names),
            "request_id": str(uuid.uuid4()),
        }
        if wanted.validity_seconds is not None:
            order["validity_seconds"] = wanted.validity_seconds
        pending = {"asked": asked, "order": order, "key": key}
        self._write(self._pending_path, json.dumps(pending), 0o600)
        return pending

    def _public_key(self) -> str:
        try:
            return self._openssl.public_key(_read(self._key_path) or "")
        except OpensslFailed:
            return ""

    def _write(self, path: str, content: str, mode: int) -> None:
        WantedFile(path, content.encode(), mode, secret=True).write()


def status_complaint(
    client: RegistrationClient, wanted: Wanted, found: Described
) -> tuple[str, str]:
    """Return why the RA says that another certificate is needed, and a warning if it can't say.

    Raises RequestFailed when the requester may not ask.
    """
    try:
        known = client.get(certificate_path(wanted.authority, found.serial))
    except RequestFailed as error:
        if error.status == 404:
            return f"it isn't of the CA {wanted.authority}", ""
        if error.retry_seconds is not None:
            return "", f"the certificate's status isn't known: {error}"
        raise
    if known["status"] != "good":
        return f"it is {known['status']}", ""
    if known["profile"] != wanted.profile:
        return f"its profile is {known['profile']}", ""
    return "", ""


def _asked(
    client: RegistrationClient, order: t.Mapping[str, t.Any], seconds: float
) -> dict[str, t.Any]:
    """Ask until there is an answer, with the same request id."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return client.post("/v1/certificates", order)
        except RequestFailed as error:
            wait = error.retry_seconds
            if wait is None or time.monotonic() + wait >= deadline:
                raise
            time.sleep(wait)


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return None
