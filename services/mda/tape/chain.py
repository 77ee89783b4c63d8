"""The hash chain of a producer's entries: what is damaged or missing shows.

Each entry carries a hash of itself and of the producer's entry before it. The hash
(XXH3, 128 bits) finds accidents, as a checksum does; it is no seal against somebody who
may write to the tape.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import xxhash

_MOST_PRODUCERS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Link:
    """Where an entry is in its producer's chain.

    Attributes
    ----------
    previous
        The hash of the producer's entry before it; empty for its first.
    salt
        As in `make_link`.
    hash
        Its own, of its producer, of `previous` and all that the entry says.
    """

    previous: str
    salt: str
    hash: str


def make_link(producer: str, previous: str, facts: Iterable[int | str], payload: bytes, salt: str = "") -> Link:
    """Return the link of a producer's next entry.

    Parameters
    ----------
    producer
        Whose entry it is: equal entries of two producers are two entries.
    previous
        The hash of the entry before it.
    facts, payload
        What the entry says.
    salt
        Tells apart entries that would be equal, such as the claims of two connections.
    """
    head = " ".join([producer, previous, salt, *map(str, facts)])
    state = xxhash.xxh3_128(f"{head}\n".encode())
    state.update(payload)
    return Link(previous, salt, state.hexdigest())


class Chains:
    """Follows the chains of all producers of a tape.

    Remembers the newest 10,000 producers; the chain of one that was quiet for longer is
    taken up where it is met again.
    """

    def __init__(self) -> None:
        self._newest: OrderedDict[str, tuple[str, int]] = OrderedDict()

    def take(self, producer: str, found: Link, last_number: int) -> int | None:
        """Take the link of a producer's next entry, and the number of its last batch.

        Returns
        -------
        int or None
            Where it does not follow the entry before it: the number of the last batch
            before the break. None where it does, or where no entry before it is known.
        """
        before = self._newest.pop(producer, None)
        self._newest[producer] = (found.hash, last_number)
        if len(self._newest) > _MOST_PRODUCERS:
            self._newest.popitem(last=False)
        return None if before is None or before[0] == found.previous else before[1]
