"""What `mda clients`, `mda keys` and `mda audit` share: calls to ClientService, and how answers are printed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import grpc
import typer
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from marketdata.auth.v1.client_service_pb2_grpc import ClientServiceStub
from marketdata.errors import api_error
from marketdata.tokens import TokenSource
from mda.cli.folder import StackError
from mda.cli.options import connection

PAGE: Final = 1000
_TIMEOUT_S: Final = 10.0
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

_VARIABLE: Final = "MDA_ADMIN_API_KEY"

# No option takes the key itself: everybody on the machine can read command lines.
AdminKeyOption = Annotated[
    Path | None,
    typer.Option(
        "--api-key-file",
        help=f"Where an API key with the scope clients:admin stands, `-` for stdin; where not set {_VARIABLE},"
        " or else the admin's of the stack in --data.",
    ),
]


class Api:
    """ClientService, called one method at a time.

    Parameters
    ----------
    data, url, key_file
        The command's options.
    admin
        Whether it takes an admin's key; otherwise it is for what each client may ask.
    """

    def __init__(self, data: Path, url: str | None, key_file: Path | None, *, admin: bool = True) -> None:
        variable, name = (_VARIABLE, "admin_api_key") if admin else ("MDA_API_KEY", "api_key")
        self._url, self._api_key = connection(data, url, key_file, variable=variable, name=name)

    def call(self, method: str, request: Message) -> Any:
        """Return the answer of a method.

        Raises
        ------
        ApiError
            If it is refused.
        """
        return asyncio.run(self._call(method, request))

    def all(self, method: str, request: Any, field: str) -> list[Any]:
        """Return what stands in a field of all pages of a list. Errors as in `call`."""
        return asyncio.run(self._all(method, request, field))

    async def _call(self, method: str, request: Message) -> Any:
        async with self._session() as session:
            return await session.ask(method, request)

    async def _all(self, method: str, request: Any, field: str) -> list[Any]:
        found: list[Any] = []
        async with self._session() as session:
            while True:
                page = await session.ask(method, request)
                found += getattr(page, field)
                request.page_token = page.next_page_token
                if not request.page_token:
                    return found

    @asynccontextmanager
    async def _session(self) -> AsyncGenerator[_Session]:
        parts = urlsplit(self._url)
        if parts.scheme not in {"http", "https"} or not parts.netloc:
            raise StackError(f"not a URL such as http://127.0.0.1:8080: {self._url!r}")
        secure = parts.scheme == "https"
        target = parts.netloc if parts.port else f"{parts.netloc}:{443 if secure else 80}"
        credentials = grpc.ssl_channel_credentials() if secure else None
        made = grpc.aio.secure_channel(target, credentials) if credentials else grpc.aio.insecure_channel(target)
        async with made as channel:
            yield _Session(channel, self._api_key)


class _Session:
    """A connection, with one token as long as that is good."""

    def __init__(self, channel: grpc.aio.Channel, api_key: str) -> None:
        self._stub: Any = ClientServiceStub(channel)
        self._tokens = TokenSource(channel, api_key)

    async def ask(self, method: str, request: Message) -> Any:
        metadata = (("authorization", f"Bearer {await self._tokens.token()}"),)
        try:
            return await getattr(self._stub, method)(request, metadata=metadata, timeout=_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise api_error(error) from error


def duration(text: str | None, option: str) -> Duration | None:
    """Return what `90s`, `15m`, `2h` or `30d` mean, given to an option; None for None.

    Raises
    ------
    typer.BadParameter
        If it means nothing.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is no length of time, such as 90s, 15m, 2h or 30d.", param_hint=option)
    message = Duration()
    message.FromTimedelta(timedelta(**{_UNITS[match[2]]: int(match[1])}))
    return message


def when(message: Message, field: str) -> str:
    """Return a time of a message for people; `-` where it is absent."""
    if not message.HasField(field):
        return "-"
    at: Timestamp = getattr(message, field)
    return f"{at.ToDatetime():%Y-%m-%d %H:%M:%S}Z"


def as_json(message: Message) -> dict[str, Any]:
    """Return a message as REST gives it."""
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
