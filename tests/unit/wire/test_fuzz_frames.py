"""A short run of the fuzz target, so that it keeps working."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_FUZZ = Path(__file__).parents[2] / "fuzz"


def test_the_protocol_survives_a_short_fuzz_run(tmp_path: Path) -> None:
    found = tmp_path / "corpus"
    found.mkdir()
    ran = subprocess.run(
        [
            sys.executable,
            str(_FUZZ / "fuzz_frames.py"),
            str(found),
            str(_FUZZ / "corpus/frames"),
            "-runs=20000",
            "-seed=1",
            "-max_len=2000",
        ],
        cwd=tmp_path,
        env={"PYTHONPATH": str(_FUZZ.parents[1]), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert "Done 20000 runs" in ran.stderr
