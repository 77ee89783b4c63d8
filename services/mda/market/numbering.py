"""A producer's sequence numbers: which are missing, and which came late."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from marketdata.columns import ABSENT, Batch
from marketdata.v1.gap_pb2 import Gap
from mda.market.rows import timestamp

MOST_PIECES: Final = 1_000
"""So many pieces of open gaps are tracked; beyond that the oldest gap is forgotten."""
MOST_TOLD: Final = 1_000
"""So many holes in one call are told one by one, so that their entry stays small."""

_MILLI: Final = 1_000_000
_HEAD: Final = 3
"""How many numbers of a gap stand in the text before those of its pieces."""

Numbers = NDArray[np.uint64]


@dataclass(slots=True)
class _Hole:
    """A gap that was told as open, and how many pieces of it are missing still."""

    first: int
    last: int
    opened_ms: int
    pieces: int


@dataclass(frozen=True, slots=True)
class _Piece:
    """Numbers of a gap that are missing, without one among them that has come."""

    hole: _Hole
    first: int
    last: int


class Numbering:
    """Follows the numbers of one producer's rows, which are to go up by one.

    What is tracked is bounded, and so is its text.

    Parameters
    ----------
    producer
        Its name.
    text
        The `text` of a numbering to go on from; empty for none. One that cannot be read
        counts as none.
    """

    def __init__(self, producer: str, text: str = "") -> None:
        self._producer = producer
        self._newest: int | None = None
        self._pieces: list[_Piece] = []  # in the order of their numbers, and so in that of their gaps
        self._open_text: str | None = ""
        if text:
            self._read(text)

    def take(self, numbers: Numbers, now_ns: int) -> list[Gap]:
        """Take the numbers of the next rows; return the gaps that open and close with them.

        They are the same, and in the same order, as if the rows came one by one, up to
        the limits that stand in `Policy.sequence_rule`.

        Parameters
        ----------
        numbers
            The numbers, as in the column: `ABSENT` is none.
        now_ns
            The time, in nanoseconds since the epoch.
        """
        if not len(numbers):
            return []
        breaks = np.flatnonzero(numbers[1:] != numbers[:-1] + np.uint64(1))
        if not len(breaks) and int(numbers[0]) - 1 == self._newest:
            self._newest = int(numbers[-1])
            return []
        return self._take_runs(numbers[numbers != np.uint64(ABSENT)], now_ns // _MILLI)

    @property
    def text(self) -> str:
        """What it knows, in a few printable characters; empty where no number has come."""
        if self._newest is None:
            return ""
        if self._open_text is None:
            self._open_text = _write(self._pieces)
        return f"{self._newest} {self._open_text}".rstrip()

    def _take_runs(self, numbers: Numbers, now_ms: int) -> list[Gap]:
        told: list[Gap] = []
        opened = 0
        rest: _Hole | None = None  # holes beyond those that are told one by one
        for first, last in _runs(numbers):
            if self._newest is None:
                self._newest = first - 1
            told += self._fill(first, min(last, self._newest), now_ms)
            if first > self._newest + 1:
                hole = _Hole(self._newest + 1, first - 1, self._opening(now_ms), 1)
                opened += 1
                if opened <= MOST_TOLD:
                    self._track(hole)
                    told.append(self._open(hole))
                else:
                    rest = _Hole(rest.first if rest else hole.first, hole.last, hole.opened_ms, 0)
            self._newest = max(self._newest, last)
        return told if rest is None else [*told, self._open(rest)]

    def _fill(self, first: int, last: int, now_ms: int) -> Iterator[Gap]:
        """Take numbers that follow one another, none beyond the newest; yield the gaps that they close."""
        at = bisect_left(self._pieces, first, key=lambda piece: piece.last)
        while at < len(self._pieces) and self._pieces[at].first <= last:
            piece = self._pieces[at]
            hole = piece.hole
            around = ((piece.first, first - 1), (last + 1, piece.last))
            left = [_Piece(hole, start, end) for start, end in around if start <= end]
            self._pieces[at : at + 1] = left
            self._open_text = None
            hole.pieces += len(left) - 1
            at += len(left)
            if not hole.pieces:
                yield self._close(hole, now_ms)
        self._forget()

    def _track(self, hole: _Hole) -> None:
        self._pieces.append(_Piece(hole, hole.first, hole.last))
        self._open_text = None
        self._forget()

    def _forget(self) -> None:
        while len(self._pieces) > MOST_PIECES:
            del self._pieces[: self._pieces[0].hole.pieces]
            self._open_text = None

    def _opening(self, now_ms: int) -> int:
        """Return when a gap opens: not before the one before it, so that the text stays short."""
        return max(now_ms, self._pieces[-1].hole.opened_ms if self._pieces else 0)

    def _open(self, hole: _Hole) -> Gap:
        return Gap(
            producer=self._producer,
            cause=Gap.CAUSE_SEQUENCE,
            state=Gap.STATE_OPEN,
            first_sequence=hole.first,
            last_sequence=hole.last,
            open_time=timestamp(hole.opened_ms * _MILLI),
        )

    def _close(self, hole: _Hole, now_ms: int) -> Gap:
        gap = self._open(hole)
        gap.state = Gap.STATE_CLOSED
        gap.close_time.CopyFrom(timestamp(max(now_ms, hole.opened_ms) * _MILLI))
        return gap

    def _read(self, text: str) -> None:
        newest, _, pieces = text.partition(" ")
        try:
            self._newest, self._pieces = int(newest), list(_parse(pieces))
        except ValueError:
            self._newest, self._pieces = None, []
        self._open_text = None


def row_numbers(batches: Sequence[Batch]) -> Numbers:
    """Return the sequence numbers of the rows of batches, in their order; none for batches without the column."""
    columns: list[NDArray[Any]] = [batch.columns["sequence"] for batch in batches if "sequence" in batch.columns]
    return np.concatenate(columns) if columns else np.empty(0, np.uint64)


def _runs(numbers: Numbers) -> Iterator[tuple[int, int]]:
    """Yield the first and the last of each run of numbers that go up by one."""
    starts = np.flatnonzero(numbers[1:] != numbers[:-1] + np.uint64(1)) + 1
    firsts = numbers[np.concatenate(([0], starts))[: len(numbers)]]
    lasts = numbers[np.concatenate((starts, [len(numbers)]))[: len(numbers)] - 1]
    return zip(firsts.tolist(), lasts.tolist(), strict=True)


def _write(pieces: Sequence[_Piece]) -> str:
    """Return gaps as text: `first.length.opened`, each number less what came before it, and pieces where not whole."""
    words: list[str] = []
    last = opened_ms = 0
    for _, group in groupby(pieces, key=lambda piece: id(piece.hole)):
        found = list(group)
        hole = found[0].hole
        numbers = [hole.first - last, hole.last - hole.first, hole.opened_ms - opened_ms]
        if (found[0].first, found[0].last) != (hole.first, hole.last):
            numbers += _differences(hole.first, found)
        words.append(".".join(map(str, numbers)))
        last, opened_ms = hole.last, hole.opened_ms
    return ",".join(words)


def _differences(place: int, pieces: Sequence[_Piece]) -> Iterator[int]:
    for piece in pieces:
        yield from (piece.first - place, piece.last - piece.first)
        place = piece.last


def _parse(text: str) -> Iterator[_Piece]:
    """Yield the pieces of a text that `_write` has made."""
    last = opened_ms = 0
    for word in text.split(",") if text else ():
        numbers = [int(number) for number in word.split(".")]
        first, length, waited_ms = numbers[:_HEAD]
        first, last, opened_ms = last + first, last + first + length, opened_ms + waited_ms
        rest = numbers[_HEAD:] or [0, length]
        hole = _Hole(first, last, opened_ms, len(rest) // 2)
        place = first
        for before, size in zip(rest[::2], rest[1::2], strict=True):
            yield _Piece(hole, place + before, place + before + size)
            place += before + size
