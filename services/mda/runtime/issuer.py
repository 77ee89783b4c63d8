"""The token issuer's keys, as the auth service gives them."""

from __future__ import annotations

import json
from typing import Final

import grpc

from marketdata.auth.v1 import auth_service_pb2, auth_service_pb2_grpc

_TIMEOUT_S: Final = 2.0
_SERVICE_CONFIG: Final = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [
            {
                "name": [{"service": auth_service_pb2.DESCRIPTOR.services_by_name["AuthService"].full_name}],
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "0.5s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ],
    }
)
"""An instance that does not serve costs a try, not the call."""


async def fetch_jwks(target: str) -> bytes:
    """Return the issuer's key set, as JSON.

    Each time by a connection of its own, to where the issuer is now: in a mesh, a connection to an instance
    stays when that has gone, and the sidecar answers for it that it is unavailable.

    Parameters
    ----------
    target
        The auth service, as gRPC names it.

    Raises
    ------
    ConnectionError
        If it does not answer within two seconds.
    """
    async with grpc.aio.insecure_channel(target, options=[("grpc.service_config", _SERVICE_CONFIG)]) as channel:
        stub = auth_service_pb2_grpc.AuthServiceStub(channel)
        try:
            body = await stub.GetJwks(auth_service_pb2.GetJwksRequest(), timeout=_TIMEOUT_S, wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            raise ConnectionError(f"auth: {error.code().name}") from error
        return body.data
