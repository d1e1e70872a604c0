"""Steps of a peer request and of an OCSP answer that are neither wire nor issuing."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from benchmarks.fixtures import make_authority
from benchmarks.hop_ends import CALLER, SERVER, load_identity, write_identities
from node_agent.peers.envelope import read_answer, read_request, sign_answer, sign_request
from node_agent.peers.signature import PeerCertificates
from node_agent.pki.keys import LocalKey
from node_agent.pki.ocsp import (
    CertStatusAnswer,
    OcspSigner,
    complete_response,
    parse_request,
    prepare_response,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from node_agent.net import IdentityHolder

__all__ = ["PEER_STEPS"]

_PAYLOAD_BYTES = 900
_REQUEST_ID = bytes(range(16))


def _ends() -> tuple[IdentityHolder, IdentityHolder]:
    with tempfile.TemporaryDirectory() as directory:
        write_identities(Path(directory))
        return load_identity(Path(directory), CALLER), load_identity(Path(directory), SERVER)


def _envelope() -> Callable[[], object]:
    caller, server = _ends()
    at_caller, at_server = PeerCertificates(caller), PeerCertificates(server)
    payload = os.urandom(_PAYLOAD_BYTES)

    def exchange() -> None:
        own = sign_request(
            caller,
            method="ra.enroll",
            request_id=_REQUEST_ID,
            audience="ca/issuing",
            requester="tester",
            payload=payload,
        )
        request = read_request(
            own.message,
            certificates=at_server,
            method="ra.enroll",
            request_id=_REQUEST_ID,
            now=time.time(),
        )
        answer = sign_answer(server, body_digest=request.body_digest, status=0, payload=payload)
        read_answer(answer, certificates=at_caller, body_digest=own.body_digest, status=0)

    return exchange


def _ocsp_request() -> tuple[OcspSigner, bytes]:
    authority = make_authority(leaves=1)
    signer = OcspSigner.load(
        LocalKey.of(authority.signer_key), authority.signer.public_bytes(Encoding.DER)
    )
    builder = ocsp.OCSPRequestBuilder().add_certificate(
        authority.leaves[0], authority.certificate, hashes.SHA1()
    )
    nonce = x509.OCSPNonce(os.urandom(16))
    return signer, builder.add_extension(nonce, False).build().public_bytes(Encoding.DER)


def _answer_ocsp() -> Callable[[], object]:
    signer, der = _ocsp_request()
    now = int(time.time())

    def answer() -> bytes:
        request = parse_request(der)
        status = CertStatusAnswer(
            cert_id=request.cert_ids[0], status="good", this_update=now, next_update=now + 3600
        )
        data = prepare_response(signer, [status], produced_at=now, nonce=request.nonce)
        return complete_response(signer, data, signer.key.sign(data))

    return answer


def _bare_ocsp() -> Callable[[], object]:
    authority = make_authority(leaves=1)
    return lambda: authority.ocsp_response(authority.leaves[0], nonce=os.urandom(16))


PEER_STEPS = {
    "peers: envelope signed and verified, answer signed and verified": _envelope,
    "ocsp: parse a request, build and sign its answer": _answer_ocsp,
    "ocsp: the same answer with cryptography's builder": _bare_ocsp,
}
