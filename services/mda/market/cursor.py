"""Cursors: a place on a tape, as an opaque token."""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from dataclasses import dataclass
from typing import Final

from marketdata.v1 import error_reason_pb2 as reasons
from mda.market.errors import MarketDataError

_VERSION: Final = 1
_FORMAT: Final = struct.Struct("<BQQI")
_CHECK_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class Cursor:
    """The place after a row.

    Attributes
    ----------
    epoch
        Which making of the tape: a tape that is deleted and made again has another.
    sequence
        The sequence number of the last entry that is wholly before the place.
    row
        How many rows of the next entry are before it, too.
    """

    epoch: int
    sequence: int
    row: int = 0

    def encode(self, dataset: str) -> str:
        """Return the token: base64url, 34 characters, good for this dataset only."""
        body = _FORMAT.pack(_VERSION, self.epoch, self.sequence, self.row)
        return base64.urlsafe_b64encode(body + _check(dataset, body)).rstrip(b"=").decode()


def decode_cursor(token: str, dataset: str, field: str) -> Cursor:
    """Return the place that a token stands for.

    Raises
    ------
    MarketDataError
        If it is not a token that `Cursor.encode` gave for the dataset.
    """
    try:
        data = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise _invalid(dataset, field) from None
    body, check = data[: _FORMAT.size], data[_FORMAT.size :]
    if len(body) != _FORMAT.size or check != _check(dataset, body) or body[0] != _VERSION:
        raise _invalid(dataset, field)
    _, epoch, sequence, row = _FORMAT.unpack(body)
    cursor = Cursor(epoch, sequence, row)
    if cursor.encode(dataset) != token:  # base64 has several ways to write the last byte
        raise _invalid(dataset, field)
    return cursor


def _check(dataset: str, body: bytes) -> bytes:
    return hashlib.blake2s(body + dataset.encode(), digest_size=_CHECK_BYTES).digest()


def _invalid(dataset: str, field: str) -> MarketDataError:
    return MarketDataError(
        reasons.ERROR_REASON_INVALID_CURSOR,
        f"{field}: not a cursor of {dataset}. Send one that a stream of this dataset gave, unchanged.",
        field=field,
    )
