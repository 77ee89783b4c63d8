"""What clients of each tier may use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Final

from mda.market.quotas import Quotas


class Tier(StrEnum):
    """How much a client may use."""

    FREE = "free"
    PRO = "pro"
    INTERNAL = "internal"


TIERS: Final[Mapping[Tier, Quotas]] = {
    Tier.FREE: Quotas(20, 5, 50, 10_000_000),
    Tier.PRO: Quotas(200, 100, 5_000, 10_000_000_000),
    Tier.INTERNAL: Quotas(10_000, 10_000),
}
"""Requests a second, streams, symbols of a stream, rows a day; what is not said has no limit."""


def quotas_of(tier: Tier, own: Quotas) -> Quotas:
    """Return what a client of a tier may use, where it may have limits of its own."""
    return replace(TIERS[tier], **own.claim())
