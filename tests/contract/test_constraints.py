"""What is installed is what was tested: each package that is needed is pinned, in bounds."""

from __future__ import annotations

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def needed() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    texts = [*project["dependencies"], *(text for extra in extras for text in extra)]
    return [Requirement(text) for text in texts]


def test_whatever_is_needed_is_pinned_to_a_version_that_fits() -> None:
    pinned = pins()
    unfit = [
        str(one)
        for one in needed()
        if not one.specifier.contains(pinned.get(canonicalize_name(one.name), "0"))
    ]
    assert unfit == []
    assert len(pinned) > len(needed())  # what those need in turn is pinned as well
