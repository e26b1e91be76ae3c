"""What the README shows is what was measured."""

from __future__ import annotations

import shutil
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks.chart import README, RESULTS, draw, write_tables
from benchmarks.figures import Row, read_rows


def test_the_readme_has_the_results_that_are_committed(tmp_path: Path) -> None:
    """Written again from the file that was kept, nothing in it changes."""
    about, rows = read_rows(RESULTS)
    shutil.copy(README, tmp_path / "README.md")
    write_tables(about, rows, tmp_path / "README.md")
    assert (tmp_path / "README.md").read_text() == README.read_text()


def test_the_picture_is_drawn_from_the_results_that_are_committed(tmp_path: Path) -> None:
    """It is a picture, and the same each time."""
    _, rows = read_rows(RESULTS)
    for name in ("once.svg", "again.svg"):
        draw(rows, tmp_path / name)
    assert ET.parse(tmp_path / "once.svg").getroot().tag.endswith("svg")
    assert (tmp_path / "once.svg").read_bytes() == (tmp_path / "again.svg").read_bytes()


def test_a_readme_without_a_place_for_results_is_left_alone(tmp_path: Path) -> None:
    """Nothing is written where it would not be found again."""
    readme = tmp_path / "README.md"
    readme.write_text("# Measurements\n")
    row = Row(question="q", workload="w", subject="ours", durability="none", figures={"requests/s": 1.0})
    with pytest.raises(ValueError, match="where results begin"):
        write_tables({"date": "today", "machine": "this one"}, [row], readme)
    assert readme.read_text() == "# Measurements\n"
