"""Secrets at rest: under keys of our own, and by the transit engine of a real OpenBao."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from mda.auth.opening import open_sealers
from mda.auth.sealing import KekSealer, Sealer, SealError, TransitSealer
from mda.auth.settings import AuthSettings
from tests.auth.openbao import OpenBao
from tests.tape.nats_server import free_port

ONE, OTHER = ("A" * 43, "B" * 42 + "A")
SECRET = b"-----BEGIN PRIVATE KEY-----"


@pytest.fixture(scope="module")
def openbao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    with OpenBao(tmp_path_factory.mktemp("bao")) as server:
        yield server


@pytest.fixture
def transit(openbao: OpenBao) -> TransitSealer:
    return TransitSealer(openbao.url, "mda-auth", openbao.token_file)


@pytest.fixture(params=["kek", "transit"])
def sealer(request: pytest.FixtureRequest) -> Sealer:
    return KekSealer([ONE]) if request.param == "kek" else request.getfixturevalue("transit")


def test_what_is_sealed_comes_back(sealer: Sealer) -> None:
    sealed = sealer.seal(SECRET, "kid")
    assert sealer.opens(sealed)
    assert sealer.open(sealed, "kid") == SECRET
    assert sealer.seal(SECRET, "kid") != sealed
    assert base64.b64encode(SECRET).decode() not in sealed
    assert SECRET.decode() not in sealed


def test_it_opens_for_its_own_name_alone(sealer: Sealer) -> None:
    sealed = sealer.seal(SECRET, "kid")
    with pytest.raises(SealError):
        sealer.open(sealed, "another")


def test_what_was_changed_does_not_open(sealer: Sealer) -> None:
    head, _, text = sealer.seal(SECRET, "kid").rpartition(":")
    content = bytearray(base64.b64decode(text))
    content[-1] ^= 1
    for bad in (base64.b64encode(content).decode(), "", "!"):
        with pytest.raises(SealError):
            sealer.open(f"{head}:{bad}", "kid")


def test_each_knows_its_own(transit: TransitSealer) -> None:
    kek = KekSealer([ONE])
    assert not kek.opens(transit.seal(SECRET, "k"))
    assert not transit.opens(kek.seal(SECRET, "k"))


def test_a_key_takes_the_place_of_another() -> None:
    before = KekSealer([ONE]).seal(SECRET, "k")
    both = KekSealer([OTHER, ONE])
    assert both.open(before, "k") == SECRET
    after = both.seal(SECRET, "k")
    assert KekSealer([OTHER]).open(after, "k") == SECRET
    with pytest.raises(SealError, match="a key-encryption key that is not there"):
        KekSealer([ONE]).open(after, "k")


def test_a_key_in_the_engine_is_rotated(openbao: OpenBao, transit: TransitSealer) -> None:
    before = transit.seal(SECRET, "k")
    openbao.ask("transit/keys/mda-auth/rotate", {})
    after = transit.seal(SECRET, "k")
    assert ("vault:v1:" in before, "vault:v1:" in after) == (True, False)
    assert transit.open(before, "k") == transit.open(after, "k") == SECRET


@pytest.mark.parametrize("bad", [[], [""], ["hush"], [ONE, "hush!"], ["A" * 44]])
def test_keys_that_will_not_do_are_not_repeated(bad: list[str]) -> None:
    with pytest.raises(ValueError, match="key-encryption key") as caught:
        KekSealer(bad)
    assert "hush" not in str(caught.value)


def test_an_engine_that_refuses_or_is_away_is_told_without_secrets(openbao: OpenBao, tmp_path: Path) -> None:
    token = tmp_path / "token"
    cases = [
        TransitSealer(openbao.url, "other-key", openbao.token_file),
        TransitSealer(openbao.url, "mda-auth", token),
        TransitSealer(f"http://127.0.0.1:{free_port()}", "mda-auth", openbao.token_file),
    ]
    token.write_text("hush")
    for sealer in cases:
        with pytest.raises(SealError, match="the transit engine") as caught:
            sealer.seal(SECRET, "k")
        assert "hush" not in str(caught.value)
        assert "PRIVATE" not in str(caught.value)
    with pytest.raises(SealError, match="FileNotFoundError"):
        TransitSealer(openbao.url, "mda-auth", tmp_path / "none").seal(SECRET, "k")


GOOD = json.dumps({"data": {"ciphertext": "vault:v1:x", "plaintext": "eA=="}}).encode()
ANSWERS: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"hush",
    "a list": b"[]",
    "a null": b'{"data": null}',
    "no data": b"{}",
    "data of another kind": b'{"data": [1]}',
    "lacks what is asked for": b'{"data": {}}',
    "what is asked for is no text": b'{"data": {"ciphertext": 1, "plaintext": 1}}',
    "not base64": b'{"data": {"ciphertext": 1, "plaintext": "x"}}',
}


@contextmanager
def engine(*answers: bytes) -> Generator[tuple[str, list[str]]]:
    """Serve bytes, each to a connection; give the address and the first lines of what was asked."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        asked: list[str] = []

        def serve() -> None:
            for answer in answers:
                connection, _ = listener.accept()
                with connection:
                    asked.append(connection.recv(65536).decode())
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", asked


