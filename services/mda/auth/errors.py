"""What can go wrong in auth."""

from __future__ import annotations

from enum import StrEnum


class ErrorCode(StrEnum):
    """The `error` of a refused request: RFC 6749, section 5.2, one of section 4.1.2.1, one of RFC 8628."""

    INVALID_REQUEST = "invalid_request"
    INVALID_CLIENT = "invalid_client"
    UNAUTHORIZED_CLIENT = "unauthorized_client"
    UNSUPPORTED_GRANT_TYPE = "unsupported_grant_type"
    INVALID_SCOPE = "invalid_scope"
    TEMPORARILY_UNAVAILABLE = "temporarily_unavailable"
    SLOW_DOWN = "slow_down"


class OAuthError(Exception):
    """A token request is refused.

    Parameters
    ----------
    code
        The `error` to answer with.
    description
        The `error_description`: printable ASCII without double quotes and backslashes (RFC
        6749, section 5.2). Nothing that came in the request, which may be a secret in the wrong place.
    retry_after_s
        After how many seconds to come again, where that may help.
    """

    def __init__(self, code: ErrorCode, description: str, retry_after_s: int | None = None) -> None:
        super().__init__(f"{code}: {description}")
        self.code = code
        self.description = description
        self.retry_after_s = retry_after_s


class StoreUnavailableError(Exception):
    """The database does not answer now; the same call may succeed later."""
