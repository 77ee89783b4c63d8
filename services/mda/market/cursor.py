"""Cursors: a place on a tape, as an opaque token."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import struct
from dataclasses import dataclass
from typing import Final

from marketdata.v1 import error_reason_pb2 as reasons
from mda.market.errors import MarketDataError

_VERSION: Final = 2
_FORMAT: Final = struct.Struct("<BQQI")
_SEAL_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Cursor:
    """The place after a row.

    Attributes
    ----------
    epoch
        Which making of the tape: a tape that is deleted and made again has another.
    sequence
        The sequence number of the last entry before the place.
    mark
        Part of that entry's hash, which tells whether the tape still holds that entry
        there, and not another; 0 where it is not known.
    """

    epoch: int
    sequence: int
    mark: int = 0

    def encode(self, dataset: str, key: bytes) -> str:
        """Return the token: base64url, 39 characters, good for this dataset only, sealed with a key."""
        body = _FORMAT.pack(_VERSION, self.epoch, self.sequence, self.mark)
        return base64.urlsafe_b64encode(body + _seal(dataset, body, key)).rstrip(b"=").decode()


def decode_cursor(token: str, dataset: str, field: str, key: bytes) -> Cursor:
    """Return the place that a token stands for.

    Raises
    ------
    MarketDataError
        INVALID_CURSOR if it is not a token that `Cursor.encode` gave for the dataset with
        that key.
    """
    try:
        data = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise _invalid(dataset, field) from None
    body, seal = data[: _FORMAT.size], data[_FORMAT.size :]
    if len(body) != _FORMAT.size or not hmac.compare_digest(seal, _seal(dataset, body, key)):
        raise _invalid(dataset, field)
    version, epoch, sequence, mark = _FORMAT.unpack(body)
    cursor = Cursor(epoch, sequence, mark)
    if version != _VERSION or cursor.encode(dataset, key) != token:  # base64 has several ways to write the last byte
        raise _invalid(dataset, field)
    return cursor


def _seal(dataset: str, body: bytes, key: bytes) -> bytes:
    return hashlib.blake2s(body + dataset.encode(), digest_size=_SEAL_BYTES, key=key).digest()


def _invalid(dataset: str, field: str) -> MarketDataError:
    return MarketDataError(
        reasons.ERROR_REASON_INVALID_CURSOR,
        f"{field}: not a cursor of {dataset}. Send one that a stream of this dataset gave, unchanged.",
        field=field,
    )
