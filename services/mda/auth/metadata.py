"""What there is here, for clients that find out by themselves (RFC 8414)."""

from __future__ import annotations

import json

from mda.auth.oauth import GRANT_TYPE
from mda.auth.roles import ROLES, scopes_of

_METHODS = ["client_secret_basic", "client_secret_post"]


def metadata(issuer: str, public_url: str) -> bytes:
    """Return the metadata document.

    Parameters
    ----------
    issuer
        Who issues the tokens (`iss`).
    public_url
        Where callers reach the endpoints, such as `https://api.example.com`.
    """
    url = public_url.rstrip("/")
    document = {
        "issuer": issuer,
        "token_endpoint": f"{url}/oauth2/token",
        "token_endpoint_auth_methods_supported": _METHODS,
        "introspection_endpoint": f"{url}/oauth2/introspect",
        "introspection_endpoint_auth_methods_supported": _METHODS,
        "revocation_endpoint": f"{url}/oauth2/revoke",
        "revocation_endpoint_auth_methods_supported": _METHODS,
        "jwks_uri": f"{url}/.well-known/jwks.json",
        "grant_types_supported": [GRANT_TYPE],
        "response_types_supported": [],
        "scopes_supported": sorted(scopes_of(ROLES)),
    }
    return json.dumps(document).encode()
