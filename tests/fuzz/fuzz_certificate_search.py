"""Fuzz queries of the certificate store: one search key, or RequestRefused, and nothing else.

Run for as long as you like: ``python tests/fuzz/fuzz_certificate_search.py -max_total_time=60``.
``tests/fuzz/test_short_runs.py`` runs it for a moment.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["node_agent.web.certificate_search"]):
    from node_agent.web.certificate_search import (
        CERTIFICATE_ATTRIBUTES,
        CRL_ATTRIBUTES,
        parse_search,
    )

from node_agent.errors import RequestRefused


def check(data: bytes) -> None:
    """Parse a query out of ``data``, mostly nearly right ones."""
    source = atheris.FuzzedDataProvider(data)
    attributes = CRL_ATTRIBUTES if source.ConsumeBool() else CERTIFICATE_ATTRIBUTES
    name = source.PickValueInList([*CERTIFICATE_ATTRIBUTES, "", "a=b&name", "certhash"])
    query = name.encode() + b"=" + source.ConsumeBytes(60)
    try:
        key = parse_search(query, attributes)
    except RequestRefused:
        return
    assert key.attribute in attributes
    assert len(key.digest) == 20


def main() -> None:
    """Hand over to libFuzzer."""
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
