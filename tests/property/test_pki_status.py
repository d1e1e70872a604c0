"""CRLs, OCSP and revocation say the same to other programs, for anything that was recorded."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from node_agent.errors import RequestRefused
from node_agent.pki import crl, ocsp
from node_agent.pki.revoke import Reason
from node_agent.store.records import CertificateStatus
from tests.support.csrs import NOW, issuing_ca
from tests.unit.pki.test_ocsp import signer

SERIALS = st.integers(1, (1 << 159) - 1)
TIMES = st.integers(0, 4102444800)
HELD, REVOKED = CertificateStatus.ON_HOLD, CertificateStatus.REVOKED
REASONS = st.sampled_from([None, *(int(r) for r in Reason if r not in (6, 8))])
ROWS = st.tuples(
    SERIALS.map(lambda serial: serial.to_bytes(20, "big")),
    st.sampled_from([REVOKED.value, REVOKED.value, HELD.value]),
    TIMES,
    REASONS,
    st.one_of(st.none(), TIMES),
    TIMES,
)
FLAGS = {flag.value: flag for flag in x509.ReasonFlags}


@settings(deadline=None)
@given(
    st.lists(ROWS, unique_by=lambda row: row[0], max_size=30),
    st.integers(0, (1 << 159) - 1),
    st.one_of(st.none(), st.just(0)),
)
def test_crl_reads_back_as_recorded(rows, number, base_number):
    encoded = crl.build_crl(
        issuing_ca(),
        rows,
        number=number,
        this_update=NOW,
        next_update=NOW + 1,
        base_number=base_number,
    )
    loaded = x509.load_der_x509_crl(encoded)
    parent = x509.load_der_x509_certificate(issuing_ca().certificate)
    assert loaded.is_signature_valid(parent.public_key())
    assert loaded.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == number
    assert [_read(revoked) for revoked in loaded] == [_expected(row) for row in rows]


def _read(revoked):
    found = {type(extension.value): extension.value for extension in revoked.extensions}
    reason, date = found.get(x509.CRLReason), found.get(x509.InvalidityDate)
    return (
        revoked.serial_number,
        revoked.revocation_date_utc.timestamp(),
        reason and reason.reason,
        date and date.invalidity_date_utc.timestamp(),
    )


def _expected(row):
    serial, status, revoked_at, number, invalidity_at, _ = row
    number = Reason.CERTIFICATE_HOLD if status == HELD else number
    reason = FLAGS[Reason(number).rfc_name] if number else None
    return int.from_bytes(serial, "big"), revoked_at, reason, invalidity_at


@settings(deadline=None)
@given(
    st.binary(min_size=20, max_size=20),
    SERIALS,
    st.one_of(st.none(), st.binary(min_size=1, max_size=128)),
    st.sampled_from(["good", "unknown", "revoked"]),
    st.tuples(TIMES, TIMES, TIMES, TIMES),
    REASONS,
)
def test_ocsp_answer_reads_back_as_recorded(hashed, serial, nonce, status, times, reason):
    builder = reference.OCSPRequestBuilder().add_certificate_by_hash(
        hashed, hashed[::-1], serial, hashes.SHA1()
    )
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    asked = ocsp.parse_request(builder.build().public_bytes(serialization.Encoding.DER))
    (cert_id,) = asked.cert_ids
    assert (cert_id.serial, cert_id.issuer) == (serial, ("sha1", hashed, hashed[::-1]))
    assert asked.nonce == nonce
    answer = ocsp.CertStatusAnswer(
        cert_id=cert_id,
        status=status,
        this_update=times[0],
        next_update=times[1],
        revoked_at=times[2],
        reason=reason,
    )
    encoded = ocsp.build_response(_SIGNER, [answer], produced_at=times[3], nonce=nonce)
    read = reference.load_der_ocsp_response(encoded)
    assert (read.serial_number, read.issuer_name_hash) == (serial, hashed)
    assert read.certificate_status.name.lower() == status
    assert read.this_update_utc.timestamp() == times[0]
    assert read.next_update_utc.timestamp() == times[1]
    assert read.produced_at_utc.timestamp() == times[3]
    assert [e.value.nonce for e in read.extensions] == ([] if nonce is None else [nonce])
    if status == "revoked":
        assert read.revocation_time_utc.timestamp() == times[2]
        assert read.revocation_reason == (FLAGS[Reason(reason).rfc_name] if reason else None)


_SIGNER = signer()


@given(st.binary(max_size=300))
def test_any_octets_are_a_request_or_refused(octets):
    try:
        assert ocsp.parse_request(octets).cert_ids
    except RequestRefused:
        return
