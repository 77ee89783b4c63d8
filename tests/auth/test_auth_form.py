"""The form and HTTP Basic, taken apart."""

from __future__ import annotations

import base64
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mda.auth.errors import ErrorCode, OAuthError
from mda.auth.form import (
    CONTENT_TYPE,
    MAX_BODY_BYTES,
    ClientCredentials,
    TokenRequest,
    client_credentials,
    parse_basic,
    parse_form,
)

KNOWN = ("grant_type", "scope", "client_id", "client_secret")
VISIBLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=80)
VALUES = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=80)


def form_of(body: bytes, content_type: str = CONTENT_TYPE) -> dict[str, str]:
    return dict(parse_form(TokenRequest(content_type, body)))


def basic(client_id: str, client_secret: str) -> str:
    return "Basic " + base64.b64encode(f"{client_id}:{client_secret}".encode()).decode()


def refused(body: bytes, content_type: str = CONTENT_TYPE) -> OAuthError:
    with pytest.raises(OAuthError) as caught:
        form_of(body, content_type)
    return caught.value


def basic_refused(authorization: str) -> OAuthError:
    with pytest.raises(OAuthError) as caught:
        parse_basic(authorization)
    return caught.value


@given(st.dictionaries(st.sampled_from(KNOWN), VALUES))
def test_what_is_encoded_comes_back(parameters: dict[str, str]) -> None:
    assert form_of(urlencode(parameters).encode()) == parameters


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(body: bytes) -> None:
    code, form = ErrorCode.INVALID_REQUEST, {}
    try:
        form = form_of(body)
    except OAuthError as error:
        code = error.code
    assert code is ErrorCode.INVALID_REQUEST
    assert form.keys() <= set(KNOWN)
    assert all(form.values())


def test_spaces_come_as_plus_or_percent() -> None:
    assert form_of(b"scope=a+b%20c") == {"scope": "a b c"}


def test_bytes_that_are_utf8_need_no_percent() -> None:
    assert form_of("scope=é".encode()) == {"scope": "é"}


@pytest.mark.parametrize(
    "content_type",
    [
        "application/x-www-form-urlencoded; charset=UTF-8",
        "Application/X-WWW-Form-URLEncoded",
        " application/x-www-form-urlencoded ;a=b",
    ],
)
def test_content_types_that_are_a_form(content_type: str) -> None:
    assert form_of(b"scope=a", content_type) == {"scope": "a"}


@pytest.mark.parametrize(
    "content_type", ["", "application/json", "text/plain", "multipart/form-data", CONTENT_TYPE + "x"]
)
def test_content_types_that_are_not(content_type: str) -> None:
    error = refused(b"scope=a", content_type)
    assert (error.code, error.description) == (
        ErrorCode.INVALID_REQUEST,
        "the content type must be application/x-www-form-urlencoded",
    )


def test_the_longest_body_and_one_more() -> None:
    longest = b"scope=" + b"a" * (MAX_BODY_BYTES - 6)
    assert len(form_of(longest)["scope"]) == MAX_BODY_BYTES - 6
    assert refused(longest + b"a").description == "the form is longer than 16384 bytes"


@pytest.mark.parametrize("body", [b"scope=\xff", b"scope=%ff", b"scope=%C3%28", b"%ff=a"])
def test_not_utf8(body: bytes) -> None:
    error = refused(body)
    assert (error.code, error.description) == (ErrorCode.INVALID_REQUEST, "the form is not UTF-8")


def test_too_many_fields() -> None:
    assert form_of(b"&".join([b"x=1"] * 64)) == {}
    assert refused(b"&".join([b"x=1"] * 65)).description == "the form has more than 64 fields"


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("body", ["{0}=a&{0}=a", "{0}=&{0}=a", "{0}=a&x=1&{0}"])
def test_a_known_parameter_must_not_repeat(name: str, body: str) -> None:
    error = refused(body.format(name).encode())
    assert error.code is ErrorCode.INVALID_REQUEST
    assert error.description == f"the parameter {name} is there more than once"


def test_unknown_parameters_are_ignored_and_may_repeat() -> None:
    assert form_of(b"resource=a&scope=s&resource=b&audience") == {"scope": "s"}


@pytest.mark.parametrize("body", [b"", b"&", b"scope", b"scope=", b"scope=&client_id="])
def test_without_a_value_is_left_out(body: bytes) -> None:
    assert form_of(body) == {}


@given(VISIBLE, VISIBLE)
def test_basic_round_trip(client_id: str, client_secret: str) -> None:
    credentials = parse_basic(basic(quote_plus(client_id), quote_plus(client_secret)))
    assert credentials == ClientCredentials(client_id, client_secret)


@given(VISIBLE, VISIBLE)
def test_basic_round_trip_where_spaces_come_as_percent(client_id: str, client_secret: str) -> None:
    credentials = parse_basic(basic(quote(client_id, safe=""), quote(client_secret, safe="")))
    assert credentials == ClientCredentials(client_id, client_secret)


