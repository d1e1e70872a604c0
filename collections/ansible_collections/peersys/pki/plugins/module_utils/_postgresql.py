# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""A PostgreSQL cluster on a Debian host: its files, its certificate, its role and database."""

from __future__ import annotations

import dataclasses
import errno
import glob
import ipaddress
import os
import re
import shutil
import typing as t

from ansible_collections.peersys.pki.plugins.module_utils._file_set import WantedFile
from ansible_collections.peersys.pki.plugins.module_utils._host import HostError
from ansible_collections.peersys.pki.plugins.module_utils._scram import (
    is_verifier_of,
    make_verifier,
)

_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}\Z")
_OWNER = "postgres"
_CERTIFICATE_DAYS = 3650
_RENEW_SECONDS = 30 * 86400
_FULL = os.strerror(errno.ENOSPC)
_HEADER = "# Written by Ansible (peersys.pki.postgresql_server); changes made here are lost.\n"
_DROP_IN = f"""{_HEADER}[Unit]
Wants=network-online.target
After=network-online.target

[Service]
Restart=on-failure
RestartSec=2
"""

Run = t.Callable[..., str]
"""Runs a command (a list), with ``stdin`` and ``as_user``; returns its output. Raises CommandFailed."""


class CommandFailed(HostError):
    """A program of the host refused."""

    def __init__(self, program: str, said: str) -> None:
        full = _FULL in said
        super().__init__(
            f"{program} failed: {said}",
            "free some space on this host's disk" if full else "clear the cause that it names",
        )


@dataclasses.dataclass(frozen=True)
class Server:
    """The server as it is to be."""

    address: str
    port: int
    clients: t.Sequence[str]
    database: str
    role: str
    cluster: str
    password: str = dataclasses.field(repr=False)

    def check(self) -> None:
        """Raise ValueError for a value that can't be."""
        for option in ("database", "role", "cluster"):
            if not _NAME.match(getattr(self, option)):
                raise ValueError(
                    f"{option}: {getattr(self, option)!r} is not a name; write a-z, 0-9 and _"
                )
        if not self.clients:
            raise ValueError("clients: nobody could connect; name the nodes' addresses")
        for client in self.clients:
            try:
                ipaddress.ip_network(client)
            except ValueError as error:
                raise ValueError(f"clients: {error}") from error
        make_verifier(self.password)

    def host_rules(self) -> str:
        """Return ``pg_hba.conf``: what isn't named here is refused."""
        rules = [
            f"hostssl {self.database} {self.role} {ipaddress.ip_network(client)} scram-sha-256"
            for client in self.clients
        ]
        return _HEADER + "\n".join([f"local all {_OWNER} peer", *sorted(rules)]) + "\n"

    def settings(self, place: Place) -> str:
        """Return what differs from the server's defaults. Durability doesn't."""
        values = {
            "listen_addresses": self.address,
            "port": self.port,
            "unix_socket_directories": place.data,
            "password_encryption": "scram-sha-256",
            "ssl": "on",
            "ssl_cert_file": place.certificate,
            "ssl_key_file": place.key,
            "ssl_min_protocol_version": "TLSv1.3",
        }
        return _HEADER + "".join(f"{name} = '{value}'\n" for name, value in values.items())

    @property
    def alternative_name(self) -> str:
        """Return the name in the certificate, as openssl takes it."""
        try:
            return f"IP:{ipaddress.ip_address(self.address)}"
        except ValueError:
            return f"DNS:{self.address}"


@dataclasses.dataclass(frozen=True)
class Place:
    """Where Debian keeps a cluster."""

    version: str
    cluster: str

    @property
    def configuration(self) -> str:
        """Return the directory of its configuration."""
        return f"/etc/postgresql/{self.version}/{self.cluster}"

    @property
    def data(self) -> str:
        """Return its data directory; its socket is there too, out of other clusters' way."""
        return f"/var/lib/postgresql/{self.version}/{self.cluster}"

    @property
    def certificate(self) -> str:
        """Return the file of the server's certificate."""
        return f"{self.configuration}/server.crt"

    @property
    def key(self) -> str:
        """Return the file of the server's private key."""
        return f"{self.configuration}/server.key"

    @property
    def exists(self) -> bool:
        """Return whether the cluster was made."""
        return os.path.exists(f"{self.configuration}/postgresql.conf")

    def files(self, server: Server) -> list[WantedFile]:
        """Return the files that the server reads."""
        named = {"conf.d/peersys.conf": server.settings(self), "pg_hba.conf": server.host_rules()}
        return [
            WantedFile(f"{self.configuration}/{name}", text.encode(), 0o640, False)
            for name, text in named.items()
        ]

    def unit_file(self) -> WantedFile:
        """Return what the unit needs more: to start after the address is there."""
        unit = f"postgresql@{self.version}-{self.cluster}.service"
        return WantedFile(
            f"/etc/systemd/system/{unit}.d/peersys.conf", _DROP_IN.encode(), 0o644, False
        )


def find_place(cluster: str) -> Place | None:
    """Return where the cluster is, or is to be; nothing when PostgreSQL isn't installed."""
    versions = [path.split("/")[4] for path in glob.glob("/usr/lib/postgresql/*/bin/postgres")]
    places = [Place(version, cluster) for version in sorted(versions, key=float, reverse=True)]
    made = [place for place in places if place.exists]
    return next(iter([*made, *places]), None)


