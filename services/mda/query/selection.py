"""What a reader wants: instruments and kinds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from marketdata.columns import Batch, Kind

ALL_KINDS = frozenset(Kind)


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """Instruments and kinds. Made by `select`, so that readers who want the same have the same one.

    Attributes
    ----------
    ids
        The ids of the instruments; None for all, those to come too.
    kinds
        The kinds.
    """

    ids: frozenset[int] | None
    kinds: frozenset[Kind]

    @property
    def everything(self) -> bool:
        """Whether no row is left out."""
        return self.ids is None and self.kinds == ALL_KINDS

    def filter(self, batches: Sequence[Batch]) -> list[Batch]:
        """Return the wanted rows of batches, in their order; batches without any are left out."""
        kept: list[Batch] = []
        for batch in batches:
            if batch.kind not in self.kinds:
                continue
            if self.ids is None:
                kept.append(batch)
                continue
            wanted = np.isin(batch["instrument_id"], np.fromiter(self.ids, dtype=np.uint32))
            if wanted.all():
                kept.append(batch)
            elif wanted.any():
                kept.append(batch.take(wanted))
        return kept


@lru_cache(maxsize=1024)
def select(ids: frozenset[int] | None = frozenset(), kinds: frozenset[Kind] = ALL_KINDS) -> Selection:
    """Return the selection of instruments and kinds, by default of no instrument.

    What is made of an entry is kept by selection: to compare selections by what they
    hold, at each message of each reader, would cost more than the message.
    """
    return Selection(ids, kinds)
