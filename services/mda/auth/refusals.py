"""Refusals in the audit log: the same one at most once a minute, so that nobody fills the log by asking again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from datetime import datetime, timedelta
from typing import Final, Protocol

from mda.auth.errors import StoreUnavailableError
from mda.auth.records import Event

ONCE_IN: Final = timedelta(minutes=1)
"""The same refusal is put down at most this often."""
_MOST: Final = 20_000


class EventStore(Protocol):
    """Where events are put down."""

    def note(self, event: Event) -> None:
        """Add an event to the audit log."""
        ...


class Refusals:
    """Puts refusals in the audit log. Safe to use from any thread; each process counts for itself.

    Parameters
    ----------
    store
        Where the audit log is.
    """

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._noted: OrderedDict[tuple[object, ...], datetime] = OrderedDict()
        self._lock = threading.Lock()

    def note(self, event: Event) -> None:
        """Put down a refusal, unless the same one, in all but its time, was put down a moment ago.

        Raises
        ------
        StoreUnavailableError
            If the store does not answer.
        """
        what = event.actor, event.action, event.subject, *sorted(event.details.items())
        if not self._is_due(what, event.at):
            return
        try:
            self._store.note(event)
        except StoreUnavailableError:
            self._forget(what)
            raise

    def _is_due(self, what: tuple[object, ...], at: datetime) -> bool:
        with self._lock:
            last = self._noted.get(what)
            if last is not None and at - last < ONCE_IN:
                return False
            self._noted[what] = at
            self._noted.move_to_end(what)
            if len(self._noted) > _MOST:
                self._noted.popitem(last=False)
            return True

    def _forget(self, what: tuple[object, ...]) -> None:
        with self._lock:
            self._noted.pop(what, None)
