"""GET /place: on which machine and GPUs a replica is, and what of their memory it was planned to take.

Asked by who shows it to people; nothing is looked up before.
"""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import asdict
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from serve_app.config.schema import ModelConfig
from serve_app.planning import gpus
from serve_app.planning.packing import GIB
from serve_app.planning.plan import model_plan

PLACE = "/place"
PLANNED = ("gpu_share", "budget_gib", "weights_gib", "kv_gib", "reserve_gib", "tokens", "cpus")
"""Of a ModelPlan."""


class PlacePage:
    """An ASGI application."""

    def __init__(self, model: ModelConfig) -> None:
        """`model` is resolved."""
        self._model = model

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        told = await asyncio.to_thread(look, self._model)
        await JSONResponse(told)(scope, receive, send)


def look(model: ModelConfig) -> dict[str, Any]:
    """This process's machine, its GPUs, those of them that are a replica's of this model, and its plan."""
    problem = None
    try:
        there = gpus.installed()
        mine = [one.uuid for one in gpus.seen(there, os.environ.get(gpus.VISIBLE))] if model.gpus else []
    except (gpus.GpusUnknown, ValueError) as error:
        there, mine, problem = (), [], str(error)
    size = max((one.total_gib for one in there if one.uuid in mine), default=0.0)
    # Without the size of its GPU nobody knows what a share of it is.
    planned = {} if model.gpus and not size else asdict(model_plan(model, int(size * GIB)))
    return {
        "host": socket.gethostname(),
        "gpus": [asdict(one) for one in there],
        "mine": mine,
        "problem": problem,
        "planned": {name: planned[name] for name in PLANNED if name in planned},
    }
