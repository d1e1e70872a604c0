"""OpenSSL as the judge: CSRs made by it, chains, CRLs and OCSP answers checked by it."""

from __future__ import annotations

import subprocess
import urllib.request
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["CertificateFiles", "make_csr", "openssl"]


def openssl(*arguments: str | Path, check: bool = True) -> str:
    """Run openssl and return what it printed, errors too."""
    completed = subprocess.run(
        ["openssl", *map(str, arguments)], capture_output=True, text=True, timeout=30, check=False
    )
    output = completed.stdout + completed.stderr
    if check and completed.returncode:
        raise AssertionError(f"openssl {arguments[0]} failed:\n{output}")
    return output


def make_csr(
    directory: Path, name: str = "www.example.org", *, algorithm: tuple[str, ...] = ()
) -> str:
    """Return a PEM CSR for ``name`` with a new key, P-256 unless ``algorithm`` says otherwise."""
    key, csr = directory / f"{name}.key", directory / f"{name}.csr"
    openssl(
        "req",
        "-new",
        "-nodes",
        *(algorithm or ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")),
        *("-keyout", key, "-out", csr, "-subj", f"/CN={name}"),
        *("-addext", f"subjectAltName=DNS:{name}"),
    )
    return csr.read_text()


class CertificateFiles:
    """A certificate, its issuer and its root as files, and the questions that openssl answers."""

    def __init__(self, directory: Path, certificate: str, issuer: str, root: str) -> None:
        self.directory = directory
        self.certificate = self._write("leaf.pem", certificate)
        self.issuer = self._write("issuer.pem", issuer)
        self.root = self._write("root.pem", root)

    def ocsp(self, status_address: str, *options: str) -> str:
        """Return ``good``, ``revoked`` or ``unknown`` as openssl verified it, or fail."""
        output = openssl(
            *("ocsp", "-issuer", str(self.issuer), "-cert", str(self.certificate)),
            *("-url", f"http://{status_address}/ocsp", "-CAfile", str(self.root), *options),
        )
        assert "Response verify OK" in output, output
        return output.split(f"{self.certificate}: ")[1].split()[0]

    def verify_chain(self) -> str:
        """Check the chain alone; return openssl's words."""
        return openssl(
            *("verify", "-CAfile", self.root, "-untrusted", self.issuer, self.certificate)
        )

    def verify(self, status_address: str, authority: str = "issuing") -> str:
        """Check the chain against the CRL that the VA serves; return openssl's words."""
        with urllib.request.urlopen(
            f"http://{status_address}/crl/{authority}.crl", timeout=10
        ) as answer:
            crl = self.directory / "crl.der"
            crl.write_bytes(answer.read())
        return openssl(
            *("verify", "-CAfile", self.root, "-untrusted", self.issuer),
            *("-crl_check", "-CRLfile", crl, self.certificate),
            check=False,
        )

    def _write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.write_text(text)
        return path
