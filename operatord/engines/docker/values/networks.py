# SPDX-License-Identifier: MIT
"""Sessions' networks as the engines want them, with or without a way out. No I/O.

What closes a network differs. Docker's containers send what is for outside to a next hop, usually the bridge:
in a closed network it is an address that nobody has, and the bridge gives no packet an address that could be
replied to. Podman's get no route to the outside at all. Both engines also look up names for containers, and
may do so from the host's own network; so a closed network has a name server that does not answer. It still
knows the names of the session's stages, which the engine answers by itself.
"""

from __future__ import annotations

import ipaddress
from typing import Any

import msgspec

from operatord.engines.base import Network, NetworkPlan, StagePlan

Json = dict[str, Any]

_NEXT_HOP = "DefaultGatewayIPv4"
"""Among a bridge's addresses for other uses, that of the containers' next hop."""
_GIVES_ADDRESSES = "com.docker.network.bridge.enable_ip_masquerade"
_NOWHERE = "255.255.255.255"
"""A name server for Podman, which asks it from the host's network: a kernel sends nothing there for a program
that has not asked to broadcast."""
_NOBODY_HERE = "127.0.0.1"
"""A name server for Docker, which asks it in the container's network."""


def network_body(plan: NetworkPlan) -> Json:
    """Return the keyword arguments of docker-py's ``create_network``."""
    pool: Json = {"Subnet": plan.subnet, "Gateway": gateway(plan.subnet)}
    if plan.way_out == "none":
        pool["AuxiliaryAddresses"] = {_NEXT_HOP: _last(plan.subnet)}
    body: Json = {
        "name": plan.name,
        "driver": "bridge",
        "ipam": {"Driver": "default", "Config": [pool]},
        "labels": dict(plan.labels),
        "check_duplicate": False,
    }
    if plan.way_out != "open":
        body["options"] = {_GIVES_ADDRESSES: "false"}
    return body


def podman_closed_body(plan: NetworkPlan) -> Json:
    """Return the body of Podman's own ``POST /libpod/networks/create`` for a network without a way out.

    Its Docker API has no option for that. Like the networks made there, this one is isolated from others.
    """
    return {
        "name": plan.name,
        "driver": "bridge",
        "subnets": [{"subnet": plan.subnet, "gateway": gateway(plan.subnet)}],
        "labels": dict(plan.labels),
        "options": {"isolate": "true", "no_default_route": "true"},
        "dns_enabled": True,
        "network_dns_servers": [_NOWHERE],
    }


def network(answer: Json, plan: NetworkPlan) -> Network:
    """Read the answer to a creation."""
    network_id = answer.get("Id") or answer["id"]  # the second is Podman's own
    return Network(str(network_id), plan.name, gateway(plan.subnet), plan.way_out)


def without_name_server(plan: StagePlan) -> StagePlan:
    """Return the plan of a stage in a closed network on Docker, which asks no name server but its own."""
    options = plan.options
    if plan.network.way_out == "open" or plan.join is not None or options.dns:
        return plan
    return msgspec.structs.replace(
        plan, options=msgspec.structs.replace(options, dns=(_NOBODY_HERE,))
    )


def gateway(subnet: str) -> str:
    """Return the first host address of a CIDR."""
    return str(ipaddress.ip_network(subnet)[1])


def _last(subnet: str) -> str:
    """Return the last host address of a CIDR. As it is told to be used, no container gets it."""
    return str(ipaddress.ip_network(subnet)[-2])
