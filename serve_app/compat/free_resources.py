"""What each node of the cluster has free at present, and which deployments there are.

Ray 2.60's public `ray.available_resources()` gives sums over all nodes, in which nobody sees whether one node has room.
`serve.status()` knows no deployments of an application that is being built; the names of its replicas' actors do.
"""

from __future__ import annotations

import ray
import ray.util
from ray._private import state

from serve_app.compat import replica_actor


def free_of_nodes() -> list[dict[str, float]]:
    """Resources by name of each living node; none where this process has joined no cluster. Raises what Ray raises."""
    return list(state.available_resources_per_node().values()) if ray.is_initialized() else []


def deployed() -> frozenset[str]:
    """Names of the deployments that have replicas; none where this process has joined no cluster."""
    if not ray.is_initialized():
        return frozenset()
    names = (str(actor["name"]) for actor in ray.util.list_named_actors(all_namespaces=True))
    return frozenset(name.split("#")[1] for name in names if name.startswith(replica_actor.PREFIX) and "#" in name)
