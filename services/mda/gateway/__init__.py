"""The gateway: Envoy's configuration, made from the parts in the folder `gateway/`."""

from mda.gateway.methods import descriptor_set
from mda.gateway.render import render, write
from mda.gateway.sds import sds_document, write_sds
from mda.gateway.settings import GatewaySettings, Limits, Rate, Upstream

__all__ = [
    "GatewaySettings",
    "Limits",
    "Rate",
    "Upstream",
    "descriptor_set",
    "render",
    "sds_document",
    "write",
    "write_sds",
]
