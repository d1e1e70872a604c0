"""Sign OCSP answers in a loop for the given seconds and print how many a second that made."""

from __future__ import annotations

import os
import sys
import time

from benchmarks.fixtures import make_authority


def main(seconds: float) -> float:
    """Return answers per second."""
    authority = make_authority(leaves=1)
    leaf = authority.leaves[0]
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        authority.ocsp_response(leaf, nonce=os.urandom(16))
        count += 1
    return count / (time.perf_counter() - started)


if __name__ == "__main__":
    print(main(float(sys.argv[1])))