class Cluster:
    """Looks at a cluster and makes it what it is to be. ``changes`` collects what that took, or would take."""

    def __init__(self, place: Place, server: Server, run: Run, *, dry_run: bool) -> None:
        self._place = place
        self._server = server
        self._run = run
        self._dry_run = dry_run
        self.changes: list[str] = []
        self.differences: list[dict[str, str]] = []

    def make(self) -> None:
        """Make the cluster, its files, its certificate, its role and database, and run it."""
        if not self._place.exists:
            self._create()
        certified = self._certify()
        written = self._write_files()
        self._start(certified=certified, written=written)
        if not self._dry_run or self._is_running():
            self._make_database()

    def trust_anchors(self) -> str:
        """Return the server's certificate, nothing before there is one."""
        if not os.path.exists(self._place.certificate):
            return ""
        with open(self._place.certificate, encoding="ascii") as file:
            return file.read()

    def _does(self, change: str) -> bool:
        self.changes.append(change)
        return not self._dry_run

    def _create(self) -> None:
        if self._does("cluster created"):
            version, cluster = self._place.version, self._place.cluster
            options = ["--port", str(self._server.port), "--socketdir", self._place.data]
            options += ["--locale", "C.UTF-8", "--encoding", "UTF8", "--start-conf", "auto"]
            self._run(["pg_createcluster", *options, version, cluster, "--", "--data-checksums"])

    def _certify(self) -> bool:
        if self._has_certificate() or not self._does("certificate made"):
            return False
        place, server = self._place, self._server
        command = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ]
        command += ["-days", str(_CERTIFICATE_DAYS), "-subj", f"/CN={server.address}"]
        command += ["-addext", f"subjectAltName={server.alternative_name}"]
        command += ["-addext", "basicConstraints=critical,CA:FALSE"]
        command += [
            "-addext",
            "keyUsage=critical,digitalSignature",
            "-addext",
            "extendedKeyUsage=serverAuth",
        ]
        # openssl writes the key with mode 0600 from the start.
        self._run([*command, "-keyout", place.key, "-out", place.certificate])
        os.chmod(place.key, 0o600)
        for path in (place.key, place.certificate):
            shutil.chown(path, _OWNER, _OWNER)
        return True

    def _has_certificate(self) -> bool:
        if not (os.path.exists(self._place.certificate) and os.path.exists(self._place.key)):
            return False
        option = "-checkip" if self._server.alternative_name.startswith("IP:") else "-checkhost"
        command = ["openssl", "x509", "-noout", "-in", self._place.certificate]
        try:
            self._run([*command, "-checkend", str(_RENEW_SECONDS)])
        except CommandFailed:
            return False
        return "does match" in self._run([*command, option, self._server.address])

    def _write_files(self) -> list[str]:
        wanted = self._place.files(self._server)
        if os.path.isdir("/run/systemd/system"):
            wanted.append(self._place.unit_file())
        written = [file for file in wanted if not file.is_written()]
        for file in written:
            self.differences.append(file.difference())
            if self._does(f"{file.path} written"):
                os.makedirs(os.path.dirname(file.path), exist_ok=True)
                file.write()
                if file.mode == 0o640:
                    shutil.chown(file.path, _OWNER, _OWNER)
        return [os.path.basename(os.path.dirname(file.path)) for file in written]

    def _start(self, *, certified: bool, written: t.Sequence[str]) -> None:
        if any(directory.endswith(".service.d") for directory in written) and not self._dry_run:
            self._run(["systemctl", "daemon-reload"])
        if not self._is_running():
            action, done = "start", "started"
        elif "conf.d" in written:
            action, done = "restart", "restarted"
        elif certified or written:
            action, done = "reload", "reloaded"
        else:
            return
        if self._does(f"server {done}"):
            self._run(["pg_ctlcluster", self._place.version, self._place.cluster, action])

    def _is_running(self) -> bool:
        try:
            self._run(["pg_ctlcluster", self._place.version, self._place.cluster, "status"])
        except CommandFailed:
            return False
        return True

    def _make_database(self) -> None:
        server = self._server
        found = self._ask("SELECT coalesce(rolpassword, '') FROM pg_authid WHERE rolname = :'role'")
        if not found and self._does(f"role {server.role} created"):
            self._ask("CREATE ROLE :\"role\" LOGIN PASSWORD :'verifier'")
        is_wrong = bool(found) and not is_verifier_of(found[0], server.password)
        if is_wrong and self._does(f"password of {server.role} changed"):
            self._ask("ALTER ROLE :\"role\" LOGIN PASSWORD :'verifier'")
        is_there = self._ask("SELECT 1 FROM pg_database WHERE datname = :'database'")
        if not is_there and self._does(f"database {server.database} created"):
            self._ask('CREATE DATABASE :"database" OWNER :"role"')
            self._ask('REVOKE ALL ON DATABASE :"database" FROM PUBLIC')

    def _ask(self, statement: str) -> list[str]:
        """Run a statement as the server's own user; return the rows. Values travel on standard input, too."""
        values = {"role": self._server.role, "database": self._server.database}
        if ":'verifier'" in statement:
            values["verifier"] = make_verifier(self._server.password)
        settings = "".join(f"\\set {name} '{value}'\n" for name, value in values.items())
        command = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", "postgres"]
        command += ["-h", self._place.data, "-p", str(self._server.port)]
        return self._run(command, stdin=f"{settings}{statement};\n", as_user=_OWNER).splitlines()