@given(st.text(max_size=100))
def test_any_authorization_is_parsed_or_refused(authorization: str) -> None:
    for header in (authorization, f"Basic {authorization}"):
        code = ErrorCode.INVALID_CLIENT
        try:
            parse_basic(header)
        except OAuthError as error:
            code = error.code
        assert code is ErrorCode.INVALID_CLIENT


def test_the_first_colon_parts_them() -> None:
    assert parse_basic(basic("a", "b:c")) == ClientCredentials("a", "b:c")


def test_the_scheme_may_have_any_case() -> None:
    assert parse_basic(basic("a", "b").replace("Basic", " bASIC ")) == ClientCredentials("a", "b")


@pytest.mark.parametrize(
    ("authorization", "description"),
    [
        ("Bearer abc", "of the authorization header's schemes, only Basic is supported here"),
        ("", "of the authorization header's schemes, only Basic is supported here"),
        ("Basic !!!", "the authorization header is not base64 of <client_id>:<client_secret>"),
        ("Basic YTp", "the authorization header is not base64 of <client_id>:<client_secret>"),
        ("Basic YT pi", "the authorization header is not base64 of <client_id>:<client_secret>"),
        ("Basic é", "the authorization header is not base64 of <client_id>:<client_secret>"),
        ("Basic /w==", "the authorization header is not base64 of <client_id>:<client_secret>"),
        ("Basic", "the authorization header lacks the colon between client_id and client_secret"),
        (
            basic("a", "b").replace("YTpi", "YWI="),
            "the authorization header lacks the colon between client_id and client_secret",
        ),
        (basic("%ff", "b"), "the client_id or client_secret of the authorization header is not UTF-8"),
        (basic("a", "%ff"), "the client_id or client_secret of the authorization header is not UTF-8"),
        (basic("%00", "b"), "the client_id or client_secret has characters other than printable ASCII"),
        (basic("a", "%C3%A9"), "the client_id or client_secret has characters other than printable ASCII"),
        (basic("", "b"), "the client_id is missing: send the API key's id and secret by HTTP Basic or in the form"),
        (basic("a", ""), "the client_secret is missing: send it by HTTP Basic or in the form"),
    ],
)
def test_malformed_basic(authorization: str, description: str) -> None:
    error = basic_refused(authorization)
    assert (error.code, error.description) == (ErrorCode.INVALID_CLIENT, description)


def credentials_of(form: dict[str, str], *authorization: str) -> ClientCredentials:
    return client_credentials(TokenRequest(CONTENT_TYPE, b"", authorization), form)


def test_credentials_of_the_form() -> None:
    assert credentials_of({"client_id": "a", "client_secret": "b"}) == ClientCredentials("a", "b")


def test_basic_with_the_same_client_id_in_the_form() -> None:
    assert credentials_of({"client_id": "a"}, basic("a", "b")) == ClientCredentials("a", "b")


@pytest.mark.parametrize(
    ("form", "authorization", "code", "description"),
    [
        (
            {"client_id": "a", "client_secret": "b"},
            [basic("a", "b")],
            ErrorCode.INVALID_REQUEST,
            "send the client's id and secret by HTTP Basic or in the form, not both",
        ),
        (
            {"client_id": "c"},
            [basic("a", "b")],
            ErrorCode.INVALID_REQUEST,
            "the client_id of the form is not that of the authorization header",
        ),
        (
            {},
            [basic("a", "b"), basic("a", "b")],
            ErrorCode.INVALID_REQUEST,
            "there is more than one authorization header",
        ),
        (
            {},
            [],
            ErrorCode.INVALID_CLIENT,
            "the client_id is missing: send the API key's id and secret by HTTP Basic or in the form",
        ),
        (
            {"client_secret": "b"},
            [],
            ErrorCode.INVALID_CLIENT,
            "the client_id is missing: send the API key's id and secret by HTTP Basic or in the form",
        ),
        (
            {"client_id": "a"},
            [],
            ErrorCode.INVALID_CLIENT,
            "the client_secret is missing: send it by HTTP Basic or in the form",
        ),
        (
            {"client_id": "a\0", "client_secret": "b"},
            [],
            ErrorCode.INVALID_CLIENT,
            "the client_id or client_secret has characters other than printable ASCII",
        ),
    ],
)
def test_credentials_that_will_not_do(
    form: dict[str, str], authorization: list[str], code: ErrorCode, description: str
) -> None:
    with pytest.raises(OAuthError) as caught:
        credentials_of(form, *authorization)
    assert (caught.value.code, caught.value.description) == (code, description)


def test_secrets_do_not_show_in_representations() -> None:
    request = TokenRequest(CONTENT_TYPE, b"client_secret=hush", ("Basic hush",))
    assert "hush" not in repr(request)
    assert "hush" not in repr(ClientCredentials("a", "hush"))
