"""OpenBao, CFSSL, ``openssl ocsp`` and nginx as servers under load, each set up at its best.

All of them listen on loopback without TLS, are pinned like the agent they stand beside, and are
stopped at the end of their ``with`` block.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.load import HttpRequest
from benchmarks.programs import require_program
from tests.support.processes import ManagedProcess, free_port
from tests.support.rest import http_request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

__all__ = ["OpenBao", "RunningServer", "cfssl_ocsp", "nginx_static", "openbao", "openssl_ocsp"]

_NGINX = """\
{user}
daemon off;
master_process off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/nginx.error error;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  sendfile on;
  tcp_nodelay on;
  keepalive_requests 100000000;
  open_file_cache max=100 inactive=1h;
  open_file_cache_valid 1h;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  types {{ application/ocsp-response der; application/pkix-crl crl; }}
  server {{
    listen 127.0.0.1:{port};
    root {directory}/static;
  }}
}}
"""

_OPENBAO = """\
storage "{storage}" {{
  path = "{directory}/data"
  node_id = "bench"
}}
listener "tcp" {{
  address = "127.0.0.1:{port}"
  tls_disable = true
}}
api_addr = "http://127.0.0.1:{port}"
cluster_addr = "http://127.0.0.1:{cluster_port}"
disable_mlock = true
log_level = "error"
"""


@dataclass(frozen=True, slots=True)
class RunningServer:
    """Where a server answers, and its process."""

    url: str
    process: ManagedProcess


class OpenBao:
    """An unsealed OpenBao with a P-256 CA in ``pki`` and a role ``bench``."""

    def __init__(self, address: str, process: ManagedProcess) -> None:
        self.address = address
        self.url = f"http://{address}"
        self.process = process
        self._token = ""

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Call its API. Raises RuntimeError with its answer when it says no."""
        payload = None if body is None else json.dumps(body).encode()
        headers = {"X-Vault-Token": self._token, "Content-Type": "application/json"}
        status, _, text = http_request(
            self.address, method, path, body=payload, headers=headers, timeout_seconds=60
        )
        if status >= 400:
            raise RuntimeError(f"{method} {path}: {status} {text.decode()}")
        return json.loads(text) if text else None

    def set_up(self) -> None:
        """Initialize, unseal, and make the CA."""
        keys = self.call("PUT", "/v1/sys/init", {"secret_shares": 1, "secret_threshold": 1})
        self._token = keys["root_token"]
        self.call("PUT", "/v1/sys/unseal", {"key": keys["keys_base64"][0]})
        self.process.wait_ready(self._is_active)
        self.call("POST", "/v1/sys/mounts/pki", {"type": "pki"})
        self.call("POST", "/v1/sys/mounts/pki/tune", {"max_lease_ttl": "87600h"})
        root = {"common_name": "Bench Root", "key_type": "ec", "key_bits": 256, "ttl": "8760h"}
        self.call("POST", "/v1/pki/root/generate/internal", root)
        role = {
            "allow_any_name": True,
            "enforce_hostnames": False,
            "key_type": "ec",
            "key_bits": 256,
            "ttl": "720h",
            "max_ttl": "720h",
            "no_store": False,
            "generate_lease": False,
        }
        self.call("POST", "/v1/pki/roles/bench", role)

    def _is_active(self) -> bool:
        status, _, _ = http_request(self.address, "GET", "/v1/sys/health")
        return status == 200

    def sign_request(self, csr_pem: str) -> HttpRequest:
        """Return the request that has a CSR signed and the certificate stored."""
        return HttpRequest(
            method="POST",
            path="/v1/pki/sign/bench",
            headers=(("X-Vault-Token", self._token), ("Content-Type", "application/json")),
            body=json.dumps({"csr": csr_pem}).encode(),
        )


