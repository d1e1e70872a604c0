# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""The whole way of a certificate, seen from outside and judged by ``openssl``."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
import typing as t
import uuid

from ansible_collections.peersys.pki.plugins.module_utils._registration_client import (
    RegistrationClient,
    RequestFailed,
    certificate_path,
    client_from,
    download,
)

_POLL_SECONDS = 0.02
_END_OF_PEM = "-----END CERTIFICATE-----"


class TrialFailed(Exception):
    """A step wasn't as it must be; the message names step and node."""


class Trial:
    """One trial: its parameters, its working directory and what was seen so far."""

    def __init__(self, params: t.Mapping[str, t.Any], openssl: str, directory: str) -> None:
        self.params = params
        self.steps: list[dict[str, t.Any]] = []
        self.serial = ""
        self._openssl = openssl
        self._directory = directory

    @contextlib.contextmanager
    def step(self, name: str, node: str) -> t.Iterator[list[str]]:
        """Time one step; what is appended to the yielded list is its detail.

        Raises TrialFailed for what goes wrong within.
        """
        detail: list[str] = []
        start = time.perf_counter()
        try:
            yield detail
        except RequestFailed as error:
            raise TrialFailed(f"{node}: {name}: {error}") from error
        taken = round((time.perf_counter() - start) * 1000, 1)
        seen = {"step": name, "node": node, "milliseconds": taken, "detail": ", ".join(detail)}
        self.steps.append(seen)

    def path(self, name: str) -> str:
        """Return the path of a file in the working directory."""
        return os.path.join(self._directory, name)

    def write(self, name: str, content: str | bytes) -> str:
        """Write a file into the working directory and return its path."""
        with open(self.path(name), "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
        return self.path(name)

    def openssl(self, *arguments: str) -> tuple[bool, str]:
        """Run openssl. Returns whether it succeeded, and everything that it printed."""
        try:
            done = subprocess.run(
                [self._openssl, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=self.params["timeout_seconds"],
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False, "openssl got no answer in time"
        return done.returncode == 0, done.stdout + done.stderr

    def until(self, name: str, node: str, seconds: float, look: t.Callable[[], str]) -> None:
        """Repeat ``look`` until it finds nothing to complain. Raises TrialFailed in the end."""
        deadline = time.monotonic() + seconds
        while True:
            # Read before looking: a look that began in time counts, however long it takes.
            late = time.monotonic() >= deadline
            complaint = look()
            if not complaint:
                return
            if late:
                raise TrialFailed(f"{node}: {name}: {complaint.strip()} (tried for {seconds:g} s)")
            time.sleep(_POLL_SECONDS)


def run_trial(trial: Trial) -> None:
    """Go the whole way. Raises TrialFailed; ``trial.steps`` tells how far it came."""
    params = trial.params
    try:
        client = client_from(params)
    except RequestFailed as error:
        raise TrialFailed(f"{params['registration_authority']}: {error}") from error
    try:
        _enrol(trial, client)
        for authority in params["validation_authorities"]:
            _check_chain(trial, authority)
            _check_status(trial, authority, "good", params["timeout_seconds"])
        _revoke(trial, client)
        for authority in params["validation_authorities"]:
            seconds = params["revocation_seconds"] + authority["cached_seconds"]
            _check_status(trial, authority, "revoked", seconds)
    finally:
        client.close()


def _enrol(trial: Trial, client: RegistrationClient) -> None:
    params, name = trial.params, trial.params["registration_authority"]
    order = {
        "authority": params["authority"],
        "profile": params["profile"],
        "csr": _make_csr(trial),
        "request_id": str(uuid.uuid4()),
    }
    with trial.step("enrolled", name) as detail:
        issued = client.post("/v1/certificates", order)
        detail.append(f"serial {issued['serial']}")
    with trial.step("asked again with the same request id", name) as detail:
        again = client.post("/v1/certificates", order)
        if again["certificate"] != issued["certificate"]:
            raise RequestFailed("the same request id brought a second certificate")
        detail.append("the same certificate")
    trial.serial = issued["serial"]
    chain = issued["chain"] or params["root"]
    trial.write("leaf.pem", issued["certificate"])
    trial.write("chain.pem", chain)
    trial.write("issuer.pem", chain.split(_END_OF_PEM)[0] + _END_OF_PEM + "\n")
    trial.write("root.pem", params["root"])


def _make_csr(trial: Trial) -> str:
    name = trial.params["dns_name"]
    made, output = trial.openssl(
        *("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"),
        *("-keyout", trial.path("key.pem"), "-out", trial.path("csr.pem")),
    )
    if not made:
        raise TrialFailed(f"openssl made no CSR: {output.strip()}")
    with open(trial.path("csr.pem"), encoding="ascii") as file:
        return file.read()


def _check_chain(trial: Trial, authority: t.Mapping[str, t.Any]) -> None:
    with open(trial.path("chain.pem"), encoding="ascii") as file:
        # The trial certificate and every CA below the root: each has an issuer with a CRL.
        issued = 1 + file.read().replace(trial.params["root"], "").count(_END_OF_PEM)
    check = "-crl_check_all" if len(authority["crls"]) == issued else "-crl_check"

    def look() -> str:
        lists = "".join(_crl(trial, authority["url"], name) for name in authority["crls"])
        verified, output = trial.openssl(
            *("verify", "-x509_strict", check, "-CRLfile", trial.write("crls.pem", lists)),
            *("-CAfile", trial.path("root.pem"), "-untrusted", trial.path("chain.pem")),
            trial.path("leaf.pem"),
        )
        return "" if verified else output

    with trial.step("chain verified with CRLs", authority["name"]) as detail:
        seconds = trial.params["timeout_seconds"]
        trial.until("chain", authority["name"], seconds, lambda: _answered(look))
        detail.append(f"CRLs of {' and '.join(authority['crls'])}")


def _crl(trial: Trial, url: str, name: str) -> str:
    der = download(f"{url}/crl/{name}.crl", trial.params["timeout_seconds"])
    converted, output = trial.openssl("crl", "-inform", "DER", "-in", trial.write("crl.der", der))
    if not converted:
        raise RequestFailed(f"{url}/crl/{name}.crl is no CRL: {output.strip()}")
    return output


def _check_status(
    trial: Trial, authority: t.Mapping[str, str], wanted: str, seconds: float
) -> None:
    """Ask with a nonce, which is signed afresh, and without, which may come from a cache."""
    for nonce in ("-nonce", "-no_nonce"):

        def look(nonce: str = nonce) -> str:
            return _status_complaint(trial, authority["url"], wanted, nonce)

        with trial.step(f"OCSP says {wanted}", authority["name"]) as detail:
            trial.until(f"OCSP ({nonce[1:]})", authority["name"], seconds, look)
            detail.append("with nonce" if nonce == "-nonce" else "without nonce")


def _status_complaint(trial: Trial, url: str, wanted: str, nonce: str) -> str:
    answered, output = trial.openssl(
        *("ocsp", nonce, "-issuer", trial.path("issuer.pem"), "-cert", trial.path("leaf.pem")),
        *("-url", f"{url}/ocsp", "-CAfile", trial.path("root.pem")),
        *("-verify_other", trial.path("chain.pem")),
    )
    if not answered or "Response verify OK" not in output:
        return output or "no verified answer"
    return "" if f"leaf.pem: {wanted}" in output else f"says {_status_in(output)}, not {wanted}"


def _status_in(output: str) -> str:
    lines = [line for line in output.splitlines() if "leaf.pem: " in line]
    return lines[0].rpartition(": ")[2] if lines else "nothing"


def _revoke(trial: Trial, client: RegistrationClient) -> None:
    path = f"{certificate_path(trial.params['authority'], trial.serial)}/revocation"
    with trial.step("revoked", trial.params["registration_authority"]) as detail:
        client.post(path, {"reason": "superseded"})
        detail.append("superseded")


def _answered(look: t.Callable[[], str]) -> str:
    try:
        return look()
    except RequestFailed as error:
        return str(error)
