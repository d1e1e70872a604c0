"""TLS of the REST port: its context, its replacement at run time, what a client proved."""

from __future__ import annotations

import hashlib
import ssl
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from node_agent.errors import ConfigError
from node_agent.net.tls import load_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

__all__ = ["TlsHolder", "check_client_trust_anchors", "rest_context", "tls_extension"]


def rest_context(
    *, private_key: PrivateKeyTypes, chain_pem: str, client_trust_anchors_pem: Sequence[str] = ()
) -> ssl.SSLContext:
    """Return the server context of a REST port: TLS 1.2 or newer, client certificates optional.

    ``chain_pem`` is leaf first. A client certificate is accepted when it leads to one of
    ``client_trust_anchors_pem`` or is one of them (a requester may pin a self-signed one); who it
    is, the backend decides. Raises ConfigError when the key and the chain don't fit together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET
    # A resumed session would carry the client certificate of a trust that was replaced since.
    context.num_tickets = 0
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols(["http/1.1"])
    try:
        load_key(context, private_key, chain_pem.encode())
        if client_trust_anchors_pem:
            _trust(context, client_trust_anchors_pem)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(
            f"is not usable for TLS: {error}", where="server authenticator"
        ) from error
    return context


def check_client_trust_anchors(pem: Sequence[str]) -> None:
    """Raise ValueError or ssl.SSLError unless a REST port can trust these certificates."""
    if pem:
        _trust(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), pem)


def _trust(context: ssl.SSLContext, pem: Sequence[str]) -> None:
    # In DER: text between certificates, which may be in any language, is nothing to OpenSSL.
    certificates = [item for text in pem for item in x509.load_pem_x509_certificates(text.encode())]
    context.load_verify_locations(
        cadata=b"".join(certificate.public_bytes(Encoding.DER) for certificate in certificates)
    )


class TlsHolder:
    """The current TLS context of a listener.

    The listener keeps ``listening`` for its whole life. Each handshake asks which context is
    current through OpenSSL's server-name callback, which Python calls whether or not the client
    sent a name. OpenSSL then takes certificate, key and the trust store from the new context; the
    verify mode stays the first one's, so every context must have the same ``verify_mode``.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self._current = context
        self.listening = context
        self.listening.sni_callback = self._select

    def replace(self, context: ssl.SSLContext) -> None:
        """Use ``context`` for handshakes from now on. Raises ValueError on another verify mode."""
        if context.verify_mode is not self.listening.verify_mode:
            raise ValueError("the verify mode of a listener can't change while it listens")
        self._current = context

    def _select(self, tls: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        if self._current is not context:
            tls.context = self._current


def tls_extension(tls: ssl.SSLObject) -> dict[str, Any]:
    """Return the ASGI TLS extension (ASGI specification, "TLS Extension" 0.2) of a connection.

    ``client_certificate_sha256`` is our addition: what a requester object pins.
    """
    der = tls.getpeercert(binary_form=True)
    extension: dict[str, Any] = {
        "server_cert": None,
        "client_cert_chain": [],
        "client_cert_name": None,
        "client_cert_error": None,
        "tls_version": 0x0304 if tls.version() == "TLSv1.3" else 0x0303,
        "cipher_suite": None,
        "client_certificate_sha256": None,
    }
    if der is not None:
        extension["client_cert_chain"] = [ssl.DER_cert_to_PEM_cert(der)]
        extension["client_certificate_sha256"] = hashlib.sha256(der).hexdigest()
    return extension
