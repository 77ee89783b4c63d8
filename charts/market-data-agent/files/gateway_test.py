"""What `helm test` asks the gateway. Prints each answer; ends with 1 at the first that is wrong."""

from __future__ import annotations

import base64
import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

URL = os.environ["GATEWAY_URL"]
# The host is a name inside the cluster, which a certificate for the outside need not have.
TLS = ssl.create_default_context(cafile="/tls/tls.crt")
TLS.check_hostname = False
TLS.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def ask(path: str, headers: dict[str, str] | None = None, body: bytes | None = None) -> tuple[int, bytes]:
    """Return the status and the body of an answer; 0 where there is none."""
    request = urllib.request.Request(URL + path, data=body, headers=headers or {})  # noqa: S310 - it is https
    try:
        with urllib.request.urlopen(request, timeout=10, context=TLS) as answer:  # noqa: S310
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError as error:
        return 0, str(error).encode()


def check(what: str, right: bool, seen: object) -> None:
    """Tell what was asked; end where the answer is wrong."""
    print(f"{'ok' if right else 'WRONG'}: {what}: {seen}")  # noqa: T201 - for `helm test --logs`
    if not right:
        sys.exit(1)


def main() -> None:
    """Ask, from the outside to the inside."""
    deadline = time.monotonic() + 60
    while (status := ask("/readyz")[0]) != 200 and time.monotonic() < deadline:
        time.sleep(1)
    check("all services are healthy", status == 200, status)
    status, keys = ask("/.well-known/jwks.json")
    check("the keys that tokens are signed with", status == 200 and bool(json.loads(keys)["keys"]), status)
    quotes = f"/v1/datasets/{os.environ['DATASET']}/quotes:latest"
    status, _ = ask(quotes)
    check("without a token", status == 401, status)
    if "API_KEY" not in os.environ:
        return
    basic = base64.b64encode(os.environ["API_KEY"].replace(".", ":", 1).encode()).decode()
    form = urllib.parse.urlencode({"grant_type": "client_credentials"}).encode()
    status, token = ask("/oauth2/token", {"authorization": f"Basic {basic}"}, form)
    check("a token for an API key", status == 200, status)
    bearer = {"authorization": f"Bearer {json.loads(token)['access_token']}"}
    status, body = ask(quotes, bearer)
    check("quotes with that token", status == 200, f"{status} {body[:200]!r}")


if __name__ == "__main__":
    main()
