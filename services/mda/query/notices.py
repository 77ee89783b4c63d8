"""What operators hear of gaps: log lines and counts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Final

import structlog

from marketdata.v1.gap_pb2 import Gap
from mda.runtime.telemetry import DAMAGE

_LOG: Final = structlog.stdlib.get_logger("mda.query")


def tell_gaps(dataset: str, sequence: int, gaps: Sequence[Gap]) -> None:
    """Log the gaps that an entry shows; of many of one sort that follow one another, one line."""
    for (cause, state, producer), group in groupby(gaps, key=lambda gap: (gap.cause, gap.state, gap.producer)):
        found = list(group)
        facts = {
            "dataset": dataset,
            "tape_sequence": sequence,
            "producer": producer,
            "first_number": found[0].first_sequence,
            "last_number": found[-1].last_sequence,
            "gaps": len(found),
        }
        if cause == Gap.CAUSE_TAPE_DAMAGED:
            DAMAGE.labels(dataset).inc(len(found))
            _LOG.error("the tape is damaged", **facts)
        elif cause == Gap.CAUSE_DISCONNECTED:
            lost = state == Gap.STATE_OPEN
            _LOG.warning("a producer lost its source" if lost else "a producer's source is there again", **facts)
        elif state == Gap.STATE_OPEN:
            _LOG.warning("sequence numbers are missing", **facts)
        else:
            _LOG.info("missing sequence numbers have come", **facts)
