"""Roles: names for the scopes that people of one task need. A client's tokens follow what a role becomes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

ADMIN: Final = "clients:admin"
"""The scope that makes clients."""


@dataclass(frozen=True, slots=True)
class Role:
    """A role.

    Attributes
    ----------
    description
        What it is for.
    scopes
        What it allows, sorted.
    """

    description: str
    scopes: tuple[str, ...]


ROLES: Final[Mapping[str, Role]] = {
    "admin": Role("Makes clients and API keys, and reads the audit log.", (ADMIN,)),
    "publisher": Role("Publishes rows.", ("quotes:publish",)),
    "reader": Role("Reads rows, live and old.", ("quotes:read",)),
    "steward": Role(
        "Looks after datasets: instruments, policies, rows set aside, the archive.",
        ("archive:write", "instruments:write", "quotes:read"),
    ),
}


def scopes_of(roles: Iterable[str]) -> frozenset[str]:
    """Return what roles allow together. A role that is no more allows nothing."""
    return frozenset(scope for name in roles if name in ROLES for scope in ROLES[name].scopes)
