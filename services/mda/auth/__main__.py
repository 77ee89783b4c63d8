"""`python -m mda.auth`: wires the auth service and runs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from marketdata.auth.v1 import auth_service_pb2, client_service_pb2
from mda.auth.client_servicer import ClientServicer
from mda.auth.clients import Clients
from mda.auth.gate import Gate
from mda.auth.keys import KeySet
from mda.auth.metadata import metadata
from mda.auth.oauth import TokenEndpoint
from mda.auth.opening import open_sealers, open_store
from mda.auth.rotation import KeyRotation
from mda.auth.servicer import AuthServicer, Documents
from mda.auth.settings import AuthSettings
from mda.auth.store import Store
from mda.auth.telling import Teller
from mda.auth.token_status import TokenStatus
from mda.auth.tokens import TokenIssuer, TokenReader
from mda.runtime.handlers import Endpoint
from mda.runtime.server import run_service
from mda.runtime.settings import ServiceSettings
from mda.runtime.tasks import background_tasks

_TOKENS = auth_service_pb2.DESCRIPTOR.services_by_name["AuthService"]
_CLIENTS = client_service_pb2.DESCRIPTOR.services_by_name["ClientService"]


@asynccontextmanager
async def build(common: ServiceSettings, _draining: asyncio.Event) -> AsyncGenerator[Sequence[Endpoint]]:
    """Open what auth needs."""
    settings = AuthSettings()
    store = await asyncio.to_thread(open_store, settings)
    try:
        rotation = KeyRotation(store, open_sealers(settings), settings.schedule)
        keys = await asyncio.to_thread(rotation.refresh)
        teller = Teller(store, replicas=settings.revocation_replicas)
        async with background_tasks() as tasks:
            tasks.create_task(teller.run(common))
            tasks.create_task(rotation.run())
            clients = ClientServicer(Clients(store), store, teller.wake)
            yield [
                Endpoint(_TOKENS, _tokens(common, settings, store, keys, teller)),
                Endpoint(_CLIENTS, clients, refused=clients.refused),
            ]
    finally:
        store.close()


def _tokens(
    common: ServiceSettings, settings: AuthSettings, store: Store, keys: KeySet, teller: Teller
) -> AuthServicer:
    gate = Gate(store)
    issuer = TokenIssuer(keys, issuer=common.issuer, audience=common.audience, ttl=settings.token_ttl)
    reader = TokenReader(keys, issuer=common.issuer, audience=common.audience)
    documents = Documents(metadata(common.issuer, settings.public_url or common.issuer), settings.jwks_max_age_s)
    return AuthServicer(
        TokenEndpoint(store, issuer, gate=gate), TokenStatus(store, gate, reader), keys, documents, teller.wake
    )


def main() -> None:
    """Run the service."""
    settings = ServiceSettings()
    run_service("auth", settings, partial(build, settings))


if __name__ == "__main__":
    main()
