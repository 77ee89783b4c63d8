"""Page tokens of lists that are in order of an id."""

from __future__ import annotations

import base64
import binascii

from mda.market.errors import invalid_field


def encode_page(after_id: int) -> str:
    """Return the token of the page after an id."""
    return base64.urlsafe_b64encode(after_id.to_bytes(8)).rstrip(b"=").decode()


def decode_page(token: str) -> int:
    """Return the id after which a page begins; 0 for the empty token.

    Raises
    ------
    MarketDataError
        INVALID_FIELD if `encode_page` did not give the token.
    """
    if not token:
        return 0
    try:
        data = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if len(data) != 8 or encode_page(int.from_bytes(data)) != token:  # base64 has several ways to write the last byte
        raise invalid_field(
            "page_token",
            "page_token",
            "page_token: not a token of this list. Send `next_page_token` of the page before.",
        )
    return int.from_bytes(data)