def http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = "".join(f"{line}\r\n" for line in (*headers, f"Content-Length: {len(body)}", "Connection: close"))
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + body


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("hush")
    return path


@pytest.mark.parametrize("name", ANSWERS)
def test_an_engine_that_answers_nonsense_is_told(token_file: Path, name: str) -> None:
    with engine(*[http(ANSWERS[name])] * 2) as (url, _):
        sealer = TransitSealer(url, "k", token_file)
        for ask in (lambda: sealer.seal(SECRET, "kid"), lambda: sealer.open("transit:vault:v1:x", "kid")):
            with pytest.raises(SealError, match="cannot be asked") as caught:
                ask()
            assert "hush" not in str(caught.value)


@pytest.mark.parametrize("answer", [b"", b"rubbish\r\n\r\n", http(GOOD)[:-3]])
def test_an_engine_that_breaks_off_is_told(token_file: Path, answer: bytes) -> None:
    with engine(answer) as (url, _), pytest.raises(SealError, match="cannot be asked"):
        TransitSealer(url, "k", token_file).seal(SECRET, "kid")


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_the_token_goes_along_with_no_redirect(token_file: Path, status: str) -> None:
    with (
        engine(http(GOOD)) as (elsewhere, stolen),
        engine(http(b"", status, f"Location: {elsewhere}/")) as (url, asked),
    ):
        with pytest.raises(SealError, match=f"refused to encrypt: HTTP {status[:3]}"):
            TransitSealer(url, "k", token_file).seal(SECRET, "kid")
        assert "hush" in asked[0]
        assert stolen == []


def test_the_url_of_the_engine_is_one() -> None:
    with pytest.raises(ValueError, match="must begin with https"):
        TransitSealer("file:///etc/passwd", "mda-auth", Path("token"))


def test_what_the_settings_name_is_opened(openbao: OpenBao) -> None:
    kek = SecretStr(f"{OTHER},{ONE}")
    (only,) = open_sealers(AuthSettings(kek=kek))
    assert only.open(KekSealer([ONE]).seal(SECRET, "k"), "k") == SECRET
    first, second = open_sealers(
        AuthSettings(
            kek=kek, transit_url=openbao.url, transit_key="transit/mda-auth", transit_token_file=openbao.token_file
        )
    )
    assert first.open(first.seal(SECRET, "k"), "k") == SECRET
    assert isinstance(second, KekSealer)
    with pytest.raises(ValueError, match="set MDA_AUTH_KEK"):
        open_sealers(AuthSettings())
    with pytest.raises(ValueError, match="MDA_AUTH_TRANSIT_TOKEN_FILE"):
        open_sealers(AuthSettings(transit_url=openbao.url))
    assert ONE not in repr(AuthSettings(kek=kek))
