from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tools import demo

if TYPE_CHECKING:
    from pathlib import Path

RECAP = """\
PLAY RECAP *********************************************************************
ca1                        : ok=7    changed=3    unreachable=0    failed=0    skipped=1
\x1b[0;33mra1\x1b[0m : \x1b[0;32mok=7\x1b[0m \x1b[0;33mchanged=2\x1b[0m unreachable=0 failed=0
"""


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the script that stands where ansible-playbook would."""
    script = tmp_path / "ansible-playbook"
    monkeypatch.setattr(demo, "_tool", lambda name: str(tmp_path / name))
    monkeypatch.setattr(demo, "LOCAL", tmp_path / ".local")
    return script


def write(script: Path, *, prints: str, status: int = 0) -> None:
    script.write_text(f"#!/bin/sh\ncat <<'END'\n{prints}END\nexit {status}\n")
    script.chmod(0o755)


def test_changes_are_counted_over_hosts_and_colours(play: Path) -> None:
    write(play, prints=RECAP)
    assert demo._play("site") == 5


def test_failed_play_ends_with_its_status_and_the_way_on(
    play: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(play, prints="fatal: [ca1]: no passphrase\n", status=2)
    with pytest.raises(SystemExit) as ended:
        demo._play("site")
    assert ended.value.code == 2
    out = capsys.readouterr().out
    assert "fatal: [ca1]: no passphrase" in out
    assert "goes on from there" in out


def test_ansible_keeps_its_files_below_the_demo(
    play: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANSIBLE_HOME", "/nowhere")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    environment = demo._environment()
    for key in ("ANSIBLE_HOME", "ANSIBLE_LOCAL_TEMP", "ANSIBLE_REMOTE_TEMP"):
        assert environment[key].startswith(str(demo.LOCAL))
    assert "PYTHONPATH" not in environment


def test_down_without_a_demo_says_so(play: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo._down() == 0
    assert "Nothing to do" in capsys.readouterr().out


def test_down_removes_what_the_demo_made_and_keeps_what_it_did_not(play: Path) -> None:
    write(play, prints="")
    for name in ("secrets", "ansible", "mine"):
        (demo.LOCAL / name).mkdir(parents=True)
    with pytest.raises(SystemExit, match="didn't make mine"):
        demo._down()
    assert [path.name for path in demo.LOCAL.iterdir()] == ["mine"]


def test_wrong_verb_is_refused_with_the_right_ones() -> None:
    done = subprocess.run(
        [sys.executable, demo.__file__, "sideways"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "usage: demo.py up|down" in done.stderr
