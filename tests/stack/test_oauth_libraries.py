"""Libraries that others use, unmodified: they get tokens, and understand why they get none."""

from __future__ import annotations

import ssl

import httpx
import pytest
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.httpx_client import OAuth2Client
from oauthlib.oauth2 import BackendApplicationClient, InvalidClientError, InvalidScopeError
from requests_oauthlib import OAuth2Session

from tests.polling import until
from tests.stack.conftest import Stack


@pytest.fixture
def url(stack: Stack) -> str:
    """Give the address of a stack whose feed has begun."""
    headers = {"authorization": f"Bearer {stack.token(stack.secrets['api_key'])}"}
    until(lambda: httpx.get(f"{stack.url}/v1/datasets/SIM/quotes:latest", headers=headers).status_code == 200)
    return stack.state["tls_url"]


@pytest.fixture
def ca(stack: Stack) -> str:
    return str(stack.data / "tls" / "ca.crt")


@pytest.fixture
def key(stack: Stack) -> tuple[str, str]:
    key_id, secret = stack.api_key("libraries", ["quotes:read"]).split(".")
    return key_id, secret


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_authlib(url: str, ca: str, key: tuple[str, str], method: str) -> None:
    context = ssl.create_default_context(cafile=ca)
    with OAuth2Client(*key, scope="quotes:read", token_endpoint_auth_method=method, verify=context) as session:
        token = session.fetch_token(f"{url}/oauth2/token", grant_type="client_credentials")
        assert (token["token_type"], token["scope"]) == ("Bearer", "quotes:read")
        assert session.get(f"{url}/v1/datasets/SIM/quotes:latest").status_code == 200
        assert session.introspect_token(f"{url}/oauth2/introspect", token["access_token"]).json()["active"]
        assert session.revoke_token(f"{url}/oauth2/revoke", token["access_token"]).status_code == 200
        assert not session.introspect_token(f"{url}/oauth2/introspect", token["access_token"]).json()["active"]
    with OAuth2Client(*key, scope="clients:admin", verify=context) as session, pytest.raises(OAuthError) as caught:
        session.fetch_token(f"{url}/oauth2/token", grant_type="client_credentials")
    assert (caught.value.error, caught.value.description) == (
        "invalid_scope",
        "of scopes, parted by single spaces, the client has: quotes:read",
    )
    with OAuth2Client(key[0], "wrong", verify=context) as session, pytest.raises(OAuthError) as caught:
        session.fetch_token(f"{url}/oauth2/token", grant_type="client_credentials")
    assert caught.value.error == "invalid_client"


def test_requests_oauthlib(url: str, ca: str, key: tuple[str, str]) -> None:
    def session(client_id: str, scope: list[str] | None = None) -> OAuth2Session:
        return OAuth2Session(client=BackendApplicationClient(client_id=client_id, scope=scope))

    with session(key[0]) as good:
        token = good.fetch_token(f"{url}/oauth2/token", client_id=key[0], client_secret=key[1], verify=ca)
        assert (token["token_type"], token["scope"]) == ("Bearer", ["quotes:read"])
        assert good.get(f"{url}/v1/datasets/SIM/quotes:latest", verify=ca).status_code == 200
    with session(key[0]) as bad, pytest.raises(InvalidClientError, match="the client_secret is wrong"):
        bad.fetch_token(f"{url}/oauth2/token", client_id=key[0], client_secret="wrong", verify=ca)
    with session(key[0], ["clients:admin"]) as greedy, pytest.raises(InvalidScopeError, match="the client has"):
        greedy.fetch_token(f"{url}/oauth2/token", client_id=key[0], client_secret=key[1], verify=ca)
