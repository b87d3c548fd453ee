"""In which order an upgrade replaces the replicas of a model: new ones first where there is room for one beside the
old, old ones first where there is none, as a new one would wait for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from serve_app.config.schema import ModelConfig
from serve_app.planning.plan import PACKING_SLACK, ServicePlan, gpus_needed
from serve_app.planning.resolve import gpu_share, replica_bounds

NEW_FIRST = 100
OLD_FIRST = 0


@dataclass(frozen=True)
class Upgrade:
    """How the replicas of a model are replaced."""

    model: str
    max_surge_percent: int
    why: str

    def __str__(self) -> str:
        if self.max_surge_percent:
            return f"an upgrade starts new replicas before it stops old ones: {self.why}"
        return f"an upgrade stops each old replica before its successor starts: {self.why}"


def planned(model: ModelConfig, service: ServicePlan, gpus: int | None = None, cores: int | None = None) -> Upgrade:
    """The order for a resolved model of a service that has all models at their most replicas, on so many GPUs and
    cores; None where nobody knows how many, and there are as many GPUs as the service needs and cores enough."""
    if (given := model.max_surge_percent) is not None:
        return Upgrade(model.id, given, f"max_surge_percent is {given}")
    share = gpu_share(model)
    shares = [one.gpu_share for one in service.models for _ in range(one.replicas_max)]
    if share and gpus_needed([*shares, share]) > max(service.gpus_max, gpus or 0):
        return Upgrade(model.id, OLD_FIRST, "the GPUs have no room for one more")
    if cores is not None and service.cpus_min <= cores < service.cpus_max + model.cpus:
        return Upgrade(model.id, OLD_FIRST, f"all replicas leave less than {model.cpus:g} of {cores} CPU cores free")
    room = f"{share:g} of a GPU and " if 0 < share < 1 else f"{share:g} GPUs and " if share else ""
    return Upgrade(model.id, NEW_FIRST, f"it needs {room}{model.cpus:g} CPU cores beside all replicas")


def surge_percent(model: ModelConfig, newcomers: Iterable[ModelConfig], free: Sequence[Mapping[str, float]]) -> int:
    """Serve's `max_surge_percent` for a resolved model on nodes that have these resources free now.

    `newcomers` are the models that have no replicas yet, which will take some of that.
    """
    if model.max_surge_percent is not None:
        return model.max_surge_percent
    nodes = [{"CPU": node.get("CPU", 0.0), "GPU": node.get("GPU", 0.0)} for node in free]
    for other in newcomers:
        for _ in range(replica_bounds(other)[0] if other.id != model.id else 0):
            _place(other, nodes)
    return NEW_FIRST if _place(model, nodes) else OLD_FIRST


def _place(model: ModelConfig, nodes: list[dict[str, float]]) -> bool:
    """Takes the room of one replica from the first node that has it; whether any had."""
    wanted = {"CPU": model.cpus, "GPU": gpu_share(model)}
    for node in nodes:
        if all(node[name] + PACKING_SLACK >= amount for name, amount in wanted.items()):
            for name, amount in wanted.items():
                node[name] -= amount
            return True
    return False
