"""What a reader wants: instruments and kinds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from marketdata.columns import Batch, Kind

ALL_KINDS = frozenset(Kind)


@dataclass(frozen=True, slots=True)
class Selection:
    """Instruments and kinds. Readers that want the same share what is made for them.

    Attributes
    ----------
    ids
        The ids of the instruments; None for all, those to come too.
    kinds
        The kinds.
    """

    ids: frozenset[int] | None = frozenset()
    kinds: frozenset[Kind] = ALL_KINDS

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
