"""Names of models: which can be served, and what Ray Serve's deployments are called after them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator

LONGEST = 160
"""Characters. Ray names log files after deployments, and a file's name has 255 at most."""
INGRESS = "ingress"
BATCH = "batch-api"
BATCH_POOL = "/v1/batches"
"""The name of the batch deployment among the pools of replicas."""
CONSOLE = "console"
CONSOLE_POOL = "/console"
"""The name of the console's deployment among the pools of replicas."""


def model_name(name: str) -> str:
    """The name as it is; ValueError for one that metrics or logs cannot carry."""
    if not name.strip():
        raise ValueError("should not be empty")
    if len(name) > LONGEST:
        raise ValueError(f"has {len(name):,} characters: {LONGEST} at most")
    if not name.isprintable() or name != name.strip():
        raise ValueError("should be of printable characters, with no space at either end")
    return name


def model_id(name: str) -> str:
    """The id as it is; ValueError for one after which Ray Serve could not name actors and files, or metrics carry."""
    if not model_name(name).isascii():
        raise ValueError("should be of ASCII characters; an alias may have others")
    return name


def deployment(model: str) -> str:
    """The Ray Serve deployment of the model with this id."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "--", model)


Id = Annotated[str, AfterValidator(model_id)]
Name = Annotated[str, AfterValidator(model_name)]


def distinct(models: Sequence[tuple[str, ...]]) -> None:
    """Raises ValueError where two models share a name, or one would be the Ray Serve deployment of another or of the
    service's own parts. Each model is its id and its aliases."""
    owner: dict[str, str] = {}
    for model, *aliases in models:
        for name in (model, *aliases):
            if name in owner:
                raise ValueError(f"the name {name!r} is used by {owner[name]!r} and again by {model!r}")
            owner[name] = model
    deployments = {
        INGRESS: "the service's ingress",
        BATCH: "the service's Batch API",
        CONSOLE: "the service's console",
    }
    pools = {BATCH_POOL: BATCH, CONSOLE_POOL: CONSOLE}
    for model, *_ in models:
        name = deployment(model)
        if name in deployments or model in pools:
            taken = deployments[name if name in deployments else pools[model]]
            raise ValueError(f"the id {model!r} names the Ray Serve deployment {name!r}, which is {taken}")
        deployments[name] = f"that of {model!r}"
