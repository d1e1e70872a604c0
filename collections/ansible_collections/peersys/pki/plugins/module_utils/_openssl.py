# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""Keys, requests and certificates by the host's own ``openssl``; private keys pass through pipes."""

from __future__ import annotations

import dataclasses
import datetime
import ipaddress
import os
import re
import subprocess
import tempfile
import typing as t

KEY_KINDS: dict[str, tuple[str, ...]] = {
    "ec-p256": ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"),
    "ec-p384": ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"),
    "ec-p521": ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"),
    "rsa-2048": ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"),
    "rsa-3072": ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"),
    "rsa-4096": ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:4096"),
    "ed25519": ("-algorithm", "ED25519"),
}
_TIMEOUT_SECONDS = 60
# The configuration of openssl is text with a syntax of its own: nothing of it may be in a name.
_PLAIN = re.compile(r"[A-Za-z0-9@.:/_%?=&~*-]+\Z")
_COMMON_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,64}\Z")
_KINDS = {"DNS": "dns", "IP Address": "ip", "email": "email", "URI": "uri"}
_SECTION = {"dns": "DNS", "ip": "IP", "email": "email", "uri": "URI"}


class OpensslFailed(Exception):
    """``openssl`` said no; the message is what it printed."""


@dataclasses.dataclass(frozen=True)
class Names:
    """What a certificate is for. ``alternative`` holds pairs of kind and name."""

    common_name: str | None
    alternative: frozenset[tuple[str, str]]

    @classmethod
    def of(cls, common_name: str | None, **kinds: t.Sequence[str]) -> Names:
        """Return the names, checked. Raises ValueError naming the option."""
        if common_name is not None and not _COMMON_NAME.match(common_name):
            raise ValueError(f"common_name: {common_name!r} is longer than 64 or not printable")
        pairs = [(kind, _checked(kind, name)) for kind, names in kinds.items() for name in names]
        if not pairs and common_name is None:
            raise ValueError("dns_names: a certificate is for at least one name. Give one")
        return cls(common_name, frozenset(pairs))

    def lines(self) -> list[str]:
        """Return the names for people, in a fixed order."""
        first = [f"common name {self.common_name}"] if self.common_name is not None else []
        return first + [f"{kind} {name}" for kind, name in sorted(self.alternative)]


@dataclasses.dataclass(frozen=True)
class Described:
    """What a certificate says."""

    serial: str
    not_after: int
    names: Names
    public_key: str


class Openssl:
    """Runs one ``openssl`` program."""

    def __init__(self, program: str) -> None:
        self._program = program

    def make_key(self, kind: str) -> str:
        """Return a new private key as PEM."""
        return self._run("genpkey", *KEY_KINDS[kind])

    def make_request(self, key: str, names: Names) -> str:
        """Return a PEM certificate signing request of ``key``."""
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".cnf") as file:
            file.write(_configuration(names))
            file.flush()
            # A subject in the configuration can't be empty.
            subject = ("-subj", "/") if names.common_name is None else ()
            request = ("req", "-new", "-key", "/dev/stdin", "-config", file.name)
            return self._run(*request, *subject, text=key)

    def public_key(self, key: str) -> str:
        """Return the public key of a private one, both PEM."""
        return self._run("pkey", "-pubout", text=key)

    def describe(self, certificate: str) -> Described:
        """Return what the first certificate in ``certificate`` says."""
        printed = self._run(
            *("x509", "-noout", "-serial", "-enddate", "-dateopt", "iso_8601", "-subject"),
            *("-nameopt", "sep_multiline,utf8,sname", "-pubkey", "-ext", "subjectAltName"),
            text=certificate,
        )
        return _described(printed)

    def _run(self, *arguments: str, text: str = "") -> str:
        done = subprocess.run(
            [self._program, *arguments],
            input=text,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
            umask=0o077,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )
        if done.returncode:
            reason = " | ".join(done.stderr.strip().splitlines()) or "no reason given"
            raise OpensslFailed(f"openssl {arguments[0]}: {reason}")
        return done.stdout


def _checked(kind: str, name: str) -> str:
    option = {"dns": "dns_names", "ip": "ip_addresses", "email": "emails", "uri": "uris"}[kind]
    if kind == "ip":
        try:
            return str(ipaddress.ip_address(name))
        except ValueError as error:
            raise ValueError(f"{option}: {error}. Write one address, without a network") from error
    if not _PLAIN.match(name):
        raise ValueError(f"{option}: {name!r} has a character that can't be in such a name")
    return name.lower() if kind == "dns" else name


def _configuration(names: Names) -> str:
    lines = ["[req]", "prompt = no", "utf8 = yes", "string_mask = utf8only"]
    lines += ["distinguished_name = subject"]
    lines += ["req_extensions = extensions"] if names.alternative else []
    lines += ["[subject]"]
    if names.common_name is not None:
        escaped = re.sub(r"([\\$#\"'`;])", r"\\\1", names.common_name)
        lines += [f"commonName = {escaped}"]
    lines += ["[extensions]", "subjectAltName = @names", "[names]"]
    lines += [
        f"{_SECTION[kind]}.{number} = {name}"
        for number, (kind, name) in enumerate(sorted(names.alternative))
    ]
    return "\n".join(lines) + "\n"


def _described(printed: str) -> Described:
    fields = dict(
        line.strip().split("=", 1) for line in printed.splitlines() if re.match(r" *\w+=", line)
    )
    end = datetime.datetime.strptime(fields["notAfter"], "%Y-%m-%d %H:%M:%SZ")
    key = re.search(r"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----\n", printed, re.S)
    listed = printed.partition("Subject Alternative Name:")[2].strip().splitlines()
    pairs = []
    for item in listed[-1].split(", ") if listed else ():
        kind, _colon, name = item.strip().partition(":")
        if kind in _KINDS:
            pairs.append((_KINDS[kind], _checked(_KINDS[kind], name)))
    return Described(
        serial=fields["serial"].lower().lstrip("0"),
        not_after=int(end.replace(tzinfo=datetime.timezone.utc).timestamp()),
        names=Names(fields.get("CN"), frozenset(pairs)),
        public_key=key[0] if key else "",
    )
