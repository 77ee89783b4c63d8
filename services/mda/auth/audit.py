"""The audit log: entries in one order, each with the hash of the one before it."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from mda.auth.records import Event

FIRST_HASH: Final = "0" * 64
"""What the first entry has as the hash of the one before it."""
_WITHIN_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Entry:
    """An event in its place.

    Attributes
    ----------
    sequence
        Its place: 1, 2, 3 …
    event
        What happened.
    previous_hash
        The hash of the entry before.
    hash
        The hash of all that, in hex.
    """

    sequence: int
    event: Event
    previous_hash: str
    hash: str


@dataclass(frozen=True, slots=True)
class Known:
    """An entry that was noted earlier, and so should be in the log.

    Attributes
    ----------
    sequence, hash
        Its place and its hash.
    """

    sequence: int
    hash: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a log stands.

    Attributes
    ----------
    entries
        How many entries are good, from the beginning on.
    head_hash
        The hash of the last of them.
    problem
        What is wrong, for people; empty if nothing is.
    complete
        Whether the log was looked at up to its end, or to what is wrong.
    """

    entries: int = 0
    head_hash: str = FIRST_HASH
    problem: str = ""
    complete: bool = True


def chained(event: Event, sequence: int, previous_hash: str) -> Entry:
    """Return an event as the entry after another one."""
    return Entry(sequence, event, previous_hash, _hash(event, sequence, previous_hash))


def verify(
    entries: Iterable[Entry],
    known: Known | None = None,
    after: Known | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Verdict:
    """Check a log, or as much of it as can be read in about two seconds.

    Parameters
    ----------
    entries
        The log in order: all of it, or from `after` on.
    known
        An entry that should be in it; one before `after` is not looked at.
    after
        An entry up to which the log has been found good; it is looked at, too, as the log
        may have been cut off there.
    clock
        A monotonic clock, in seconds.
    """
    deadline = clock() + _WITHIN_S
    rest = iter(entries)
    verdict = Verdict() if after is None else _gone_on(next(rest, None), known, after)
    if verdict.problem:
        return verdict
    for entry in rest:
        problem = _problem(entry, verdict, known)
        if problem:
            return replace(verdict, problem=problem)
        verdict = Verdict(entry.sequence, entry.hash)
        if clock() > deadline:
            return replace(verdict, complete=False)
    if known is not None and known.sequence > verdict.entries:
        return replace(verdict, problem=f"entry {known.sequence} is missing: the log ends with {verdict.entries}")
    return verdict


def _gone_on(entry: Entry | None, known: Known | None, after: Known) -> Verdict:
    if entry is None or entry.sequence != after.sequence:
        return Verdict(problem=f"entry {after.sequence} is missing")
    problem = _unlike(entry, after) or _unlike(entry, known)
    return Verdict(problem=problem) if problem else Verdict(entry.sequence, entry.hash)


def _unlike(entry: Entry, known: Known | None) -> str:
    if known is None or entry.sequence != known.sequence or entry.hash == known.hash:
        return ""
    return f"entry {entry.sequence} is not the one that is known"


def _problem(entry: Entry, before: Verdict, known: Known | None) -> str:
    if entry.sequence != before.entries + 1:
        return f"entry {before.entries + 1} is missing"
    if entry.previous_hash != before.head_hash:
        return f"entry {entry.sequence} does not go on from the entry before it"
    if entry.hash != _hash(entry.event, entry.sequence, entry.previous_hash):
        return f"entry {entry.sequence} has been changed"
    return _unlike(entry, known)


def _hash(event: Event, sequence: int, previous_hash: str) -> str:
    content = [
        sequence,
        _text(event.at),
        event.actor,
        event.action,
        event.subject,
        event.refused,
        dict(event.details),
        previous_hash,
    ]
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")
