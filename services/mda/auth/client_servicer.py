"""ClientService over gRPC: translates between messages and decisions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

import grpc
import structlog
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from marketdata.auth.v1 import client_service_pb2 as pb
from marketdata.auth.v1.client_service_pb2_grpc import ClientServiceServicer
from marketdata.v1 import error_reason_pb2 as reasons
from mda.auth.actor import Actor
from mda.auth.admin import NewApiKey
from mda.auth.audit import Entry, Known, verify
from mda.auth.clients import Clients, Wish
from mda.auth.errors import StoreUnavailableError
from mda.auth.paging import Place, decode_place
from mda.auth.records import ApiKey, Client
from mda.auth.roles import ROLES
from mda.auth.store import Store
from mda.auth.tiers import Tier
from mda.market.errors import MarketDataError
from mda.market.pages import decode_page, encode_page
from mda.market.quotas import Quotas
from mda.runtime.identity import Principal, current_account, current_principal
from mda.runtime.usage.meter import Meter

_DEFAULT_PAGE: Final = 100
_TIERS: Final = {
    pb.TIER_FREE: Tier.FREE,
    pb.TIER_PRO: Tier.PRO,
    pb.TIER_INTERNAL: Tier.INTERNAL,
}
_TIER_NUMBERS: Final = {tier: number for number, tier in _TIERS.items()}
_Context = grpc.aio.ServicerContext[Any, Any]
_T = TypeVar("_T")

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class ClientServicer(ClientServiceServicer):
    """Serves `marketdata.auth.v1.ClientService`.

    Parameters
    ----------
    clients
        Decides; called in threads, as it waits for the store.
    store
        What is listed.
    changed
        Called after each change, so that the services hear of what it ends.
    """

    def __init__(self, clients: Clients, store: Store, changed: Callable[[], None]) -> None:
        self._clients = clients
        self._store = store
        self._changed = changed

    async def refused(self, method: str, principal: Principal, error: MarketDataError) -> None:
        """Put down in the audit log that the holder of a token was refused a method."""
        details = {"method": method, "reason": error.reason_name, **error.metadata}
        try:
            await asyncio.to_thread(self._clients.note_refusal, principal.client, "call", details)
        except StoreUnavailableError:  # the refusal stands; it is in the service's log, too
            _log.exception("store_unavailable")

    async def CreateClient(self, request: pb.CreateClientRequest, context: _Context) -> pb.CreateClientResponse:
        """Make a client."""
        wish = Wish(_TIERS[request.tier], request.roles, request.datasets, _quotas(request.quotas))
        client = await self._change(lambda actor: self._clients.create(actor, request.name, wish))
        return pb.CreateClientResponse(client=_client(client))

    async def GetClient(self, request: pb.GetClientRequest, context: _Context) -> pb.GetClientResponse:
        """Tell of a client."""
        return pb.GetClientResponse(client=_client(await self._read(lambda: self._store.client(request.client_id))))

    async def GetUsage(self, request: pb.GetUsageRequest, context: _Context) -> pb.GetUsageResponse:
        """Tell what the caller uses."""
        return pb.GetUsageResponse(usage=await self._usage(current_principal().client))

    async def GetClientUsage(self, request: pb.GetClientUsageRequest, context: _Context) -> pb.GetClientUsageResponse:
        """Tell what a client uses."""
        return pb.GetClientUsageResponse(usage=await self._usage(request.client_id))

    async def ListClients(self, request: pb.ListClientsRequest, context: _Context) -> pb.ListClientsResponse:
        """List a page of clients."""
        after, size = decode_place(request.page_token), request.page_size or _DEFAULT_PAGE
        found = await self._read(lambda: self._store.page_of_clients(after, size))
        return pb.ListClientsResponse(
            clients=[_client(client) for client in found[:size]], next_page_token=_next_page(found, size)
        )

    async def UpdateClient(self, request: pb.UpdateClientRequest, context: _Context) -> pb.UpdateClientResponse:
        """Change a client."""
        wish = Wish(
            tier=_TIERS[request.tier] if request.HasField("tier") else None,
            roles=request.roles.names if request.HasField("roles") else None,
            datasets=request.datasets.names if request.HasField("datasets") else None,
            quotas=_quotas(request.quotas) if request.HasField("quotas") else None,
        )
        client = await self._change(lambda actor: self._clients.update(actor, request.client_id, wish))
        return pb.UpdateClientResponse(client=_client(client))

    async def DisableClient(self, request: pb.DisableClientRequest, context: _Context) -> pb.DisableClientResponse:
        """Keep a client out."""
        client = await self._change(lambda actor: self._clients.disable(actor, request.client_id))
        return pb.DisableClientResponse(client=_client(client))

    async def EnableClient(self, request: pb.EnableClientRequest, context: _Context) -> pb.EnableClientResponse:
        """Let a client in again."""
        client = await self._change(lambda actor: self._clients.enable(actor, request.client_id))
        return pb.EnableClientResponse(client=_client(client))

    async def CreateApiKey(self, request: pb.CreateApiKeyRequest, context: _Context) -> pb.CreateApiKeyResponse:
        """Make an API key."""
        lifetime = _lasting(request.lifetime) if request.HasField("lifetime") else None
        new, key = await self._change(lambda actor: self._clients.create_key(actor, request.client_id, lifetime))
        return pb.CreateApiKeyResponse(key=_new_key(new, key))

    async def ListApiKeys(self, request: pb.ListApiKeysRequest, context: _Context) -> pb.ListApiKeysResponse:
        """List a page of API keys."""
        after, size = decode_place(request.page_token), request.page_size or _DEFAULT_PAGE
        client_id = None if request.client_id == "-" else request.client_id
        found = await self._read(lambda: self._store.page_of_api_keys(client_id, after, size))
        return pb.ListApiKeysResponse(keys=[_key(key) for key in found[:size]], next_page_token=_next_page(found, size))

    async def RotateApiKey(self, request: pb.RotateApiKeyRequest, context: _Context) -> pb.RotateApiKeyResponse:
        """Make an API key in the place of another."""
        overlap = _lasting(request.overlap) if request.HasField("overlap") else None
        lifetime = _lasting(request.lifetime) if request.HasField("lifetime") else None
        new, key, old = await self._change(
            lambda actor: self._clients.rotate_key(actor, request.key_id, overlap, lifetime)
        )
        return pb.RotateApiKeyResponse(key=_new_key(new, key), old_key=_key(old))

    async def RevokeApiKey(self, request: pb.RevokeApiKeyRequest, context: _Context) -> pb.RevokeApiKeyResponse:
        """End an API key."""
        key = await self._change(lambda actor: self._clients.revoke_key(actor, request.key_id))
        return pb.RevokeApiKeyResponse(key=_key(key))

    async def ListRoles(self, request: pb.ListRolesRequest, context: _Context) -> pb.ListRolesResponse:
        """List the roles."""
        found = await self._read(lambda: sorted(ROLES.items()))
        roles = [pb.Role(name=name, description=role.description, scopes=role.scopes) for name, role in found]
        return pb.ListRolesResponse(roles=roles)

    async def ListAuditEntries(
        self, request: pb.ListAuditEntriesRequest, context: _Context
    ) -> pb.ListAuditEntriesResponse:
        """List a page of the audit log."""
        before, size = decode_page(request.page_token), request.page_size or _DEFAULT_PAGE
        found = await self._read(lambda: self._store.page_of_audit(before, size))
        token = encode_page(found[size - 1].sequence) if len(found) > size else ""
        return pb.ListAuditEntriesResponse(entries=[_entry(entry) for entry in found[:size]], next_page_token=token)

    async def VerifyAudit(self, request: pb.VerifyAuditRequest, context: _Context) -> pb.VerifyAuditResponse:
        """Check the audit log, or a part of it."""
        known = _known(request.known_sequence, request.known_hash)
        after = _known(request.after_sequence, request.after_hash)
        verdict = await self._read(lambda: verify(self._store.audit(request.after_sequence), known, after))
        return pb.VerifyAuditResponse(
            intact=not verdict.problem,
            entries=verdict.entries,
            head_hash=verdict.head_hash,
            problem=verdict.problem,
            complete=verdict.complete,
        )

    async def _usage(self, client_id: str) -> pb.Usage:
        client = await self._read(lambda: self._store.client(client_id))
        usage = current_account().usage
        await usage.look_up(client.id)
        return _usage(client, usage.meter)

    async def _change(self, decide: Callable[[Actor], _T]) -> _T:
        actor = _actor(current_principal())
        result = await _asked(lambda: decide(actor))
        self._changed()
        return result

    async def _read(self, read: Callable[[], _T]) -> _T:
        actor = _actor(current_principal())

        def checked() -> _T:
            self._clients.check(actor)
            return read()

        return await _asked(checked)


async def _asked(ask: Callable[[], _T]) -> _T:
    """Return what waits for the store."""
    try:
        return await asyncio.to_thread(ask)
    except StoreUnavailableError as error:
        raise MarketDataError(
            reasons.ERROR_REASON_AUTH_UNAVAILABLE,
            "Auth's database does not answer. Nothing is changed; try again.",
            retry_after_s=1,
        ) from error


def _actor(principal: Principal) -> Actor:
    return Actor(principal.client, principal.key, principal.token_id, principal.version)


def _known(sequence: int, hash_: str) -> Known | None:
    return Known(sequence, hash_) if sequence else None


def _next_page(found: Sequence[Client] | Sequence[ApiKey], size: int) -> str:
    return Place(found[size - 1].created_at, found[size - 1].id).encode() if len(found) > size else ""


def _client(client: Client) -> pb.Client:
    return pb.Client(
        client_id=client.id,
        name=client.name,
        tier=_TIER_NUMBERS[client.tier],
        roles=client.roles,
        scopes=client.granted,
        datasets=client.datasets,
        quotas=pb.Quotas(**client.quotas.claim()),
        create_time=_time(client.created_at),
        disable_time=_time(client.disabled_at),
    )


def _key(key: ApiKey) -> pb.ApiKey:
    return pb.ApiKey(
        key_id=key.id,
        client_id=key.client.id,
        hint=key.hint,
        create_time=_time(key.created_at),
        expire_time=_time(key.expires_at),
        revoke_time=_time(key.revoked_at),
        last_use_time=_time(key.last_used_at),
    )


def _new_key(new: NewApiKey, key: ApiKey) -> pb.NewApiKey:
    return pb.NewApiKey(key=_key(key), secret=new.secret, api_key=new.text)


def _entry(entry: Entry) -> pb.AuditEntry:
    event = entry.event
    return pb.AuditEntry(
        sequence=entry.sequence,
        time=_time(event.at),
        actor=event.actor,
        action=event.action,
        subject=event.subject,
        refused=event.refused,
        details=event.details,
        hash=entry.hash,
        previous_hash=entry.previous_hash,
    )


def _usage(client: Client, meter: Meter) -> pb.Usage:
    left = meter.calls_left(client.id, client.limits)
    return pb.Usage(
        client_id=client.id,
        tier=_TIER_NUMBERS[client.tier],
        limits=pb.Quotas(**client.limits.claim()),
        requests_left=None if left is None else left.remaining,
        streams=meter.streams(client.id),
        rows_today=meter.rows_today(client.id),
        day_end_time=_time(meter.day_ends),
    )


def _quotas(message: pb.Quotas) -> Quotas:
    return Quotas(**{item.name: getattr(message, item.name) for item in fields(Quotas) if message.HasField(item.name)})


def _time(at: datetime | None) -> Timestamp | None:
    if at is None:
        return None
    message = Timestamp()
    message.FromDatetime(at)
    return message


def _lasting(message: Duration) -> timedelta:
    return message.ToTimedelta()
