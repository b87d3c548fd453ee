"""Small facts for other processes of the cluster to read, as JSON in Ray's internal key-value store.

The one module that touches `ray.experimental.internal_kv`, which is no stable interface. It is the one thing that
the Serve controller and every replica reach without a call to an actor: a request to the GCS of under a millisecond,
which has no queue behind a replica's or the controller's other work. The functions block for that long and may be
called from any thread; they raise what Ray raises when the GCS does not answer.
"""

from __future__ import annotations

import json
from typing import Any

from ray.experimental import internal_kv

NAMESPACE = b"serve_app"


def write(key: str, fact: Any) -> None:
    internal_kv._internal_kv_put(key, json.dumps(fact, separators=(",", ":")), namespace=NAMESPACE)


def read(key: str) -> Any:
    """None where there is nothing."""
    value = internal_kv._internal_kv_get(key, namespace=NAMESPACE)
    return None if value is None else json.loads(value)


def read_all(prefix: str) -> dict[str, Any]:
    """Every fact whose key begins so, by key."""
    if not (keys := internal_kv._internal_kv_list(prefix, namespace=NAMESPACE)):
        return {}
    found = internal_kv.internal_kv_get_gcs_client().internal_kv_multi_get(keys, NAMESPACE)
    return {key.decode(): json.loads(value) for key, value in found.items()}


def erase(key: str) -> None:
    internal_kv._internal_kv_del(key, namespace=NAMESPACE)
