"""A short run of every fuzz target, so that each keeps working."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_FUZZ = Path(__file__).parent
# target: how many runs, on inputs of how many octets at most
_RUNS = {
    "certificate_search": (20_000, 100),
    "csr": (2_500, 4096),
    "frames": (20_000, 2000),
    "http": (3_000, 600),
    "ocsp": (6_000, 4096),
    "policy": (4_000, 400),
}


def test_every_target_is_run() -> None:
    assert sorted(_RUNS) == sorted(
        path.stem.removeprefix("fuzz_") for path in _FUZZ.glob("fuzz_*.py")
    )


@pytest.mark.parametrize("target", _RUNS)
def test_target_survives_a_short_run(target: str, tmp_path: Path) -> None:
    runs, max_octets = _RUNS[target]
    # The fuzzer writes what it finds into its corpus.
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    shipped = _FUZZ / "corpus" / target
    if shipped.is_dir():
        shutil.copytree(shipped, corpus, dirs_exist_ok=True)
    options = [f"-runs={runs}", "-seed=1", f"-max_len={max_octets}"]
    ran = subprocess.run(
        [sys.executable, str(_FUZZ / f"fuzz_{target}.py"), str(corpus), *options],
        cwd=tmp_path,
        env={"PYTHONPATH": str(_FUZZ.parents[1]), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert f"Done {runs} runs" in ran.stderr
