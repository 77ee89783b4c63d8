"""Times as the API takes them: nanoseconds since the epoch, UTC.

>>> to_ns("2026-07-01")
1782864000000000000
>>> to_ns("2026-07-01T09:30:00.000000001-04:00")
1782912600000000001
"""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def to_ns(moment: str | datetime) -> int:
    """Return a moment in nanoseconds since the epoch.

    Parameters
    ----------
    moment
        RFC 3339 with up to nine places, a date, which is its midnight UTC, or a datetime
        with its time zone.

    Raises
    ------
    ValueError
        If it is none, or has no time zone.
    """
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise ValueError(f"{moment} has no time zone: datetime(…, tzinfo=UTC)")
        return (moment - _EPOCH) // _MICROSECOND * 1000
    parsed = Timestamp()
    parsed.FromJsonString(f"{date.fromisoformat(moment)}T00:00:00Z" if len(moment) == len("2026-07-01") else moment)
    return parsed.ToNanoseconds()


def ago_ns(**length: float) -> int:
    """Return the moment so long ago, as `ago_ns(hours=1)`: what `timedelta` takes."""
    return time.time_ns() - timedelta(**length) // _MICROSECOND * 1000
