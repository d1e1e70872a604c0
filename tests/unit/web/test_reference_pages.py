"""The reference pages name every operation, every field and every problem that there is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from node_agent.objects import KINDS
from node_agent.web import admin_bodies, approval_bodies, bodies, problems, registration_bodies
from node_agent.web.admin import admin_openapi, admin_routes
from node_agent.web.registration import registration_openapi, registration_routes
from tests.unit.web.management_double import MemoryManagement
from tests.unit.web.registration_double import MemoryRegistration

_ROOT = Path(__file__).parents[3]
_SHARED = ("RevocationOrder", "RevocationOutcome", "CertificateInfo")


def page(name: str) -> str:
    """Return a reference page."""
    return (_ROOT / "docs" / "reference" / f"{name}.md").read_text(encoding="utf-8")


def structs(module: object) -> dict[str, type[msgspec.Struct]]:
    """Return the bodies that a module defines."""
    return {
        name: kind
        for name, kind in vars(module).items()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    }


@pytest.mark.parametrize(
    ("name", "document"),
    [
        ("admin-api", admin_openapi(admin_routes(MemoryManagement()))),
        ("rest", registration_openapi(registration_routes(MemoryRegistration()))),
    ],
)
def test_page_names_every_operation_and_query(name: str, document: bytes) -> None:
    text = page(name)
    for path, operations in json.loads(document)["paths"].items():
        for method, operation in operations.items():
            assert f"{method.upper()} {path}" in text
            for parameter in operation["parameters"]:
                assert parameter["name"] in text


@pytest.mark.parametrize(
    ("name", "module"),
    [("admin-api", admin_bodies), ("rest", approval_bodies), ("rest", registration_bodies)],
)
def test_page_names_every_field(name: str, module: object) -> None:
    text = page(name)
    own = [kind for kind in structs(module).values() if kind.__module__ == vars(module)["__name__"]]
    shared = [kind for title, kind in structs(bodies).items() if title in _SHARED]
    for kind in own + shared:
        for field in msgspec.structs.fields(kind):
            words = re.findall(r"[\"`]([a-z_]+)[\"`]", text)
            assert field.encode_name in words, f"{kind.__name__}.{field.encode_name}"


def test_admin_page_names_every_kind() -> None:
    assert all(f"`{kind}`" in page("admin-api") for kind in KINDS)


def test_pages_name_every_problem() -> None:
    source = "".join(path.read_text() for path in (_ROOT / "node_agent" / "web").glob("*.py"))
    # What the table gives, and what the edge refuses by itself.
    codes = {row.code for row in (*problems._ROWS.values(), *problems._REMOTE_ROWS.values())}
    codes |= set(re.findall(r"HTTPStatus\.[A-Z_]+,\s+\"([a-z-]+)\"", source))
    missing = {code for code in codes if f"`{code}`" not in page("rest") + page("admin-api")}
    # The status port's own, and those of a client that is gone or of a wrong composition.
    assert missing <= {"too-many-pipelined", "cut-short", "no-credentials"}
