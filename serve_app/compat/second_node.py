"""`python -m serve_app.compat.second_node ADDRESS CPUS`: one more node of a Ray cluster on this machine, to be lost.

Ray 2.60's own `ray start` refuses a second node where a cluster is bound to 127.0.0.1, as that of `up` is. The process
is the node's parent: the node ends with it.
"""

from __future__ import annotations

import signal
import sys
import time

import ray
from ray._private.node import Node
from ray._private.parameter import RayParams

JOINED = "the node has joined"
LOOK_S = 0.2


def main(address: str, cpus: int) -> None:
    """Joins the cluster whose head listens at `address`, says JOINED, and waits for a signal."""
    params = RayParams(gcs_address=address, node_ip_address=address.partition(":")[0], num_cpus=cpus, num_gpus=0)
    node = Node(params, head=False, shutdown_at_exit=True, spawn_reaper=True, connect_only=False)
    ray.init(address, log_to_driver=False, logging_level="ERROR")
    while not any(one["Alive"] and one["RayletSocketName"] == node.raylet_socket_name for one in ray.nodes()):
        time.sleep(LOOK_S)
    ray.shutdown()
    print(JOINED, flush=True)
    signal.pause()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
