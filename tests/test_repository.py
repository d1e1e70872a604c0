"""Rules of the repository that a reader of one file can't see: layers, sizes, names, left-overs."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
COLLECTION = ROOT / "collections/ansible_collections/peersys/pki"

LEAVES = {"asker", "errors", "clock", "config", "identity", "objects"}
STORE_TYPES = {"store.api", "store.records"}
# What each layer may import of node_agent besides itself and the leaves. A whole package stands
# for all its modules; "store.records" for that module alone.
LAYERS: dict[str, set[str]] = {
    "wire": set(),
    "policy": set(),
    "pki": {"store.records"},
    "store": set(),
    "net": {"wire"},
    "pool": {"net", "wire"},
    "peers": {"pool", "net", "wire", "policy", *STORE_TYPES},
    "web": {"net", "wire", "policy", *STORE_TYPES},
    "functions": {"web", "peers", "pool", "net", "wire", "policy", "pki", "store"},
    "status_workers": {"functions", "web", "pki", "store"},
    "service": {
        "status_workers",
        "functions",
        "web",
        "peers",
        "pool",
        "net",
        "wire",
        "policy",
        "pki",
        "store",
    },
    "cli": {"service"},
    "__main__": {"cli"},
    "log": set(),
    "metrics": set(),
    "sd_notify": set(),
}
LEAVES_ABOVE = {"log", "metrics", "sd_notify"}
WIRE_MAY_NOT = {
    "asyncio",
    "ssl",
    "socket",
    "time",
    "logging",
    "structlog",
    "selectors",
    "threading",
}

MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 70
MAX_PARAMETERS = 8
# A part that joins others names each of them, by keyword.
MAX_COLLABORATORS = 12
VAGUE_NAMES = {
    "utils",
    "util",
    "helpers",
    "helper",
    "common",
    "manager",
    "managers",
    "misc",
    "base",
}
# Made by programs, or kept as they were published elsewhere.
NOT_OURS_TO_SIZE = ("tests/output/",)


@functools.cache
def tracked(*patterns: str) -> tuple[Path, ...]:
    """Return the files git would ship: tracked, or new and not ignored."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return tuple(path for line in listed.splitlines() if (path := ROOT / line).is_file())


def python_files(*folders: str) -> list[Path]:
    return [path for path in tracked(*(f"{folder}/*.py" for folder in folders)) if sized(path)]


def sized(path: Path) -> bool:
    return not any(part in path.as_posix() for part in NOT_OURS_TO_SIZE)


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports_of(path: Path) -> Iterator[str]:
    """Yield every imported module, deferred and type-only imports too: a layer is a layer."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{shown(path)}:{node.lineno}: relative import"
            module = node.module or ""
            # `from node_agent import service` names a module; `from node_agent.x import Y` may too.
            yield from (f"{module}.{alias.name}" for alias in node.names)


def layer_of(module: str) -> str:
    """Return ``pki`` for ``node_agent.pki.crl.build_crl``."""
    return module.split(".")[1]


def may_import(importer: str, module: str) -> bool:
    layer = layer_of(module)
    if layer in (importer, *LEAVES, *LEAVES_ABOVE) or layer not in LAYERS:
        return True
    allowed = LAYERS[importer]
    return layer in allowed or any(
        module == f"node_agent.{name}" or module.startswith(f"node_agent.{name}.")
        for name in allowed
    )


@pytest.mark.parametrize("path", python_files("node_agent"), ids=shown)
def test_layers_import_only_downward(path: Path) -> None:
    layer = path.relative_to(ROOT / "node_agent").parts[0].removesuffix(".py")
    imported = [name for name in imports_of(path) if name.startswith("node_agent.")]
    if layer in ("__init__", *LEAVES):
        wrong = [name for name in imported if layer_of(name) not in LEAVES]
    else:
        assert layer in LAYERS, f"{layer} is a new layer: say in LAYERS what it may import"
        wrong = [name for name in imported if not may_import(layer, name)]
    assert not wrong, f"{shown(path)} may not import {wrong}"


@pytest.mark.parametrize("path", python_files("node_agent/wire"), ids=shown)
def test_the_protocol_core_knows_no_clock_and_no_socket(path: Path) -> None:
    assert not {name.split(".")[0] for name in imports_of(path)} & WIRE_MAY_NOT


@pytest.mark.parametrize("path", python_files("collections"), ids=shown)
def test_the_collection_never_imports_the_agent(path: Path) -> None:
    assert not [name for name in imports_of(path) if name.split(".")[0] == "node_agent"]


def test_the_agent_never_imports_what_only_tests_and_tools_use() -> None:
    outside = {"tests", "benchmarks", "tools", "hypothesis", "pytest", "ansible", "molecule"}
    for path in python_files("node_agent"):
        wrong = {name.split(".")[0] for name in imports_of(path)} & outside
        assert not wrong, f"{shown(path)} imports {wrong}"


def test_collections_hold_no_package_files() -> None:
    """``collections/__init__.py`` would hide the standard library's module of that name."""
    assert [shown(path) for path in tracked("collections/**/__init__.py")] == []
    assert not (ROOT / "collections/__init__.py").exists()


