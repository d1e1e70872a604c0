"""What is measured alone takes its own place in the page, and nothing else moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.page import (
    DEPLOYMENTS,
    OUTCOMES,
    Section,
    merge_sections,
    write_between_markers,
)

if TYPE_CHECKING:
    from pathlib import Path

FIRST = Section("Running", ("| Running: a / b | >= 1 | 2 |",), "On foot.\n\n| | laps |")
SECOND = Section("Running, in the rain", ("| Running, in the rain: a | <= 5 | 4 |",), "Wet.")
THIRD = Section("Swimming", (), "In water.")
ORDER = [FIRST.title, SECOND.title, THIRD.title]


@pytest.fixture
def page(tmp_path: Path) -> Path:
    place = tmp_path / "page.md"
    place.write_text(f"# Page\n\nbefore\n\n{OUTCOMES.begin}\nold\n{OUTCOMES.end}\n\n## After\n")
    return place


def test_only_what_stands_between_the_markers_is_replaced(page: Path) -> None:
    merge_sections(page, [FIRST], about="A machine.", order=ORDER)
    text = page.read_text()
    assert text.startswith(f"# Page\n\nbefore\n\n{OUTCOMES.begin}\nA machine.\n\n| bar |")
    assert text.endswith(f"### Running\n\nOn foot.\n\n| | laps |\n{OUTCOMES.end}\n\n## After\n")
    assert "old" not in text


def test_one_benchmark_alone_leaves_the_others_in_place(page: Path) -> None:
    merge_sections(page, [THIRD, SECOND, FIRST], about="A machine.", order=ORDER)
    whole = page.read_text()
    again = Section(SECOND.title, ("| Running, in the rain: a | <= 5 | 6 |",), "Wetter.")
    merge_sections(page, [again], about="A machine.", order=ORDER)
    assert page.read_text() == whole.replace("| <= 5 | 4 |", "| <= 5 | 6 |").replace(
        "Wet.", "Wetter."
    )
    for section in (FIRST, SECOND, THIRD):
        merge_sections(page, [section], about="A machine.", order=ORDER)
    assert page.read_text() == whole


def test_a_benchmark_that_is_no_more_leaves_the_page(page: Path) -> None:
    merge_sections(page, [FIRST, THIRD], about="A machine.", order=ORDER)
    merge_sections(page, [], about="A machine.", order=ORDER[1:])
    assert "Running" not in page.read_text()
    assert "Swimming" in page.read_text()


def test_a_page_without_markers_is_left_alone(page: Path) -> None:
    page.write_text("nothing here")
    with pytest.raises(ValueError, match="has no"):
        merge_sections(page, [FIRST], about="A machine.", order=ORDER)
    assert page.read_text() == "nothing here"


def test_what_was_deployed_has_a_place_of_its_own(page: Path) -> None:
    page.write_text(f"{page.read_text()}{DEPLOYMENTS.begin}\nold\n{DEPLOYMENTS.end}\n")
    merge_sections(page, [FIRST], about="A machine.", order=ORDER)
    measured = page.read_text()
    write_between_markers(page, "new\n", DEPLOYMENTS)
    assert page.read_text() == measured.replace("old", "new")
