"""Requests that are meant to be understood differently by those on the way: each refused with the right code."""

from __future__ import annotations

import base64
import json
import re

import httpx
import pytest

from tests.abuse.conftest import PATH, Target

HOST = b"Host: market-data\r\n"


def status(heard: bytes) -> int:
    """Return the status of the first answer; 0 where the connection was closed without one."""
    found = re.match(rb"HTTP/1\.1 (\d{3})", heard)
    return int(found[1]) if found else 0


def request(target: Target, *lines: bytes, verb: bytes = b"GET", path: bytes = PATH.encode()) -> bytes:
    token = b"Authorization: Bearer " + target.token.encode()
    return b"\r\n".join([verb + b" " + path + b" HTTP/1.1", b"Host: market-data", token, *lines, b"", b""])


def test_the_plain_request_is_answered(target: Target) -> None:
    assert status(target.say(request(target))) == 200


# What belongs to one request must not become another: each of these has been a smuggler's way.
SMUGGLED = {
    "a length and chunks": [b"Content-Length: 4", b"Transfer-Encoding: chunked"],
    "two lengths": [b"Content-Length: 4", b"Content-Length: 5"],
    "a length with a sign": [b"Content-Length: +4"],
    "a length that is negative": [b"Content-Length: -1"],
    "a length in a list": [b"Content-Length: 4, 4"],
    "an unknown coding": [b"Transfer-Encoding: xchunked"],
    "chunked not last": [b"Transfer-Encoding: chunked, identity"],
    "a space before the colon": [b"Transfer-Encoding : chunked"],
    "a null byte in a value": [b"X-A: 1\x002"],
    "a null byte in a name": [b"X-\x00A: 1"],
    "a name with a space": [b"X A: 1"],
    "a name with an underscore": [b"x_mda_client: mdc_other"],
    "no name": [b": 1"],
}


@pytest.mark.parametrize("name", SMUGGLED)
def test_what_could_be_read_in_two_ways_is_refused(target: Target, name: str) -> None:
    behind = b"0\r\n\r\nGET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"
    heard = target.say(request(target, *SMUGGLED[name], verb=b"POST") + behind)
    assert status(heard) in {400, 501, 0}, heard
    assert heard.count(b"HTTP/1.1 ") <= 1, heard  # what came behind was nobody's request


# Envoy takes these, as RFC 9112 lets it (2.2, 5.2); behind it all is HTTP/2, where they mean nothing.
TOLERATED = {
    "a line that goes on": [b"X-A: 1", b" Transfer-Encoding: chunked"],
    "a bare line feed": [b"X-A: 1\nTransfer-Encoding: chunked"],
    "a bare carriage return": [b"X-A: 1\rX-B: 2"],
}


@pytest.mark.parametrize("name", TOLERATED)
def test_what_is_tolerated_opens_nothing(target: Target, name: str) -> None:
    behind = b"0\r\n\r\nGET " + PATH.encode() + b" HTTP/1.1\r\n" + HOST + b"\r\n"
    heard = target.say(request(target, *TOLERATED[name], verb=b"POST") + behind)
    assert status(heard) in {400, 404}, heard
    assert b"HTTP/1.1 200" not in heard  # what came behind has no token of its own


