"""Fuzz requests: whatever is sent is a Csr or CsrRefused, and a profile admits it or says why not.

The first octet chooses what the rest stands for: a whole request, or the subject or the extensions
of one that is properly signed, since no mutation would get past the signature. Run for as long as
you like: ``python tests/fuzz/fuzz_csr.py tests/fuzz/corpus/csr -max_total_time=60``.
``tests/fuzz/test_short_runs.py`` runs it for a moment.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["node_agent.pki"]):
    from node_agent.errors import CsrRefused, ProfileViolation
    from node_agent.objects import CertificateProfileSpec, SanRule, SubjectRule
    from node_agent.pki import authorities, der
    from node_agent.pki.csr import parse_csr
    from node_agent.pki.issue import issue, sign
    from node_agent.pki.issuer import Issuer
    from node_agent.pki.keys import LocalKey, algorithm_identifier, generate_key
    from node_agent.pki.names import ATTRIBUTES, encode_name, parse_name
    from node_agent.pki.profile import Profile

NOW = 1772366400
KEY = LocalKey.of(generate_key("ec-p256"))
_CA_KEY = LocalKey.of(generate_key("ec-p256"))
_ROOT = authorities.prepare_self_signed_ca(
    _CA_KEY, parse_name("CN=Fuzz"), kind="root", now=NOW, validity_days=100
)
ISSUER = Issuer.load(_CA_KEY, [sign(_ROOT).der])
PROFILE = Profile.from_spec(
    CertificateProfileSpec(
        name="open",
        subject=tuple(SubjectRule(attribute=attribute) for attribute in ATTRIBUTES),
        san=tuple(SanRule(kind=kind) for kind in ("dns", "ip", "email", "uri")),
    )
)
_EXTENSION_REQUEST = der.oid("1.2.840.113549.1.9.14")


def signed(subject: bytes, extensions: bytes = b"") -> bytes:
    """Return a request with this subject and these extensions (DER), signed by its key."""
    attribute = der.sequence(_EXTENSION_REQUEST, der.tlv(der.SET, extensions))
    attributes = der.context(0, attribute if extensions else b"", constructed=True)
    info = der.sequence(der.integer(0), subject, KEY.spki, attributes)
    return der.sequence(info, algorithm_identifier(KEY.kind), der.bit_string(KEY.sign(info)))


def check(data: bytes) -> None:
    """Hold the promise for one input."""
    kind, rest = data[:1], data[1:]
    if kind == b"s":
        data = signed(rest)
    elif kind == b"x":
        data = signed(encode_name(parse_name("CN=fuzz")), rest)
    try:
        request = PROFILE.admit(parse_csr(data))
    except (CsrRefused, ProfileViolation):
        return
    # Whatever was admitted is issued, read back and found to say what was decided.
    issue(ISSUER, request, now=NOW)


def main() -> None:
    """Hand over to libFuzzer."""
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
