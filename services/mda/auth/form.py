"""The requests of RFC 6749 (section 4.4.2), 7009 and 7662, taken apart: the form, and the client's id and secret."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, unquote_to_bytes

from mda.auth.errors import ErrorCode, OAuthError

CONTENT_TYPE: Final = "application/x-www-form-urlencoded"
MAX_BODY_BYTES: Final = 16 * 1024
_MAX_FIELDS: Final = 64
_PARAMETERS: Final = frozenset({"grant_type", "scope", "client_id", "client_secret", "token", "token_type_hint"})


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A request to the token endpoint, or one of those beside it, as it came.

    Attributes
    ----------
    content_type
        The media type of the body.
    body
        The form.
    authorization
        All `authorization` headers.
    address
        The network address of who sent it.
    """

    content_type: str
    body: bytes = field(repr=False)
    authorization: Sequence[str] = field(default=(), repr=False)
    address: str = ""


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """What a client shows to prove who it is: OAuth's `client_id` and `client_secret`."""

    client_id: str
    client_secret: str = field(repr=False)


def parse_form(request: TokenRequest) -> Mapping[str, str]:
    """Return the parameters of a form that OAuth knows. One without a value is left out.

    Raises
    ------
    OAuthError
        invalid_request, if it is not a form, is too long, is not UTF-8 or repeats a parameter.
    """
    media_type = request.content_type.partition(";")[0].strip().lower()
    if media_type != CONTENT_TYPE:
        raise _invalid_request(f"the content type must be {CONTENT_TYPE}")
    if len(request.body) > MAX_BODY_BYTES:
        raise _invalid_request(f"the form is longer than {MAX_BODY_BYTES} bytes")
    parameters: dict[str, str] = {}
    for name, value in _fields(request.body):
        # Unknown parameters are to be ignored (section 3.2), also where they are repeated:
        # extensions have some that may be, such as `resource` (RFC 8707).
        if name not in _PARAMETERS:
            continue
        if name in parameters:
            raise _invalid_request(f"the parameter {name} is there more than once")
        parameters[name] = value
    # Section 3.2: a parameter without a value counts as left out.
    return {name: value for name, value in parameters.items() if value}


def client_credentials(request: TokenRequest, form: Mapping[str, str]) -> ClientCredentials:
    """Return the client's id and secret, from HTTP Basic or from the form.

    Parameters
    ----------
    request
        The request.
    form
        Its parameters, from `parse_form`.

    Raises
    ------
    OAuthError
        invalid_request, if both ways are used at once or what came is malformed;
        invalid_client, if there is no id and secret.
    """
    if len(request.authorization) > 1:
        raise _invalid_request("there is more than one authorization header")
    if not request.authorization:
        return _from_form(form)
    credentials = parse_basic(request.authorization[0])
    if "client_secret" in form:
        raise _invalid_request("send the client's id and secret by HTTP Basic or in the form, not both")
    if form.get("client_id", credentials.client_id) != credentials.client_id:
        raise _invalid_request("the client_id of the form is not that of the authorization header")
    return credentials


def parse_basic(authorization: str) -> ClientCredentials:
    """Return the id and secret of an `authorization` header (RFC 6749, section 2.3.1).

    Raises
    ------
    OAuthError
        invalid_client, if it is not HTTP Basic, or is malformed.
    """
    scheme, _, encoded = authorization.strip().partition(" ")
    if scheme.lower() != "basic":
        raise _invalid_client("of the authorization header's schemes, only Basic is supported here")
    try:
        pair = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        raise _invalid_client("the authorization header is not base64 of <client_id>:<client_secret>") from None
    client_id, colon, client_secret = pair.partition(":")
    if not colon:
        raise _invalid_client("the authorization header lacks the colon between client_id and client_secret")
    return _checked(_form_decode(client_id), _form_decode(client_secret))


def _fields(body: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except UnicodeDecodeError:
        raise _invalid_request("the form is not UTF-8") from None
    except ValueError:
        raise _invalid_request(f"the form has more than {_MAX_FIELDS} fields") from None


def _from_form(form: Mapping[str, str]) -> ClientCredentials:
    return _checked(form.get("client_id", ""), form.get("client_secret", ""))


def _form_decode(text: str) -> str:
    try:
        return unquote_to_bytes(text.replace("+", " ")).decode()
    except UnicodeDecodeError:
        raise _invalid_client("the client_id or client_secret of the authorization header is not UTF-8") from None


def _checked(client_id: str, client_secret: str) -> ClientCredentials:
    if not client_id:
        raise _invalid_client("the client_id is missing: send the API key's id and secret by HTTP Basic or in the form")
    if not client_secret:
        raise _invalid_client("the client_secret is missing: send it by HTTP Basic or in the form")
    # RFC 6749, appendices A.1 and A.2. A database may also refuse some of the others, such as NUL.
    if not all(character.isascii() and character.isprintable() for character in client_id + client_secret):
        raise _invalid_client("the client_id or client_secret has characters other than printable ASCII")
    return ClientCredentials(client_id, client_secret)


def _invalid_request(description: str) -> OAuthError:
    return OAuthError(ErrorCode.INVALID_REQUEST, description)


def _invalid_client(description: str) -> OAuthError:
    return OAuthError(ErrorCode.INVALID_CLIENT, description)
