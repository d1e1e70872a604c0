from __future__ import annotations

import configparser
import re
from typing import TYPE_CHECKING

from tools import collection_tests

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_bootstrap_script_has_the_name_that_ansible_test_looks_for() -> None:
    assert re.fullmatch(r"get_pip_\d+(_\d+)+\.py", collection_tests._bootstrap_name())


def test_pip_settings_of_the_caller_are_kept_for_its_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collection_tests, "HOME", tmp_path)
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:secret@packages.example.org/simple")
    collection_tests._write_pip_settings()
    path = tmp_path / ".config/pip/pip.conf"
    settings = configparser.RawConfigParser()
    settings.read(path)
    assert settings["global"]["index-url"] == "https://user:secret@packages.example.org/simple"
    assert path.stat().st_mode & 0o777 == 0o600