@contextlib.contextmanager
def openbao(directory: Path, *, cpus: str | None, storage: str = "raft") -> Iterator[OpenBao]:
    """Run OpenBao on ``raft`` (durable) or ``inmem`` storage."""
    (directory / "data").mkdir(parents=True)
    port = free_port()
    config = directory / "openbao.hcl"
    config.write_text(
        _OPENBAO.format(storage=storage, directory=directory, port=port, cluster_port=free_port())
    )
    command = [require_program("bao"), "server", f"-config={config}"]
    process = ManagedProcess(command, log_path=directory / "openbao.log", cpus=cpus)
    with _running(process, lambda: _accepts(port)):
        server = OpenBao(f"127.0.0.1:{port}", process)
        server.set_up()
        yield server


@contextlib.contextmanager
def nginx_static(
    directory: Path, files: dict[str, bytes], *, cpus: str | None
) -> Iterator[RunningServer]:
    """Serve ``files`` (name to content) from one nginx process; yield it."""
    static = directory / "static"
    static.mkdir(parents=True)
    for name, content in files.items():
        (static / name).write_bytes(content)
    port = free_port()
    config = directory / "nginx.conf"
    # Started as root it would serve as nobody, who can't read a private temporary directory.
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(_NGINX.format(directory=directory, port=port, user=user))
    command = [require_program("nginx"), "-c", str(config), "-p", str(directory)]
    process = ManagedProcess(command, log_path=directory / "nginx.log", cpus=cpus)
    with _running(process, lambda: _accepts(port)):
        yield RunningServer(f"http://127.0.0.1:{port}", process)


@contextlib.contextmanager
def cfssl_ocsp(
    directory: Path, responses: Sequence[bytes], *, cpus: str | None
) -> Iterator[RunningServer]:
    """Serve pre-signed OCSP responses from CFSSL's ``ocspserve``; yield it."""
    directory.mkdir(parents=True)
    source = directory / "responses"
    source.write_text("".join(base64.b64encode(der).decode() + "\n" for der in responses))
    port = free_port()
    command = [
        require_program("cfssl"),
        "ocspserve",
        "-address=127.0.0.1",
        f"-port={port}",
        f"-responses={source}",
        "-loglevel=4",
    ]
    process = ManagedProcess(command, log_path=directory / "cfssl.log", cpus=cpus)
    with _running(process, lambda: _accepts(port)):
        yield RunningServer(f"http://127.0.0.1:{port}/", process)


@contextlib.contextmanager
def openssl_ocsp(
    directory: Path,
    *,
    files: dict[str, bytes],
    certificates: Sequence[tuple[int, datetime]],
    cpus: str | None,
) -> Iterator[RunningServer]:
    """Answer from ``openssl ocsp``, which signs each answer; yield it.

    ``files`` holds ``ca.pem``, ``signer.pem`` and ``signer.key``; ``certificates`` are serials
    and ends of good certificates.
    """
    directory.mkdir(parents=True)
    for name, content in files.items():
        (directory / name).write_bytes(content)
    lines = (
        f"V\t{not_after:%y%m%d%H%M%SZ}\t\t{_even_hex(serial)}\tunknown\t/CN={serial:x}\n"
        for serial, not_after in certificates
    )
    (directory / "index.txt").write_text("".join(lines))
    port = free_port()
    command = [
        require_program("openssl"),
        "ocsp",
        *("-port", str(port), "-index", "index.txt", "-CA", "ca.pem"),
        *("-rsigner", "signer.pem", "-rkey", "signer.key", "-ndays", "1"),
    ]
    process = ManagedProcess(
        command, log_path=directory / "openssl.log", cpus=cpus, directory=directory
    )
    # It stays with a connection that brings no request, so its readiness is read, not probed.
    with _running(process, lambda: "waiting for OCSP client" in process.log_tail()):
        yield RunningServer(f"http://127.0.0.1:{port}/", process)


def _even_hex(serial: int) -> str:
    return serial.to_bytes((serial.bit_length() + 7) // 8, "big").hex().upper()


@contextlib.contextmanager
def _running(process: ManagedProcess, is_ready: Callable[[], bool]) -> Iterator[None]:
    process.start()
    try:
        process.wait_ready(is_ready)
        yield
    finally:
        process.stop()


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
