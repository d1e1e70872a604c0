"""Fuzz the status port's HTTP: any bytes in any pieces give whole HTTP answers and no error.

Run for as long as you like: ``python tests/fuzz/fuzz_http.py -max_total_time=60``.
``tests/fuzz/test_short_runs.py`` runs it for a moment.
"""

from __future__ import annotations

import asyncio
import sys

import atheris

with atheris.instrument_imports(include=["node_agent.web"]):
    from tests.unit.web.memory_connection import KEPT_REQUEST, converse, read_answers

_STATUSES = {200, 206, 304, 400, 404, 405, 413, 416, 429, 431}
_BASE64 = b"MANhYmM="
_PIECES = (
    b"GET ",
    b"POST ",
    b"HEAD ",
    b"/ocsp",
    b"/crl/issuing.crl",
    b"/health",
    b"/certificates/search.cgi?sHash=",
    b"/crls/search.cgi?iHash=" + b"A" * 27,
    b"/certificates/issuing/0a.cer",
    b"/ocsp/" + _BASE64,
    b" HTTP/1.1\r\n",
    b" HTTP/1.0\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"5\r\n",
    b"0\r\n\r\n",
    b"Range: bytes=",
    b"If-Modified-Since: ",
    b"If-None-Match: ",
    b"If-Range: ",
    b"Connection: ",
    b"Upgrade: h2c\r\n",
    b"Expect: 100-continue\r\n",
    b"\r\n",
    b"\r\n\r\n",
    KEPT_REQUEST,
)
_runner = asyncio.Runner()


def check(data: bytes) -> None:
    """Build a conversation out of ``data`` and hold it."""
    source = atheris.FuzzedDataProvider(data)
    chunks = [b""]
    while source.remaining_bytes():
        kind = source.ConsumeIntInRange(0, len(_PIECES) + 2)
        if kind < len(_PIECES):
            chunks[-1] += _PIECES[kind]
        elif kind == len(_PIECES):
            chunks.append(b"")
        else:
            chunks[-1] += source.ConsumeBytes(source.ConsumeIntInRange(1, 40))
    transport = _runner.run(converse(*filter(None, chunks)))
    written = bytes(transport.written).replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
    if b"HEAD " not in b"".join(chunks):
        answers = read_answers(written)
        assert {status for status, _ in answers} <= _STATUSES, answers
    assert written[:9] in (b"", b"HTTP/1.1 ")


def main() -> None:
    """Hand over to libFuzzer."""
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
