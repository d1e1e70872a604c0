"""A real VA's OCSP answers and CRLs, judged by GnuTLS and NSS, and stapled by nginx for OpenSSL."""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.integration.test_enrolment import enrol, files
from tests.support.judges import Nss, require_program
from tests.support.openssl import make_csr, openssl
from tests.support.processes import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.agents import Topology
    from tests.support.openssl import CertificateFiles

NGINX = """\
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log info;
events {{}}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {directory}/chain.pem;
    ssl_certificate_key {key};
    ssl_trusted_certificate {directory}/trusted.pem;
    ssl_stapling on;
    ssl_stapling_verify on;
    ssl_stapling_responder http://{status}/ocsp;
  }}
}}
"""


@contextlib.contextmanager
def stapling(
    program: str, directory: Path, certificate: CertificateFiles, status: str, key: Path
) -> Iterator[int]:
    """Run nginx with a certificate of ours; yield its port."""
    port = free_port()
    issuer = certificate.issuer.read_text()
    (directory / "chain.pem").write_text(certificate.certificate.read_text() + issuer)
    (directory / "trusted.pem").write_text(issuer + certificate.root.read_text())
    configuration = directory / "nginx.conf"
    configuration.write_text(NGINX.format(directory=directory, port=port, key=key, status=status))
    arguments = [program, "-e", str(directory / "error.log"), "-c", str(configuration)]
    with subprocess.Popen([*arguments, "-p", str(directory)]) as running:
        try:
            yield port
        finally:
            running.terminate()
            running.wait(10)


def stapled(port: int) -> str:
    """Return what openssl says of the stapled answer."""
    return openssl(
        *("s_client", "-connect", f"127.0.0.1:{port}", "-status", "-servername", "staple.example"),
        check=False,
    )


def test_gnutls_says_what_the_va_says(topology: Topology, tmp_path: Path) -> None:
    program = require_program("ocsptool", "gnutls-bin")
    status = topology.va.listen["status"]
    issued = enrol(topology, make_csr(tmp_path, "gnutls.example.org"))
    certificate = files(topology, tmp_path, issued["certificate"])
    wait_until(lambda: certificate.ocsp(status) == "good", what="the VA says good")

    def asked() -> str:
        done = subprocess.run(
            [
                *(program, f"--ask=http://{status}/ocsp"),
                f"--load-issuer={certificate.issuer}",
                f"--load-cert={certificate.certificate}",
                f"--load-trust={certificate.issuer}",
            ],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        return done.stdout + done.stderr

    said = asked()
    assert "Certificate Status: good" in said, said
    assert "Verifying OCSP Response: Success" in said, said
    topology.rest().revoke(issued["serial"])
    wait_until(lambda: certificate.ocsp(status) == "revoked", what="OCSP: revoked")
    assert "Certificate Status: revoked" in asked()


def test_nss_says_what_the_va_says(topology: Topology, tmp_path: Path) -> None:
    issued = enrol(topology, make_csr(tmp_path, "nss.example.org"))
    certificate = files(topology, tmp_path, issued["certificate"])
    leaf, issuer, root = (
        x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(Encoding.DER)
        for path in (certificate.certificate, certificate.issuer, certificate.root)
    )
    nss = Nss(tmp_path, root=root, issuer=issuer)
    status = topology.va.listen["status"]
    wait_until(lambda: certificate.ocsp(status) == "good", what="the VA says good")
    assert nss.judge(leaf, "ocsp")
    assert nss.judge(leaf, "crl")
    topology.rest().revoke(issued["serial"])
    wait_until(lambda: "certificate revoked" in certificate.verify(status), what="it is on the CRL")
    # Not "no news": what isn't strict would let that pass.
    assert not nss.judge(leaf, "ocsp", strict=False)
    assert not nss.judge(leaf, "crl", strict=False)


def test_nginx_staples_the_answer_of_the_va(topology: Topology, tmp_path: Path) -> None:
    program = require_program("nginx", "nginx-light")
    status = topology.va.listen["status"]
    issued = enrol(topology, make_csr(tmp_path, "staple.example.org"))
    certificate = files(topology, tmp_path, issued["certificate"])
    wait_until(lambda: certificate.ocsp(status) == "good", what="the VA says good")
    key = tmp_path / "staple.example.org.key"
    with stapling(program, tmp_path, certificate, status, key) as port:
        # nginx asks when it first needs the answer, and staples it from then on.
        wait_until(
            lambda: "Cert Status: " in stapled(port), timeout_seconds=15, what="nginx staples"
        )
        assert "Cert Status: good" in stapled(port)
