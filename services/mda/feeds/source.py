"""What a live source of market data is: the interface that all of them have, and that yours can have, too."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from marketdata.columns import Batch, Kind
from marketdata.v1.instrument_pb2 import Instrument


class Rule(Enum):
    """What the `sequence` of a source's rows tells, of the rows of one kind of one instrument.

    NONE
        Nothing. Rows are taken as they come.
    RISING
        It goes up, not by one: what is not above the newest was there before.
    CONTIGUOUS
        It goes up by one: a hole is a gap.
    TIMED
        Nothing, but times of events do not go back, and what comes again comes whole and in
        the same order: rows are known by their time, and by their count at that time.
    """

    NONE = "none"
    RISING = "rising"
    CONTIGUOUS = "contiguous"
    TIMED = "timed"


class SourceError(Exception):
    """Something that breaks a connection to a source, and may be over after a while.

    Parameters
    ----------
    message
        What is wrong, for people.
    retry_after_s
        How long to wait at least, in seconds, where the source says so.
    """

    def __init__(self, message: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RefusedError(SourceError):
    """A source that will never give what was asked for: a symbol or a key that it does not know."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The source is connected, and sends what it was asked for: first on each connection. Rows may come again."""


@dataclass(frozen=True, slots=True)
class Alive:
    """The connection is well, and there is nothing to tell."""


@dataclass(frozen=True, slots=True)
class Newest:
    """The source says which number is the newest of an instrument: those up to it should have come.

    Attributes
    ----------
    kind, instrument_id
        Whose.
    sequence
        The number.
    """

    kind: Kind
    instrument_id: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Listed:
    """Instruments that the source has, too. Their ids are known when the next update is asked for.

    Attributes
    ----------
    instruments
        By symbol.
    """

    instruments: Sequence[Instrument]


Update = Batch | Connected | Alive | Newest | Listed


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a source stands with one instrument and kind.

    Attributes
    ----------
    time_ns
        The event time of the newest row, in nanoseconds UTC.
    number
        Its `sequence`; where the rule is TIMED, how many rows there were at that time.
    """

    time_ns: int
    number: int


Standings = Mapping[tuple[Kind, int], Standing]
"""By kind and instrument id."""


class Source(ABC):
    """A live source.

    What it needs to do is to connect, and to yield what comes. Whatever breaks it raises;
    `mda.feeds.feed.Feed` connects again, looks at numbers, tells of gaps, publishes, and
    waits where the tape is slow.

    Attributes
    ----------
    name
        What the producer is called, where nobody says.
    rules
        What the numbers of each kind tell.
    tells_breaks
        Whether a broken connection means that nobody knows what happened meanwhile. It does
        not where rows are made up, or lie in a file.
    silence_s
        After how many seconds without any update a connection is broken.
    """

    name: ClassVar[str]
    rules: Mapping[Kind, Rule] = {Kind.QUOTE: Rule.NONE, Kind.TRADE: Rule.NONE}
    tells_breaks: ClassVar[bool] = True
    silence_s: float = 60.0

    @abstractmethod
    async def instruments(self) -> Sequence[Instrument]:
        """Return what is to be published, by symbol: asked for once, when the feed starts.

        Raises
        ------
        SourceError
            If the source does not answer; it is asked again.
        RefusedError
            If it does not know a symbol.
        """

    @abstractmethod
    def updates(self, ids: Mapping[str, int], standings: Standings) -> AsyncGenerator[Update]:
        """Connect, and yield what comes: `Connected`, then batches and other updates.

        Batches have their instruments' ids, of which there is one for each symbol of
        `instruments`, and of each `Listed` before. Whoever asks for the next update has published those before, or has
        them in a buffer that is bounded: do not read ahead without bound. The end of the
        generator is the end of the source, after which the feed stops.

        Parameters
        ----------
        ids
            The dataset's id of each symbol.
        standings
            Where the rows that were published end, in this process or one before: a source
            that can begin in the past begins there, and may repeat rows.

        Raises
        ------
        SourceError
            If the connection breaks.
        RefusedError
            If it is of no use to try again.
        """

    async def recover(self, kind: Kind, symbol: str, first: int, last: int, ids: Mapping[str, int]) -> Sequence[Batch]:
        """Return rows with the numbers from `first` to `last` of an instrument, or as many as there are.

        What is missing still, and whatever comes after an error, becomes a gap.

        Raises
        ------
        SourceError
            If the source does not give them.
        """
        del kind, symbol, first, last, ids
        return ()
