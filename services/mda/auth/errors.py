"""What can go wrong in auth."""

from __future__ import annotations

from enum import StrEnum


class ErrorCode(StrEnum):
    """The `error` of a refused token request: RFC 6749, section 5.2, and one of section 4.1.2.1."""

    INVALID_REQUEST = "invalid_request"
    INVALID_CLIENT = "invalid_client"
    UNAUTHORIZED_CLIENT = "unauthorized_client"
    UNSUPPORTED_GRANT_TYPE = "unsupported_grant_type"
    INVALID_SCOPE = "invalid_scope"
    TEMPORARILY_UNAVAILABLE = "temporarily_unavailable"


class OAuthError(Exception):
    """A token request is refused.

    Parameters
    ----------
    code
        The `error` to answer with.
    description
        The `error_description`: printable ASCII without double quotes and backslashes (RFC
        6749, section 5.2). Nothing that came in the request, which may be a secret in the wrong place.
    """

    def __init__(self, code: ErrorCode, description: str) -> None:
        super().__init__(f"{code}: {description}")
        self.code = code
        self.description = description


class StoreUnavailableError(Exception):
    """The database does not answer now; the same call may succeed later."""
