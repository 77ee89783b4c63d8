"""One `Publish` stream: numbered batches in, acknowledgements out, in order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import DecodeError

from marketdata.columns import MAX_ROWS, ColumnError, from_message
from marketdata.ingestion.v1.ingestion_service_pb2 import PublishRequest
from marketdata.v1 import error_reason_pb2 as reasons
from marketdata.wire import parse
from mda.ingestion.appender import Appender
from mda.ingestion.commit import CommitQueue, Numbered, first_error, prepare
from mda.ingestion.datasets import Dataset
from mda.market.errors import MarketDataError
from mda.tape.tape import Entry

_TYPE: Final = "marketdata.ingestion.v1.PublishRequest"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one batch.

    Attributes
    ----------
    number
        Its number.
    sequence
        The sequence number of its entry on the tape; 0 if it was there before.
    flagged_rows
        How many of its rows have a verdict.
    """

    number: int
    sequence: int
    flagged_rows: int


def read_request(data: bytes) -> Any:
    """Parse a producer's message into its view.

    Raises
    ------
    MarketDataError
        MALFORMED_MESSAGE.
    """
    try:
        return parse(PublishRequest, data)
    except DecodeError:
        raise MarketDataError(
            reasons.ERROR_REASON_MALFORMED_MESSAGE,
            f"The bytes are not a {_TYPE}. Send the message that the contract describes.",
            type=_TYPE,
        ) from None


def read_batch(message: Any) -> Numbered:
    """Return the numbered batch of a producer's message.

    Raises
    ------
    MarketDataError
        OUT_OF_TURN, EMPTY_BATCH, BATCH_TOO_LARGE or RAGGED_COLUMN.
    """
    if message.WhichOneof("message") != "batch":
        raise out_of_turn("open", "Only the first message opens; after it send `batch` messages.")
    rows = message.batch.batch.rows
    if rows > MAX_ROWS:
        raise MarketDataError(
            reasons.ERROR_REASON_BATCH_TOO_LARGE,
            f"batch.rows: {rows} rows are too many for one batch. Send at most {MAX_ROWS}.",
            field="batch.rows",
            rows=rows,
            limit=MAX_ROWS,
        )
    try:
        return Numbered(message.batch.number, from_message(message.batch.batch))
    except ColumnError as error:
        raise _of_column(error) from None


def out_of_turn(field: str, message: str) -> MarketDataError:
    """Return the error for a message that comes where it may not."""
    return MarketDataError(reasons.ERROR_REASON_OUT_OF_TURN, message, field=field)


def _of_column(error: ColumnError) -> MarketDataError:
    if error.field == "rows":
        return MarketDataError(
            reasons.ERROR_REASON_EMPTY_BATCH,
            "batch.rows: the batch has no rows or no columns. Send at least one row, of one kind.",
            field="batch.rows",
        )
    return MarketDataError(
        reasons.ERROR_REASON_RAGGED_COLUMN,
        f"batch.{error}. Send one value for each row, or leave out a column that may be left out.",
        field=f"batch.{error.field}",
        rows=error.rows,
        values=f"{error.values:g}",
    )


class Publication:
    """The state of one `Publish` stream.

    `submit` takes batches in, `outcomes` gives what became of them; the two run at the
    same time, so that while a group is being made durable the next one gathers.
    """

    def __init__(self, dataset: Dataset, producer: str) -> None:
        self._dataset = dataset
        self._appender = Appender(dataset.tape, producer)
        self._queue = CommitQueue()
        self._last_taken = 0

    async def open(self) -> int:
        """Look up where the producer stands; return the number of its last batch."""
        await self._appender.open()
        self._last_taken = self._appender.last_number
        return self._last_taken

    async def submit(self, item: Numbered) -> None:
        """Take a batch in; wait while too many rows wait for the tape.

        Raises
        ------
        MarketDataError
            BATCH_OUT_OF_SEQUENCE if a number was left out.
        """
        if item.number > self._last_taken + 1 or item.number == 0:
            raise MarketDataError(
                reasons.ERROR_REASON_BATCH_OUT_OF_SEQUENCE,
                f"batch.number: {item.number} is not the next number. Send from {self._last_taken + 1} on.",
                field="batch.number",
                number=item.number,
                next=self._last_taken + 1,
            )
        self._last_taken = max(self._last_taken, item.number)
        await self._queue.put(item)

    def close(self, error: Exception | None = None) -> None:
        """Take no more batches; with an error, fail with it after those taken."""
        self._queue.close(error)

    async def outcomes(self) -> AsyncIterator[list[Outcome]]:
        """Yield what became of the batches, in their order, group by group.

        Raises
        ------
        MarketDataError
            That of a batch that may not go on the tape, of the tape, or of `close`.
        """
        while group := await self._queue.take():
            last = self._appender.last_number
            known = [Outcome(item.number, 0, 0) for item in group if item.number <= last]
            if known:
                yield known
            fresh, again = _split(group, last)
            if not fresh:
                continue
            failure = await first_error(self._dataset, [item.batch for item in fresh])
            good = fresh if failure is None else fresh[: failure[0]]
            if good:
                yield await self._append(good)
            if failure is not None:
                raise failure[1]
            if again:
                yield again

    async def _append(self, group: list[Numbered]) -> list[Outcome]:
        prepared = prepare(self._dataset, [item.batch for item in group])
        entry = Entry(group[0].number, group[-1].number, self._dataset.directory.version, prepared.payload)
        try:
            sequence = await self._appender.append(entry)
        except BaseException:
            self._dataset.forget_times()  # the rows may come again, and are not late then
            raise
        return [
            Outcome(item.number, sequence, flagged) for item, flagged in zip(group, prepared.flagged_rows, strict=True)
        ]


def _split(group: list[Numbered], last: int) -> tuple[list[Numbered], list[Outcome]]:
    """Return a group's batches after a number, each once, and the outcomes of those that it holds again."""
    fresh: list[Numbered] = []
    again: list[Outcome] = []
    newest = last
    for item in group:
        if item.number > newest:
            fresh.append(item)
            newest = item.number
        elif item.number > last:
            again.append(Outcome(item.number, 0, 0))
    return fresh, again
