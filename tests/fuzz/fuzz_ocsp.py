"""Fuzz OCSP requests: whatever is sent is read or RequestRefused, and what is read can be answered
so that another program finds the same certificates and nonce in the answer.

Run for as long as you like: ``python tests/fuzz/fuzz_ocsp.py tests/fuzz/corpus/ocsp
-max_total_time=60``. ``tests/fuzz/test_short_runs.py`` runs it for a moment.
"""

from __future__ import annotations

import sys

import atheris
from cryptography import x509
from cryptography.x509 import ocsp as reference

with atheris.instrument_imports(include=["node_agent.pki"]):
    from node_agent.errors import RequestRefused
    from node_agent.pki import authorities, ocsp
    from node_agent.pki.issue import sign
    from node_agent.pki.issuer import Issuer
    from node_agent.pki.keys import LocalKey, generate_key
    from node_agent.pki.names import parse_name

NOW = 1772366400
_CA_KEY, _KEY = LocalKey.of(generate_key("ec-p256")), LocalKey.of(generate_key("ec-p256"))
_ROOT = authorities.prepare_self_signed_ca(
    _CA_KEY, parse_name("CN=Fuzz"), kind="root", now=NOW, validity_days=100
)
_ISSUER = Issuer.load(_CA_KEY, [sign(_ROOT).der])
_CERTIFICATE = authorities.prepare_ocsp_signer(
    _ISSUER, _KEY.spki, common_name="Signer", now=NOW, validity_seconds=86400
)
SIGNER = ocsp.OcspSigner.load(_KEY, sign(_CERTIFICATE).der)


def check(data: bytes) -> None:
    """Hold the promise for one input."""
    try:
        request = ocsp.parse_request(data)
    except RequestRefused:
        return
    assert 1 <= len(request.cert_ids) <= ocsp.MAX_CERT_IDS
    if not all(cert_id.issuer[0] for cert_id in request.cert_ids):
        # A hash that isn't supported names no issuer: it is never answered for.
        return
    answers = [
        ocsp.CertStatusAnswer(cert_id=cert_id, status="good", this_update=NOW)
        for cert_id in request.cert_ids
    ]
    encoded = ocsp.build_response(SIGNER, answers, produced_at=NOW, nonce=request.nonce)
    response = reference.load_der_ocsp_response(encoded)
    serials = [single.serial_number for single in response.responses]
    assert serials == [cert_id.serial for cert_id in request.cert_ids]
    nonces = [e.value.nonce for e in response.extensions if isinstance(e.value, x509.OCSPNonce)]
    assert nonces == ([] if request.nonce is None else [request.nonce])


def main() -> None:
    """Hand over to libFuzzer."""
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
