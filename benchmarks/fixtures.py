"""Throwaway CAs, CSRs and OCSP messages for the benchmarks, made with ``cryptography`` alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

__all__ = ["BenchAuthority", "make_authority", "make_csrs"]

SignerKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def make_csrs(count: int, *, domain: str = "bench.example.org") -> list[str]:
    """Return PEM CSRs of distinct P-256 keys, each with common name and one DNS name."""
    csrs = []
    for number in range(count):
        name = f"host{number}.{domain}"
        builder = x509.CertificateSigningRequestBuilder(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        ).add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        key = ec.generate_private_key(ec.SECP256R1())
        csr = builder.sign(key, hashes.SHA256())
        csrs.append(csr.public_bytes(serialization.Encoding.PEM).decode())
    return csrs


@dataclass(frozen=True, slots=True)
class BenchAuthority:
    """A P-256 CA, a delegated OCSP signer of it, and the leaves it issued."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    signer: x509.Certificate
    signer_key: SignerKey
    leaves: tuple[x509.Certificate, ...]

    def ocsp_request(self, leaf: x509.Certificate) -> bytes:
        """Return the DER request that ``openssl ocsp`` would send: SHA-1 names, no nonce."""
        builder = ocsp.OCSPRequestBuilder().add_certificate(
            leaf,
            self.certificate,
            hashes.SHA1(),
        )
        return builder.build().public_bytes(serialization.Encoding.DER)

    def ocsp_response(self, leaf: x509.Certificate, *, nonce: bytes | None = None) -> bytes:
        """Return a signed DER answer "good", with the signer's certificate in it."""
        now = datetime.now(UTC).replace(microsecond=0)
        builder = (
            ocsp.OCSPResponseBuilder()
            .add_response(
                cert=leaf,
                issuer=self.certificate,
                algorithm=hashes.SHA1(),
                cert_status=ocsp.OCSPCertStatus.GOOD,
                this_update=now,
                next_update=now + timedelta(days=1),
                revocation_time=None,
                revocation_reason=None,
            )
            .responder_id(ocsp.OCSPResponderEncoding.HASH, self.signer)
            .certificates([self.signer])
        )
        if nonce is not None:
            builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
        answer = builder.sign(self.signer_key, hashes.SHA256())
        return answer.public_bytes(serialization.Encoding.DER)

    def openssl_files(self) -> dict[str, bytes]:
        """Return ``ca.pem``, ``signer.pem`` and ``signer.key`` for ``openssl ocsp``."""
        pem = serialization.Encoding.PEM
        return {
            "ca.pem": self.certificate.public_bytes(pem),
            "signer.pem": self.signer.public_bytes(pem),
            "signer.key": self.signer_key.private_bytes(
                pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
        }


def make_authority(*, leaves: int, signer_key: SignerKey | None = None) -> BenchAuthority:
    """Return a CA that issued ``leaves`` certificates; without ``signer_key`` that is P-256."""
    key = ec.generate_private_key(ec.SECP256R1())
    signer_key = signer_key or ec.generate_private_key(ec.SECP256R1())
    ca_name = _name("Bench Issuing")
    basic = x509.BasicConstraints(ca=True, path_length=0)
    certificate = (
        _builder(ca_name, ca_name, key).add_extension(basic, critical=True).sign(key, _SHA256)
    )
    purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING])
    signer = (
        _builder(_name("Bench OCSP"), ca_name, signer_key)
        .add_extension(purpose, critical=False)
        .add_extension(x509.OCSPNoCheck(), critical=False)
        .sign(key, _SHA256)
    )
    leaf_key = ec.generate_private_key(ec.SECP256R1())
    access = x509.AuthorityInformationAccess(
        [
            x509.AccessDescription(
                AuthorityInformationAccessOID.OCSP,
                x509.UniformResourceIdentifier("http://127.0.0.1/ocsp"),
            )
        ]
    )
    issued = tuple(
        _builder(_name(f"host{number}.bench.example.org"), ca_name, leaf_key)
        .add_extension(access, critical=False)
        .sign(key, _SHA256)
        for number in range(leaves)
    )
    return BenchAuthority(certificate, key, signer, signer_key, issued)


_SHA256 = hashes.SHA256()


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(subject: x509.Name, issuer: x509.Name, key: SignerKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=30))
    )
