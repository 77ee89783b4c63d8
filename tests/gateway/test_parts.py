"""Parts and their parameters."""

from __future__ import annotations

from pathlib import Path

import pytest

from mda.gateway import parts
from mda.gateway.parts import PartError, load


@pytest.fixture
def part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(parts, "folder", lambda: tmp_path)
    return tmp_path / "part.yaml"


def test_values_keep_their_types(part: Path) -> None:
    part.write_text('a: ${number}\nb: ["${rows}", {c: "${flag}"}]\n')
    assert load("part", number=1, rows=[{"x": None}], flag=True) == {"a": 1, "b": [[{"x": None}], {"c": True}]}


def test_a_value_is_not_looked_into(part: Path) -> None:
    part.write_text("a: ${text}\n")
    assert load("part", text="${other}") == {"a": "${other}"}


def test_an_unknown_parameter_fails(part: Path) -> None:
    part.write_text("a: ${port}\nb: ${prot}\n")
    with pytest.raises(PartError, match="no value for the parameter prot"):
        load("part", port=1)


def test_an_unused_value_fails(part: Path) -> None:
    part.write_text("a: ${port}\n")
    with pytest.raises(PartError, match="no such parameter: bind"):
        load("part", port=1, bind="x")


@pytest.mark.parametrize("scalar", ["http://${host}/", "${HOST}", "${host", "${}"])
def test_a_parameter_among_text_fails(part: Path, scalar: str) -> None:
    part.write_text(f"a: '{scalar}'\n")
    with pytest.raises(PartError, match="the whole of a value"):
        load("part", host="x")


def test_a_part_that_is_not_there_fails() -> None:
    with pytest.raises(FileNotFoundError):
        load("filters/no-such")
