"""Digests of rows: whether two sides have the same rows, each as often.

A digest is a sum, so neither the order of rows nor how they were cut into batches
matters, and digests of parts are added. It finds rows that were lost, doubled or
changed by mistake; it has no key, so it does not stop somebody who makes rows to fit.

The algorithm, for other languages. All arithmetic is on unsigned 64-bit integers and
wraps, unless it says otherwise; `>>` shifts zeros in.

- `mix(x)` is the finalizer of splitmix64:
  `x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9`, `x = (x ^ (x >> 27)) * 0x94D049BB133111EB`,
  `x ^ (x >> 31)`.
- `word(kind, number, use)` is `mix((kind * 1024 + number * 4 + use) * 0x9E3779B97F4A7C15)`,
  where `kind` is a value of `marketdata.v1.Kind`, and `number` the field number of one
  of the kind's columns, or 0 for the kind itself.
- A row has a value in each of its kind's columns but `verdicts`, which the server sets.
  A value becomes 64 bits, `v`: a signed one as it stands (two's complement), one of 32
  bits with zeros before it. Then `v ^= absent`, where `absent` is 0x7FFFFFFFFFFFFFFF
  for a column of 64 bits and 0 for one of 32. So a value that is not there is 0 and
  adds nothing to what follows: a column that is left out, or that did not exist yet,
  does not change a digest.
- Each value is spread: `t = v * (word(kind, number, 0) | 1)`, `t ^= t >> 32`.
- The row has two lanes. Lane 1 is `mix` of `word(kind, 0, 1)` plus the sum over the
  columns of `t * (word(kind, number, 1) | 1)`; lane 2 is the same with 2 for the use.
- The row's hash is `lane 1 * 2^64 + lane 2`, a number of 128 bits.
- The digest is the sum of the rows' hashes modulo 2^128, written as 32 hexadecimal
  digits in lower case, the highest first.

>>> from marketdata.columns import Kind, make_batch
>>> rows = make_batch(Kind.TRADE, {"instrument_id": [1, 2], "ts_event": [5, 6], "price": [7, 8]})
>>> digest_of(rows) == digest_of(rows.slice(1, 2)) + digest_of(rows.slice(0, 1))
True
>>> digest_of(rows).hex
'58f12f5ec09e8fba19faabf5f9b5774a'

Each step turns different values of a column into different results, so that a change
to one value of one row always changes the digest. Any other difference goes unnoticed
by a chance of less than one in 2^100.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from marketdata.columns import COLUMNS, Batch, Kind

_MODULUS: Final = 1 << 128
_DIGITS: Final = 32
_BLOCK: Final = 8192
"""Rows that are hashed at once: what is made of so many stays in the processor's caches."""

_SPREAD: Final = 0
_LANES: Final = (1, 2)
_STEP: Final = 0x9E3779B97F4A7C15
_FACTORS: Final = ((30, np.uint64(0xBF58476D1CE4E5B9)), (27, np.uint64(0x94D049BB133111EB)))
_LAST_SHIFT: Final = 31
_LOW: Final = np.uint64((1 << 32) - 1)
_NOT_SENT: Final = "verdicts"

_Words = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Digest:
    """The digest of rows; of none by default. Those of parts are added with `+`.

    Attributes
    ----------
    value
        The sum of the rows' hashes modulo 2^128.
    rows
        How many rows it is of.
    """

    value: int = 0
    rows: int = 0

    def __add__(self, other: Digest) -> Digest:
        """Return the digest of the rows of both; a row that is in both counts twice."""
        return Digest((self.value + other.value) % _MODULUS, self.rows + other.rows)

    @property
    def hex(self) -> str:
        """The value as `GetDigestResponse.digest` has it: 32 hexadecimal digits."""
        return f"{self.value:0{_DIGITS}x}"

    @classmethod
    def from_hex(cls, digits: str, rows: int) -> Digest:
        """Return the digest that a `GetDigestResponse` tells.

        Raises
        ------
        ValueError
            If these are not 32 hexadecimal digits.
        """
        if len(digits) != _DIGITS:
            raise ValueError(f"not {_DIGITS} hexadecimal digits: {digits!r}")
        return cls(int.from_bytes(bytes.fromhex(digits)), rows)


def digest_of(batch: Batch) -> Digest:
    """Return the digest of a batch's rows."""
    names = tuple(name for name in batch.columns if name != _NOT_SENT)
    constants = _constants(batch.kind, names)
    space = np.empty((2, len(names), min(batch.rows, _BLOCK)), np.uint64)
    total = 0
    for start in range(0, batch.rows, _BLOCK):
        stop = min(start + _BLOCK, batch.rows)
        values, spare = space[:, :, : stop - start]
        for line, name in zip(values, names, strict=True):
            line[:] = batch.columns[name][start:stop]
        total += _sum(_hashes(values, spare, constants))
    return Digest(total % _MODULUS, batch.rows)


@dataclass(frozen=True, slots=True)
class _Constants:
    """The constants of some columns of a kind: a line for each column; in `seeds`, for each lane."""

    absent: _Words
    spread: _Words
    lanes: tuple[_Words, ...]
    seeds: _Words


@lru_cache(maxsize=1024)
def _constants(kind: Kind, names: tuple[str, ...]) -> _Constants:
    # A column's place among its kind's columns is its field number.
    known = {column.name: (number, column.absent) for number, column in enumerate(COLUMNS[kind], 1)}
    numbers = [known[name][0] for name in names]

    def factors(use: int) -> _Words:
        return _lines([_word(kind, number, use) | 1 for number in numbers])

    return _Constants(
        absent=_lines([known[name][1] for name in names]),
        spread=factors(_SPREAD),
        lanes=tuple(factors(use) for use in _LANES),
        seeds=_lines([_word(kind, 0, use) for use in _LANES]),
    )


def _lines(words: list[int]) -> _Words:
    return np.array(words, np.uint64)[:, np.newaxis]


def _word(kind: Kind, number: int, use: int) -> int:
    word = np.array([(kind * 1024 + number * 4 + use) * _STEP % (1 << 64)], np.uint64)
    return int(_mix(word)[0])


def _hashes(values: _Words, spare: _Words, constants: _Constants) -> _Words:
    """Return the hashes of rows: a line for each lane. `values`, a line for each column, are used up."""
    np.bitwise_xor(values, constants.absent, out=values)
    np.multiply(values, constants.spread, out=values)
    _fold(values, 32, spare)
    lanes = np.empty((len(_LANES), values.shape[1]), np.uint64)
    for lane, factors in zip(lanes, constants.lanes, strict=True):
        np.add.reduce(np.multiply(values, factors, out=spare), axis=0, out=lane)
    return _mix(np.add(lanes, constants.seeds, out=lanes))


def _mix(words: _Words) -> _Words:
    """Mix words in place, and return them."""
    spare = np.empty_like(words)
    for shift, factor in _FACTORS:
        _fold(words, shift, spare)
        np.multiply(words, factor, out=words)
    _fold(words, _LAST_SHIFT, spare)
    return words


def _fold(words: _Words, shift: int, spare: _Words) -> None:
    np.right_shift(words, shift, out=spare)
    np.bitwise_xor(words, spare, out=words)


def _sum(hashes: _Words) -> int:
    """Return the sum of hashes; its bits above the lowest 128 mean nothing."""
    high, low = hashes
    # The carries out of the low lane count: its halves are summed apart, which has room in 64 bits.
    carried = (int((low >> 32).sum()) << 32) + int((low & _LOW).sum())
    return (int(high.sum()) << 64) + carried
