"""A dataset's policy: what is done with rows that have a verdict, and what sequence numbers tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, cast

from google.protobuf.duration_pb2 import Duration

from marketdata.columns import NANOS
from marketdata.v1.policy_pb2 import Policy
from marketdata.v1.verdict_pb2 import Verdict
from mda.market.bits import bit

_DEFAULTS: Final = {
    "crossed": Policy.ACTION_FLAG,
    "locked": Policy.ACTION_IGNORE,
    "out_of_order": Policy.ACTION_FLAG,
    "stale": Policy.ACTION_FLAG,
    "future": Policy.ACTION_FLAG,
    "outlier": Policy.ACTION_FLAG,
    "duplicate_sequence": Policy.ACTION_IGNORE,
    "missing_side": Policy.ACTION_IGNORE,
    "unknown_instrument": Policy.ACTION_REJECT,
    "not_a_price": Policy.ACTION_REJECT,
}
"""By the policy's field, which is the verdict's name; the reasons stand in the proto."""


@dataclass(frozen=True, slots=True)
class Rules:
    """A policy as validation needs it: verdicts as bits, durations in nanoseconds.

    Attributes
    ----------
    flagged, set_aside, refused
        The verdicts whose rows are kept with their bit, set aside, or refused with their batch.
    stale_ns, future_ns
        From which age on, and from how far ahead on, a row has a verdict; None for never.
    outlier_share
        How far a price may be from the one before it, as a share of that; None for any.
    contiguous
        Whether a hole in a producer's sequence numbers is a gap.
    """

    flagged: int
    set_aside: int
    refused: int
    stale_ns: int | None
    future_ns: int | None
    outlier_share: float | None
    contiguous: bool = False

    @property
    def sought(self) -> int:
        """The verdicts that something is done about."""
        return self.flagged | self.set_aside | self.refused


def effective(policy: Policy) -> Policy:
    """Return a policy with every action and rule set."""
    result = Policy()
    result.CopyFrom(policy)
    for name, default in _DEFAULTS.items():
        if not getattr(policy, name):
            setattr(result, name, default)
    result.sequence_rule = policy.sequence_rule or Policy.SEQUENCE_RULE_NONE
    return result


def make_rules(policy: Policy) -> Rules:
    """Return the rules of a policy that keeps to its proto's limits."""
    whole = effective(policy)
    bits = {Policy.ACTION_FLAG: 0, Policy.ACTION_QUARANTINE: 0, Policy.ACTION_REJECT: 0, Policy.ACTION_IGNORE: 0}
    for name in _DEFAULTS:
        bits[getattr(whole, name)] |= bit(cast("Verdict", Verdict.Value(f"VERDICT_{name.upper()}")))
    return Rules(
        flagged=bits[Policy.ACTION_FLAG],
        set_aside=bits[Policy.ACTION_QUARANTINE],
        refused=bits[Policy.ACTION_REJECT],
        stale_ns=_nanos(policy.stale_after) if policy.HasField("stale_after") else None,
        future_ns=_nanos(policy.future_after) if policy.HasField("future_after") else None,
        outlier_share=policy.outlier_basis_points / 10_000 if policy.outlier_basis_points else None,
        contiguous=policy.sequence_rule == Policy.SEQUENCE_RULE_CONTIGUOUS,
    )


def _nanos(duration: Duration) -> int:
    return duration.seconds * NANOS + duration.nanos


DEFAULT_RULES: Final = make_rules(Policy())
"""The rules of a dataset for which nobody has set a policy."""
