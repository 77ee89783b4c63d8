"""Page tokens of lists: the place after which a page begins."""

from __future__ import annotations

import base64
import binascii

from mda.market.errors import invalid_field


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
    return int.from_bytes(decode_token(token, 8)) if token else 0


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
        raise invalid_field(
            "page_token",
            "page_token",
            "page_token: not a token of this list. Send `next_page_token` of the page before.",
        )
    return place
