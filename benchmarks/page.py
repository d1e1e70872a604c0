"""The measured part of a Markdown page: a table of all bars, then a section for each benchmark.

The page itself is what is kept: what is measured alone takes the place of its own section and bars,
and everything else stays as it was, with the date and command that stand in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "DEPLOYMENTS",
    "OUTCOMES",
    "PAGE",
    "Markers",
    "Section",
    "join_sections",
    "merge_sections",
    "write_between_markers",
]

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"


class Markers(NamedTuple):
    """What stands on the page around a measured part."""

    begin: str
    end: str


OUTCOMES = Markers("<!-- benchmarks: begin -->", "<!-- benchmarks: end -->")
DEPLOYMENTS = Markers("<!-- deployments: begin -->", "<!-- deployments: end -->")

_TABLE_HEAD = (
    "| bar | wanted | median | lowest - highest | reached |",
    "|---|---|---|---|---|",
)
_HEADING = "### "


@dataclass(frozen=True, slots=True)
class Section:
    """What the page says of one benchmark. Each of ``bars`` is a table row that begins with the
    title and a colon.
    """

    title: str
    bars: tuple[str, ...]
    text: str


def merge_sections(
    page: Path, measured: Iterable[Section], *, about: str, order: Sequence[str]
) -> None:
    """Put sections between the page's markers, in the ``order`` of titles; drop all others' titles.

    Raises ValueError when the page has no markers.
    """
    _, kept, _ = _split(page, OUTCOMES)
    sections = _read_sections(kept) | {section.title: section for section in measured}
    text = join_sections([sections[title] for title in order if title in sections], about=about)
    write_between_markers(page, text, OUTCOMES)


def write_between_markers(page: Path, text: str, markers: Markers) -> None:
    """Replace what stands between the markers. Raises ValueError when the page has none."""
    before, _, after = _split(page, markers)
    content = f"{before}{markers.begin}\n{text}{markers.end}{after}"
    page.write_text(content, encoding="utf-8")


def join_sections(sections: Sequence[Section], *, about: str) -> str:
    """Return the text of sections, with ``about`` and the table of their bars before them."""
    bars = [row for section in sections for row in section.bars]
    parts = [about]
    if bars:
        parts.append("\n".join([*_TABLE_HEAD, *bars]))
    parts += (f"{_HEADING}{section.title}\n\n{section.text}" for section in sections)
    return "\n\n".join(parts) + "\n"


def _split(page: Path, markers: Markers) -> tuple[str, str, str]:
    before, begin, rest = page.read_text(encoding="utf-8").partition(markers.begin)
    kept, end, after = rest.partition(markers.end)
    if not begin or not end:
        raise ValueError(f"{page} has no {markers.begin} … {markers.end}")
    return before, kept, after


def _read_sections(text: str) -> dict[str, Section]:
    head, *parts = f"\n{text}".split(f"\n{_HEADING}")
    rows = [line for line in head.splitlines() if line.startswith("| ")]
    found = {}
    for part in parts:
        title, _, body = part.partition("\n")
        bars = tuple(row for row in rows if row.startswith(f"| {title}: "))
        found[title] = Section(title, bars, body.strip())
    return found
