"""Page tokens of lists: the place after which a page begins."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from mda.market.errors import MarketDataError, invalid_field

_LARGEST: Final = (1 << 63) - 1
"""The largest id: databases number with 64 bits and a sign."""


def encode_page(after_id: int) -> str:
    """Return the token of the page after an id."""
    return encode_token(after_id.to_bytes(8))


def decode_page(token: str) -> int:
    """Return the id after which a page begins; 0 for the empty token.

    Raises
    ------
    MarketDataError
        INVALID_FIELD if `encode_page` did not give the token.
    """
    after_id = int.from_bytes(decode_token(token, 8)) if token else 0
    if after_id > _LARGEST:
        raise not_a_token()
    return after_id


def encode_token(place: bytes) -> str:
    """Return the token of the page after a place in a list."""
    return base64.urlsafe_b64encode(place).rstrip(b"=").decode()


def decode_token(token: str, size: int) -> bytes:
    """Return the place of `size` bytes that a token is of.

    Raises
    ------
    MarketDataError
        INVALID_FIELD if `encode_token` did not give the token.
    """
    try:
        place = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        place = b""
    if len(place) != size or encode_token(place) != token:  # base64 has several ways to write the last byte
        raise not_a_token()
    return place


def not_a_token() -> MarketDataError:
    """Return the error for a token that the list did not give."""
    return invalid_field(
        "page_token",
        "page_token",
        "page_token: not a token of this list. Send `next_page_token` of the page before.",
    )
