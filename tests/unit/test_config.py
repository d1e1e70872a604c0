"""A start-up file that can't be used is refused naming file and key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from node_agent.config import load_settings
from node_agent.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

WORKING: dict[str, Any] = {
    "name": "ca1",
    "trust_domain": "pki.example.org",
    "state_directory": "/state",
    "runtime_directory": "/run",
}


def write(directory: Path, **fields: Any) -> Path:
    path = directory / "node.yaml"
    path.write_text(yaml.safe_dump({**WORKING, **fields}))
    return path


def test_the_least_that_a_node_needs(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path))
    assert settings.identity.uri == "spiffe://pki.example.org/node/ca1"
    assert settings.store_url == "sqlite:////state/store.sqlite3"


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"name": "CA 1"}, "name"),
        ({"trust_domain": "PKI example"}, "trust_domain"),
        ({"workers": 0}, "workers"),
        ({"log_level": "loud"}, "log_level"),
        ({"listen": {"peer": "host"}}, "listen.peer"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_naming_file_and_key(
    tmp_path: Path, fields: dict[str, Any], key: str
) -> None:
    path = write(tmp_path, **fields)
    with pytest.raises(ConfigError) as caught:
        load_settings(path)
    assert caught.value.where == f"{path}: {key}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name: münchen".encode("latin-1"), "is not text in UTF-8: octet 7"),
        (b"name: [", "is not YAML"),
        (b"name: 1", "Expected `str`"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_by_its_name(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "node.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_settings(path)
    assert caught.value.where == str(path)