MALFORMED = {
    # Envoy makes one of them, `a,b`. Nothing here goes by the host.
    "two hosts": (b"GET " + PATH.encode() + b" HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", {400, 401}),
    "no host": (b"GET " + PATH.encode() + b" HTTP/1.1\r\n\r\n", {400}),
    "HTTP/0.9": (b"GET /healthz\r\n\r\n", {400, 426, 0}),
    "HTTP/1.0": (b"GET /healthz HTTP/1.0\r\n\r\n", {426, 400}),
    "HTTP/3.0": (b"GET /healthz HTTP/3.0\r\n" + HOST + b"\r\n", {400, 426, 505, 0}),
    "no method that there is": (b"BREW /healthz HTTP/1.1\r\n" + HOST + b"\r\n", {400, 404, 501}),
    "a proxy's": (b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n", {400, 403, 404, 405}),
    "noise": (bytes(range(1, 256)) * 4, {400, 0}),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_request_is_refused(target: Target, name: str) -> None:
    data, statuses = MALFORMED[name]
    heard = target.say(data)
    assert status(heard) in statuses, heard
    assert b"200 OK" not in heard


def test_two_tokens_are_none(target: Target) -> None:
    """A second header could be what a service reads, where the gateway has read the first."""
    heard = target.say(request(target, b"Authorization: Bearer x.y.z"))
    assert status(heard) in {400, 401}, heard


def test_a_token_elsewhere_is_none(target: Target) -> None:
    for where in (f"{PATH}&access_token={target.token}", f"{PATH}&authorization=Bearer%20{target.token}"):
        assert httpx.get(target.stack.url + where).status_code in {400, 401}
    assert httpx.get(target.stack.url + PATH, cookies={"authorization": target.token}).status_code == 401


@pytest.mark.parametrize("size", [97 * 1024, 1 << 20])
def test_headers_have_a_size(target: Target, size: int) -> None:
    assert status(target.say(request(target, b"X-Long: " + b"a" * size))) in {431, 0}


def test_headers_have_a_number(target: Target) -> None:
    assert status(target.say(request(target, *(b"X-%d: 1" % number for number in range(200))))) in {431, 0}


# None of these may lead past the rules of a path to what lies behind it.
PATHS = [
    "//v1/datasets/SIM/quotes:latest",
    "/v1//datasets/SIM/quotes:latest",
    "/v1/./datasets/SIM/quotes:latest",
    "/healthz/../v1/datasets/SIM/quotes:latest",
    "/healthz/..%2fv1/datasets/SIM/quotes:latest",
    "/healthz/%2e%2e/v1/datasets/SIM/quotes:latest",
    "/healthz/..;/v1/datasets/SIM/quotes:latest",
    "/healthz;/../v1/datasets/SIM/quotes:latest",
    "/.well-known/../v1/datasets/SIM/quotes:latest",
    "/openapi.json/../v1/datasets/SIM/quotes:latest",
    "/v1/datasets/SIM%2fquotes:latest",
    "/v1/datasets/SIM/quotes:latest%00",
    "/v1/datasets/SIM/quotes%3Alatest",
    "/V1/DATASETS/SIM/QUOTES:LATEST",
    "/marketdata.query.v1.QueryService/GetLatestQuotes",
    "/marketdata.query.v1.QueryService//GetLatestQuotes",
    "\\v1\\datasets\\SIM\\quotes:latest",
    "http://127.0.0.1:9901/config_dump",
    "/config_dump",
    "/stats/prometheus",
]


@pytest.mark.parametrize("path", PATHS)
def test_no_path_leads_past_the_token(target: Target, path: str) -> None:
    heard = target.say(b"GET " + path.encode() + b" HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
    assert status(heard) in {400, 401, 403, 404, 405, 415}, heard
    assert b"bid_price" not in heard


@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
def test_a_method_is_not_another(target: Target, header: str) -> None:
    answer = httpx.get(target.stack.url + PATH, headers=target.headers() | {header: "POST"})
    assert answer.status_code == 200  # a GET it stays
    answer = httpx.post(target.stack.url + PATH, headers=target.headers() | {header: "GET"}, json={})
    assert answer.status_code in {404, 405}


@pytest.mark.parametrize(
    "header",
    [
        "x-envoy-original-path",
        "x-original-url",
        "x-rewrite-url",
        "x-forwarded-prefix",
        "x-envoy-upstream-rq-timeout-ms",
        "x-envoy-retry-on",
        "x-mda-scope",
        "x-jwt-payload",
    ],
)
def test_no_header_opens_anything(target: Target, header: str) -> None:
    answer = httpx.get(f"{target.stack.url}/v1/clients", headers=target.headers() | {header: "/healthz"})
    assert (answer.status_code, answer.json()["details"][0]["reason"]) == (403, "MISSING_SCOPE")


def part(value: object) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def confused(target: Target) -> dict[str, str]:
    """Return tokens that some verifiers have taken."""
    head, claims, signature = target.token.split(".")
    kid = json.loads(base64.urlsafe_b64decode(head + "=="))["kid"]
    jwk = {"kty": "EC", "crv": "P-256", "x": part(b"\1" * 32), "y": part(b"\2" * 32)}
    return {
        "no algorithm": f"{part({'alg': 'none', 'kid': kid})}.{claims}.",
        "no algorithm in capitals": f"{part({'alg': 'NONE', 'kid': kid})}.{claims}.{signature}",
        "a key of its own": f"{part({'alg': 'ES256', 'jwk': jwk})}.{claims}.{signature}",
        "a key from elsewhere": f"{part({'alg': 'ES256', 'kid': kid, 'jku': 'http://127.0.0.1:1/'})}.{claims}.x",
        "a key that is a path": f"{part({'alg': 'ES256', 'kid': '../../../dev/null'})}.{claims}.{signature}",
        "a key that is a query": f"{part({'alg': 'ES256', 'kid': kid + chr(39) + ' OR 1=1 --'})}.{claims}.{signature}",
        "no signature": f"{head}.{claims}.",
        "zeros for a signature": f"{head}.{claims}.{part(bytes(64))}",
        "a signature of another form": f"{head}.{claims}.{part(b'0' + bytes(70))}",
        "other claims": f"{head}.{part({'sub': 'admin', 'scope': 'clients:admin', 'exp': 4_000_000_000})}.{signature}",
        "claims that are no object": f"{head}.{part([1])}.{signature}",
        "claims that are deep": f"{head}.{part(b'[' * 20_000)}.{signature}",
        "five parts": f"{head}.{claims}.{signature}.a.b",
        "spaces": f"{head} .{claims}.{signature}",
        "another base": f"{head}.{claims}.{signature}=",
    }


def test_no_token_confuses(target: Target) -> None:
    for name, token in confused(target).items():
        answer = httpx.get(target.stack.url + PATH, headers={"authorization": f"Bearer {token}"})
        assert answer.status_code == 401, (name, answer.text)


STRINGS = {
    "null": "\0",
    "null within": "A\0B",
    "right to left": "\u202eAFLA",
    "zero width": "AL\u200bFA",
    "a surrogate": "\ud800",
    "beyond the first plane": "\U0001f4c8",
    "combining": "A" + "\u0301" * 500,
    "quotes": "'\"`;--",
    "a template": "{{7*7}}${7*7}",
    "a path": "../../etc/passwd",
    "a format": "%s%n%x",
    "a line": "A\r\nX-Other: 1",
    "long": "A" * 5_000,
}


@pytest.mark.parametrize("name", STRINGS)
@pytest.mark.parametrize("place", ["symbols", "page_token", "cursor", "start", "dataset"])
def test_no_string_breaks_anything(target: Target, name: str, place: str) -> None:
    text = STRINGS[name].encode("utf-8", "surrogatepass")
    quoted = "".join(f"%{byte:02X}" for byte in text)
    if place == "dataset":
        path = f"/v1/datasets/{quoted}/quotes:latest"
    elif place == "cursor":
        path = f"/v1/datasets/SIM/digest?after={quoted}"
    else:
        path = f"/v1/datasets/SIM/quotes?{place}={quoted}"
    heard = target.say(request(target, b"Connection: close", path=path.encode()))
    assert status(heard) in {400, 404, 414, 431}, heard
    assert b"x-other" not in heard.lower()


@pytest.mark.parametrize("name", STRINGS)
def test_no_string_in_a_body_breaks_anything(target: Target, name: str) -> None:
    quote = {"symbol": STRINGS[name], "event_time": "2026-07-01T00:00:00Z", "bid_price": "1"}
    body = json.dumps({"quotes": [quote]}).encode()
    answer = httpx.post(
        f"{target.stack.url}/v1/datasets/SIM/quotes:publish",
        content=body,
        headers=target.headers() | {"content-type": "application/json"},
    )
    assert answer.status_code in {400, 404}, answer.text
