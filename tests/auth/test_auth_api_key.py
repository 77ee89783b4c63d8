"""API keys: ids, secrets, hashes, and how people paste them."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mda.auth import api_key

URL_SAFE = st.text("ABCabc019-_", min_size=1, max_size=60)


def test_secrets_are_256_bits_and_fresh() -> None:
    secrets = {api_key.new_secret() for _ in range(50)}
    assert len(secrets) == 50
    assert {len(base64.urlsafe_b64decode(secret + "=")) for secret in secrets} == {32}


def test_ids_are_fresh_and_fit_their_column() -> None:
    ids = {api_key.new_key_id() for _ in range(50)}
    assert len(ids) == 50
    assert all(key_id.startswith("mdk_") and len(key_id) <= 32 for key_id in ids)


def test_the_hash_is_sha256() -> None:
    assert api_key.hash_secret("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_verify() -> None:
    secret_hash = api_key.hash_secret("abc")
    assert api_key.verify_secret("abc", secret_hash)
    assert not api_key.verify_secret("abd", secret_hash)
    assert not api_key.verify_secret(secret_hash, secret_hash)


def test_hint() -> None:
    assert api_key.hint_of("abcdefgh") == "efgh"


@given(URL_SAFE, URL_SAFE)
def test_format_and_parse(key_id: str, secret: str) -> None:
    text = api_key.format_api_key("mdk_" + key_id, secret)
    assert api_key.parse_api_key(f" {text}\n") == ("mdk_" + key_id, secret)


def test_what_is_made_can_be_parsed() -> None:
    key_id, secret = api_key.new_key_id(), api_key.new_secret()
    assert api_key.parse_api_key(f"{key_id}.{secret}") == (key_id, secret)


@pytest.mark.parametrize("text", ["", "mdk_1", "mdk_1.", "hush", "hush.mdk_1", ".hush"])
def test_what_is_no_api_key_is_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match=r"not an API key: it should read mdk_<id>\.<secret>") as caught:
        api_key.parse_api_key(text)
    assert "hush" not in str(caught.value)
