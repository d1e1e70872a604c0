"""Pages that are made from the code, or name parts of it, agree with it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from node_agent.config import ListenConfig, NodeConfig
from node_agent.objects import RequesterSpec
from node_agent.web.admin import admin_openapi, admin_routes
from node_agent.web.registration import registration_openapi, registration_routes
from tests.unit.web.management_double import MemoryManagement
from tests.unit.web.registration_double import MemoryRegistration
from tools.draw_cli_reference import PAGE, reference

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
_LINK = re.compile(r"\]\((?P<target>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")
# Not every inventory: pages name those that the reader writes.
_FOLDERS = (
    "node_agent|tests|docs|tools|collections|playbooks|"
    "inventories/(?:local|three_tier|high_availability|ra_chaining|multi_tenant|va_chaining)"
)
_FILE = re.compile(rf"`((?:{_FOLDERS})/[\w./*-]+)`")


def shown(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def test_command_reference_is_what_the_commands_declare() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "run: make docs"


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    broken = [
        match["target"]
        for match in _LINK.finditer(text)
        if "://" not in match["target"] and not (page.parent / match["target"]).exists()
    ]
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_files_that_a_page_names_exist(page: Path) -> None:
    named = _FILE.findall(page.read_text(encoding="utf-8"))
    missing = [name for name in named if not any(ROOT.glob(name.rstrip("/")))]
    assert missing == []


def test_every_page_below_docs_is_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md" or not page.exists():
            continue
        reached.add(page)
        targets = [match["target"] for match in _LINK.finditer(page.read_text(encoding="utf-8"))]
        waiting += [(page.parent / target).resolve() for target in targets if "://" not in target]
    missing = [shown(page) for page in PAGES if page not in reached]
    assert missing == [], "list them in docs/README.md"


@pytest.mark.parametrize(
    ("page", "document"),
    [
        ("admin-api.md", admin_openapi(admin_routes(MemoryManagement()))),
        ("rest.md", registration_openapi(registration_routes(MemoryRegistration()))),
    ],
)
def test_reference_of_an_api_names_its_operations_and_no_other(page: str, document: bytes) -> None:
    text = (ROOT / "docs/reference" / page).read_text(encoding="utf-8")
    served = {
        f"{method.upper()} {path}"
        for path, operations in json.loads(document)["paths"].items()
        for method in operations
    }
    named = set(re.findall(r"^\| `((?:GET|PUT|POST|DELETE) /[^`?]*)", text, re.MULTILINE))
    assert named | {"GET /v1/openapi.json"} == served | {"GET /v1/openapi.json"}


def test_rest_reference_tells_how_often_a_requester_may_ask() -> None:
    page = (ROOT / "docs/reference/rest.md").read_text(encoding="utf-8")
    spec = RequesterSpec(name="x", token_sha256="0" * 64)
    assert f"| {spec.requests_per_second}/s, bursts of {spec.burst_requests}," in page


def test_start_up_file_reference_names_every_key() -> None:
    page = (ROOT / "docs/reference/node-configuration.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z0-9_]+)`", page))
    assert {*NodeConfig.__struct_fields__, *ListenConfig.__struct_fields__} <= named
