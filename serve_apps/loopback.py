"""Serve's own port of a replica, kept to this machine where Ray is.

Ray Serve 2.60 opens a gRPC server in every replica, for calls between deployments, at ``[::]``
whatever address Ray itself keeps to; there is no setting. What comes there is unpickled.
"""

from __future__ import annotations

import logging
from typing import Any

from serve_apps.guard.settings import is_loopback

ANYWHERE, HERE = "[::]:", "127.0.0.1:"

log = logging.getLogger("orchestrator.loopback")


def keep_to_loopback() -> None:
    """To be called in a replica's process before its constructor returns: the port opens then.

    Does nothing where Ray's node has an address that others reach.
    """
    import ray
    from ray.serve._private import replica

    if not is_loopback(ray.util.get_node_ip_address()):
        return
    opens = getattr(replica, "add_port_to_grpc_server", None)
    if opens is None:
        log.warning("this version of Ray Serve opens its replicas' ports in another way")
        return

    def opens_here(server: Any, address: str) -> Any:
        return opens(server, address.replace(ANYWHERE, HERE, 1))

    replica.add_port_to_grpc_server = opens_here
