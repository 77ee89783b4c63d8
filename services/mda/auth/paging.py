"""Page tokens of lists that are in order of age."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import datetime

from mda.market.errors import invalid_field


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page ends.

    Attributes
    ----------
    at
        When the last of its items was made; aware.
    id
        The id of that.
    """

    at: datetime
    id: str

    def encode(self) -> str:
        """Return the token of the page after."""
        return base64.urlsafe_b64encode(json.dumps([self.at.isoformat(), self.id]).encode()).rstrip(b"=").decode()


def decode_place(token: str) -> Place | None:
    """Return the place after which a page begins; None for the empty token.

    Raises
    ------
    MarketDataError
        INVALID_FIELD if `Place.encode` did not give the token.
    """
    if not token:
        return None
    try:
        at, id_ = json.loads(base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True))
        place = Place(datetime.fromisoformat(at), id_)
        if place.encode() == token:
            return place
    except (binascii.Error, ValueError, TypeError):
        pass
    raise invalid_field(
        "page_token", "page_token", "page_token: not a token of this list. Send `next_page_token` of the page before."
    )
