"""Page tokens of lists that are in order of age."""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from mda.market.pages import not_a_token

_ID: Final = re.compile(r"[0-9a-z_]{1,32}")


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
    place = _decoded(token)
    if place is None or place.encode() != token:
        raise not_a_token()
    return place


def _decoded(token: str) -> Place | None:
    """Return the place of a token that anybody may have made; None if no item can be there."""
    try:
        at, id_ = json.loads(base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True))
        place = Place(datetime.fromisoformat(at), id_)
        known = _ID.fullmatch(id_) is not None
    except (binascii.Error, ValueError, TypeError, RecursionError):
        return None
    # In UTC, as all times are that come from the database: others may be of a year that it does not know.
    return place if known and place.at.utcoffset() == timedelta() else None
