"""A short run of the fuzz target, so that it keeps working."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_TARGET = Path(__file__).parents[2] / "fuzz" / "fuzz_http.py"


def test_status_port_survives_a_short_fuzz_run(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, str(_TARGET), "-runs=3000", "-seed=1", "-max_len=600"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(_TARGET.parents[2]), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert "Done 3000 runs" in ran.stderr
