"""A short run of each fuzz target, so that they keep working."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_FUZZ = Path(__file__).parents[2] / "fuzz"


@pytest.mark.parametrize(("target", "runs"), [("csr", 2500), ("ocsp", 6000)])
def test_strangers_octets_survive_a_short_fuzz_run(target, runs, tmp_path):
    corpus = tmp_path / "corpus"
    shutil.copytree(_FUZZ / "corpus" / target, corpus)
    ran = subprocess.run(
        [
            sys.executable, str(_FUZZ / f"fuzz_{target}.py"), str(corpus),
            f"-runs={runs}", "-seed=1", "-max_len=4096",
        ],
        cwd=tmp_path,
        env={"PYTHONPATH": str(_FUZZ.parents[1]), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert f"Done {runs} runs" in ran.stderr
