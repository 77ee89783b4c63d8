"""Prices drawn in a terminal."""

from __future__ import annotations

from marketdata.columns import NANOS
from mda.cli.watch_plot import MOST_LINES, Plot

PRICE = 100 * NANOS


def test_nothing_to_draw_is_told() -> None:
    plot = Plot(0.0)
    plot.note({"A": PRICE}, 0.0)
    assert plot.text("SIM", 80, 24) == "SIM: no bid and ask yet"


def test_one_symbol_is_drawn_by_its_price() -> None:
    plot = Plot(0.0)
    for second in range(10):
        plot.note({"A": PRICE + second * NANOS}, float(second))
    text = plot.text("SIM", 80, 24)
    assert "SIM A, middle of bid and ask" in text
    assert " 104" in text or " 105" in text
    assert len(text.splitlines()) <= 24


def test_several_are_drawn_by_their_moves() -> None:
    plot = Plot(0.0)
    for second in range(10):
        plot.note({"A": PRICE + second * NANOS // 100, "B": 3 * PRICE}, float(second))
    text = plot.text("SIM", 80, 24)
    assert "basis points" in text
    assert "A" in text
    assert "B" in text


def test_lines_and_points_are_bounded() -> None:
    plot = Plot(0.0)
    names = [f"S{number}" for number in range(MOST_LINES + 3)]
    for second in (0.0, 1.0, 400.0, 401.0):
        plot.note(dict.fromkeys(names, PRICE), second)
    text = plot.text("SIM", 80, 24)
    assert f"S{MOST_LINES - 1}" in text
    assert f"S{MOST_LINES}" not in text
    assert "400" in text  # what is older than five minutes is gone


def test_a_price_of_nothing_is_no_start() -> None:
    plot = Plot(0.0)
    for second in range(3):
        plot.note({"A": 0.0, "B": PRICE, "C": PRICE}, float(second))
    assert "basis points" in plot.text("SIM", 80, 24)
