"""One end of a hop: ``python -m benchmarks.hop serve MODE DIRECTORY`` prints its port,
``python -m benchmarks.hop call MODE DIRECTORY PORT SECONDS`` prints the latencies as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import uvloop

from benchmarks import hop_echo, hop_link, hop_signed

MODES = {"echo": hop_echo, "link": hop_link, "signed": hop_signed}


def main(arguments: list[str]) -> None:
    """Run one end."""
    end, mode, directory = arguments[0], MODES[arguments[1]], Path(arguments[2])
    if end == "serve":
        uvloop.run(mode.serve(directory))
    else:
        latencies = uvloop.run(mode.call(directory, int(arguments[3]), float(arguments[4])))
        print(json.dumps(latencies))


if __name__ == "__main__":
    main(sys.argv[1:])
