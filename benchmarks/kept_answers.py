"""Keep OCSP answers in the cache; print as JSON what memory that took. It is a process of its own:
nothing else has used the memory before.

The answers have the bytes of a real one but for serial number, and signature: signing a million
takes minutes and no other memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from pathlib import Path

from benchmarks.fixtures import make_authority
from node_agent.functions.response_cache import ResponseCache
from node_agent.web.backends import OcspAnswer

_SIGNATURE_OCTETS = 64


def main(count: int, most_octets: int) -> dict[str, float]:
    """Return resident MiB that ``count`` answers took in a cache of ``most_octets``."""
    authority = make_authority(leaves=1)
    (leaf,) = authority.leaves
    request, response = authority.ocsp_request(leaf), authority.ocsp_response(leaf)
    serial = leaf.serial_number.to_bytes((leaf.serial_number.bit_length() + 7) // 8, "big")
    signed = len(response) - _SIGNATURE_OCTETS
    cache = ResponseCache(most_octets)
    now = int(time.time())
    before, begun = _resident_mib(), time.monotonic()
    for _ in range(count):
        other = os.urandom(len(serial))
        der = response[:signed].replace(serial, other) + os.urandom(_SIGNATURE_OCTETS)
        answer = OcspAnswer(
            der=der,
            last_modified=now,
            expires_at=now + 86_400,
            etag=hashlib.sha256(der).hexdigest()[:32],
        )
        key = ("issuing", int.from_bytes(other, "big"))
        cache.put(request.replace(serial, other), answer, [key], signer=1)
    return {
        "resident_mib": _resident_mib() - before,
        "kept": len(cache),
        "counted_mib": cache.octets / 2**20,
        "seconds": time.monotonic() - begun,
        "answer_octets": len(response),
    }


def _resident_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), int(sys.argv[2]))))
