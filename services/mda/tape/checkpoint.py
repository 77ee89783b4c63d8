"""Checkpoints: the latest rows and the gaps of a dataset at a place on its tape.

A query replica that starts takes the newest one and reads the tape from there on. Losing
one costs time, never rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from nats.aio.client import Client

from marketdata.columns import Batch
from marketdata.v1.gap_pb2 import Gap
from mda.tape.log import Log, token_of
from mda.tape.payload import decode_with_snapshot, encode_gaps, encode_payload, encode_snapshot, split_payload

_EPOCH: Final = "Mda-Epoch"
_SEQUENCE: Final = "Mda-Sequence"
_CORRECTIONS_AFTER: Final = "Mda-Corrections-After"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What was known at a place.

    Attributes
    ----------
    sequence
        The place; 0 for the beginning.
    batches
        The latest rows.
    gaps
        The gaps that were noticed, oldest first.
    corrections
        The cancels and corrections of trades that are known, oldest first.
    corrections_after
        The place after which these are all; None where that was not noted, by an earlier version.
    """

    sequence: int = 0
    batches: Sequence[Batch] = ()
    gaps: Sequence[Gap] = ()
    corrections: Sequence[Batch] = ()
    corrections_after: int | None = 0


class Checkpoints:
    """The checkpoints of one dataset: the newest few, on a log of their own."""

    def __init__(self, client: Client, dataset: str) -> None:
        token = token_of(dataset)
        self._subject = f"checkpoint.{token}"
        self._log = Log(client, f"CHECKPOINT_{token}", self._subject)

    async def create(self, replicas: int) -> None:
        """Make the log, if it is not there."""
        await self._log.create(max_bytes=64 << 20, replicas=replicas, keep_s=7 * 86_400)

    async def newest(self, epoch: int) -> Checkpoint:
        """Return the newest checkpoint of a tape; that of its beginning, where there is none of that epoch."""
        record = await self._log.last(self._subject)
        if record is None or record.headers.get(_EPOCH) != str(epoch):
            return Checkpoint()
        gaps, rows = split_payload(record.data)
        batches, corrections = decode_with_snapshot(rows)
        after = record.headers.get(_CORRECTIONS_AFTER)
        sequence = int(record.headers[_SEQUENCE])
        return Checkpoint(sequence, batches, gaps, corrections, None if after is None else int(after))

    async def write(self, epoch: int, checkpoint: Checkpoint) -> None:
        """Write a checkpoint. Replicas may write at the same time: each one is true."""
        headers = {_EPOCH: str(epoch), _SEQUENCE: str(checkpoint.sequence)}
        if checkpoint.corrections_after is not None:
            headers[_CORRECTIONS_AFTER] = str(checkpoint.corrections_after)
        corrections = b"".join(map(encode_snapshot, checkpoint.corrections))
        data = encode_gaps(checkpoint.gaps) + encode_payload(checkpoint.batches) + corrections
        await self._log.append(self._subject, data, headers, None)
