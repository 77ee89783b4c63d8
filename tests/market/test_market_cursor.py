"""Cursors and page tokens: opaque, and refused unless they are one of ours."""

from __future__ import annotations

import base64
import contextlib
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mda.market.cursor import Cursor, decode_cursor
from mda.market.errors import MarketDataError
from mda.market.pages import decode_page, encode_page

U64 = st.integers(0, (1 << 64) - 1)
CURSORS = st.builds(Cursor, U64, U64, st.integers(0, (1 << 32) - 1))
DATASETS = st.from_regex(r"[A-Z0-9][A-Z0-9._-]{0,63}", fullmatch=True)
ALPHABET = string.ascii_letters + string.digits + "-_"
KEY = b"a key"
TOKEN = Cursor(5, 1 << 63, 7).encode("SIM", KEY)


def refused(token: str, dataset: str = "SIM") -> MarketDataError:
    with pytest.raises(MarketDataError) as caught:
        decode_cursor(token, dataset, "start.cursor", KEY)
    return caught.value


@given(CURSORS, DATASETS)
def test_a_cursor_comes_back(cursor: Cursor, dataset: str) -> None:
    token = cursor.encode(dataset, KEY)
    assert decode_cursor(token, dataset, "cursor", KEY) == cursor
    assert len(token) == 39
    assert set(token) <= set(ALPHABET)


@given(CURSORS, DATASETS, DATASETS)
def test_a_cursor_is_good_for_its_dataset_alone(cursor: Cursor, dataset: str, other: str) -> None:
    if dataset != other:
        refused(cursor.encode(dataset, KEY), other)


def test_a_cursor_with_one_other_character_is_refused() -> None:
    for position, character in enumerate(TOKEN):
        for other in string.printable.replace(character, ""):
            refused(TOKEN[:position] + other + TOKEN[position + 1 :])


@given(CURSORS, st.data())
def test_any_cursor_with_one_other_character_is_refused(cursor: Cursor, data: st.DataObject) -> None:
    token = cursor.encode("SIM", KEY)
    position = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters().filter(lambda character: character != token[position]))
    refused(token[:position] + other + token[position + 1 :])


def test_a_cursor_of_another_version_is_refused() -> None:
    body = bytes([2]) + bytes(20)
    refused(base64.urlsafe_b64encode(body + bytes(4)).decode().rstrip("="))


@pytest.mark.parametrize(
    "token", ["", "A", TOKEN[:-1], TOKEN + "A", TOKEN + "=", TOKEN + "==", TOKEN * 2, "é" * 34, " " + TOKEN, "\0"]
)
def test_what_is_no_cursor_is_refused_by_field(token: str) -> None:
    error = refused(token)
    assert error.reason_name == "INVALID_CURSOR"
    assert error.metadata == {"field": "start.cursor"}
    assert "SIM" in error.message


@given(st.integers(0, (1 << 63) - 1))
def test_a_page_token_comes_back(after_id: int) -> None:
    assert decode_page(encode_page(after_id)) == after_id


@given(st.integers(1 << 63, (1 << 64) - 1))
def test_a_page_token_of_what_no_database_can_hold_is_refused(after_id: int) -> None:
    with pytest.raises(MarketDataError):
        decode_page(encode_page(after_id))


def test_no_page_token_is_the_first_page() -> None:
    assert decode_page("") == 0


@given(U64, st.sampled_from("+/=\n é"), st.integers(0, 11))
def test_a_page_token_with_a_foreign_character_is_refused(after_id: int, foreign: str, position: int) -> None:
    token = encode_page(after_id)
    with pytest.raises(MarketDataError):
        decode_page(token[:position] + foreign + token[position:])


@given(st.text(max_size=16))
def test_any_text_is_the_page_token_of_its_id_or_refused(token: str) -> None:
    after_id = decoded(token)
    assert after_id is None or token in {"", encode_page(after_id)}


def test_what_is_no_page_token_is_refused_by_field() -> None:
    with pytest.raises(MarketDataError) as caught:
        decode_page("!")
    assert (caught.value.reason_name, caught.value.field) == ("INVALID_FIELD", "page_token")


def test_a_page_token_is_written_in_one_way_only() -> None:
    token = encode_page(5)
    good = [page for page in (token[:-1] + character for character in ALPHABET) if decoded(page) is not None]
    assert len({decoded(page) for page in good}) == len(good) == 16


def decoded(token: str) -> int | None:
    with contextlib.suppress(MarketDataError):
        return decode_page(token)
    return None
