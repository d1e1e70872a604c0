"""Sign OCSP answers in a loop for the given seconds; print as JSON how many a second that made."""

from __future__ import annotations

import json
import os
import sys
import time

from benchmarks.fixtures import make_authority


def main(seconds: float) -> dict[str, float]:
    """Return answers per second, and per second of CPU time."""
    authority = make_authority(leaves=1)
    leaf = authority.leaves[0]
    count, started, used = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - started < seconds:
        authority.ocsp_response(leaf, nonce=os.urandom(16))
        count += 1
    return {
        "per_second": count / (time.perf_counter() - started),
        "per_cpu_second": count / (time.process_time() - used),
    }


if __name__ == "__main__":
    print(json.dumps(main(float(sys.argv[1]))))
