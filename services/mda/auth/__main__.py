"""`python -m mda.auth`: wires the auth service and runs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from marketdata.auth.v1 import auth_service_pb2
from mda.auth.keys import open_key_set
from mda.auth.oauth import TokenEndpoint
from mda.auth.opening import open_store
from mda.auth.servicer import AuthServicer
from mda.auth.settings import AuthSettings
from mda.auth.tokens import TokenIssuer
from mda.runtime.handlers import Endpoint
from mda.runtime.server import run_service
from mda.runtime.settings import ServiceSettings

_SERVICE = auth_service_pb2.DESCRIPTOR.services_by_name["AuthService"]


@asynccontextmanager
async def build(common: ServiceSettings, _draining: asyncio.Event) -> AsyncGenerator[Sequence[Endpoint]]:
    """Open what auth needs."""
    settings = AuthSettings()
    store = await asyncio.to_thread(open_store, settings)
    try:
        keys = await asyncio.to_thread(open_key_set, store)
        issuer = TokenIssuer(keys, issuer=common.issuer, audience=common.audience, ttl=settings.token_ttl)
        yield [Endpoint(_SERVICE, AuthServicer(TokenEndpoint(store, issuer), keys, settings.jwks_max_age_s))]
    finally:
        store.close()


def main() -> None:
    """Run the service."""
    settings = ServiceSettings()
    run_service("auth", settings, partial(build, settings), verifies_tokens=False)


if __name__ == "__main__":
    main()
