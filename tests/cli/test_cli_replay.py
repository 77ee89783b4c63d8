"""When replayed rows are due."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from marketdata.columns import NANOS, Batch
from mda.cli.replay import Pace, _moved
from tests.tape.helpers import NOW_NS, rows_of, trades


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now_s += seconds


async def _told(pace: Pace, clock: Clock, *batches: Batch) -> list[tuple[float, list[int]]]:
    return [(round(clock.now_s, 3), rows_of([piece])) for batch in batches async for piece in pace.due(batch)]


def _at(*seconds: float) -> Batch:
    times = NOW_NS + (np.array(seconds) * NANOS).astype(np.int64)
    return trades(int(seconds[0] * 10), len(seconds), ts_event=times)


@pytest.mark.parametrize(("speed", "began"), [(1.0, 1.0), (10.0, 0.1), (0.5, 2.0)])
async def test_rows_come_at_their_pace(speed: float, began: float) -> None:
    clock = Clock()
    pace = Pace(speed, lambda: clock.now_s, clock.sleep)
    told = await _told(pace, clock, _at(0, 0.001, 1), _at(3, 2, 4))
    assert told == [
        (100.0, [0, 1]),
        (round(100 + began, 3), [2]),
        (round(100 + 3 * began, 3), [30, 31]),  # a row that is late is due at once
        (round(100 + 4 * began, 3), [32]),
    ]


async def test_without_a_speed_they_come_at_once() -> None:
    clock = Clock()
    assert await _told(Pace(0, lambda: clock.now_s, clock.sleep), clock, _at(0, 100)) == [(100.0, [0, 1])]


def test_times_are_moved() -> None:
    batch: Any = trades(1, 2, ts_recv=[5, 6])
    assert _moved(batch, 0) is batch
    moved = _moved(batch, 7)
    assert moved["ts_event"].tolist() == (batch["ts_event"] + 7).tolist()
    assert "ts_recv" not in moved.columns
