"""Checkpoints: the latest rows of a dataset at a place on its tape.

A query replica that starts takes the newest one and reads the tape from there on. Losing
one costs time, never rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from nats.aio.client import Client

from marketdata.columns import Batch
from mda.tape.log import Log
from mda.tape.payload import decode_payload, encode_payload

_EPOCH: Final = "Mda-Epoch"
_SEQUENCE: Final = "Mda-Sequence"


class Checkpoints:
    """The checkpoints of one dataset: the newest few, on a log of their own."""

    def __init__(self, client: Client, dataset: str) -> None:
        token = dataset.replace(".", "~")
        self._subject = f"checkpoint.{token}"
        self._log = Log(client, f"CHECKPOINT_{token}", self._subject)

    async def create(self, replicas: int) -> None:
        """Make the log, if it is not there."""
        await self._log.create(max_bytes=64 << 20, replicas=replicas, keep_s=7 * 86_400)

    async def newest(self, epoch: int) -> tuple[int, list[Batch]]:
        """Return the newest checkpoint of a tape: its place, and the latest rows there.

        Place 0 and no rows, where there is none of that epoch.
        """
        record = await self._log.last(self._subject)
        if record is None or record.headers.get(_EPOCH) != str(epoch):
            return 0, []
        return int(record.headers[_SEQUENCE]), decode_payload(record.data)

    async def write(self, epoch: int, sequence: int, batches: Sequence[Batch]) -> None:
        """Write a checkpoint. Replicas may write at the same time: each one is true."""
        headers = {_EPOCH: str(epoch), _SEQUENCE: str(sequence)}
        await self._log.append(self._subject, encode_payload(batches), headers, None)