def test_convenience_symlink_is_tracked_as_a_symlink() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--stage", "collections/peersys"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert listed.startswith("120000 ")
    assert (ROOT / "collections/peersys").readlink() == Path("ansible_collections/peersys")


@pytest.mark.parametrize(
    "path",
    python_files("node_agent", "tests", "tools", "benchmarks", "collections"),
    ids=shown,
)
def test_files_functions_and_signatures_stay_small(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_FILE_LINES, f"{shown(path)} has {lines} lines"
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            where = f"{shown(path)}:{node.lineno}: {node.name}"
            assert length <= MAX_FUNCTION_LINES, f"{where} has {length} lines"
            count = parameters_of(node)
            joins = node.name == "__init__" and count == len(node.args.kwonlyargs)
            most = MAX_COLLABORATORS if joins else MAX_PARAMETERS
            assert count <= most, f"{where} has {count} parameters"


def parameters_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    arguments = node.args
    names = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return len([argument for argument in names if argument.arg not in ("self", "cls")])


def test_no_file_has_a_name_that_says_nothing() -> None:
    vague = [
        shown(path)
        for path in tracked("*.py", "*.sh", "*.yml")
        if path.stem.strip("_") in VAGUE_NAMES
    ]
    assert vague == []


def test_every_source_file_says_in_its_first_lines_what_it_is() -> None:
    silent = [
        shown(path)
        for path in python_files("node_agent", "tools", "benchmarks", "tests/support")
        if ast.get_docstring(tree_of(path)) is None and path.read_text(encoding="utf-8").strip()
    ]
    assert silent == []


def test_every_unit_test_folder_mirrors_a_part_of_the_agent() -> None:
    ours = {path.stem for path in (ROOT / "node_agent").iterdir()}
    mirrored = {
        path.relative_to(ROOT / "tests/unit").parts[0].removesuffix(".py").removeprefix("test_")
        for path in tracked("tests/unit/*.py")
    }
    assert mirrored - ours - {"support", "tools", "benchmarks", "conftest", "cases"} == set()


def test_makefile_is_short_and_every_target_explains_itself() -> None:
    names = makefile_targets()
    assert len(names) <= 18
    text = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert phony is not None
    assert set(phony[1].split()) == names


def test_every_make_target_that_a_page_names_exists() -> None:
    for path in tracked("*.md", "docs/**/*.md"):
        named = set(re.findall(r"`make ([a-z-]+)[ `]", path.read_text(encoding="utf-8")))
        assert named <= makefile_targets(), f"{shown(path)} names {named - makefile_targets()}"


def makefile_targets() -> set[str]:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z-]+):.*## ", text, re.MULTILINE))


@pytest.mark.parametrize("page", tracked("docs/why/*.md"), ids=shown)
def test_every_page_of_reasons_is_reached_from_the_architecture_page(page: Path) -> None:
    assert f"docs/why/{page.name}" in (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")


# Each is a left-over that a reader can do nothing with. This file spells them in parts, so that it
# doesn't find itself.
LEFT_OVERS = {
    "a path of one machine": re.compile(r"(?<![\w.])/(?:work|home/\w+|root)/(?!\.\.\.)"),
    "an unfinished spot": re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b"),
    "something not implemented": re.compile("NotImpl" + "ementedError"),
}
MAY_NAME_PATHS = ("tests/fuzz/corpus/",)


@pytest.mark.parametrize("what", LEFT_OVERS)
def test_nothing_is_left_over(what: str) -> None:
    pattern = LEFT_OVERS[what]
    found = []
    for path in tracked():
        if path.is_symlink() or path.name in ("LICENSE", "COPYING"):
            continue
        if shown(path).startswith(MAY_NAME_PATHS):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [
            f"{shown(path)}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]}"
            for match in pattern.finditer(text)
        ]
    assert found == []


def test_no_private_key_or_token_is_tracked() -> None:
    """Test vectors may hold keys, each in a file that says so by its name."""
    found = [
        shown(path)
        for path in tracked()
        if path.suffix in ("", ".pem", ".key", ".yml", ".yaml", ".json", ".token")
        and re.search(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----", path.read_bytes())
        and "vector" not in path.name
    ]
    assert found == []
