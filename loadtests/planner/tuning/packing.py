"""How many replicas share a GPU: which packings are tried, which is best, and what one replica of it carries.

Knees are kept by packing, under `key`: "" where a model takes no GPU, else the number of replicas on one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from loadtests.planner.tuning.knee import Knee
from loadtests.planner.tuning.step import Step
from serve_app.config.schema import ModelConfig
from serve_app.planning.resolve import gpu_share

PACKINGS = (1, 2, 4, 8)


def to_try(model: ModelConfig, gpus: int) -> tuple[int, ...]:
    """Replicas on a GPU to measure on a machine with so many; none where the model needs more than one, or none."""
    return PACKINGS if gpus and model.engine == "vllm" and 0 < gpu_share(model) <= 1 else ()


def key(count: int | None) -> str:
    """Under which a packing's knee is kept."""
    return "" if count is None else str(count)


def best(knees: Mapping[str, Knee]) -> int | None:
    """Replicas on a GPU that carry most within the SLO; None without a GPU."""
    found = {int(name): one.rate for name, one in knees.items() if name}
    return max(found, key=lambda count: found[count]) if found else None


def is_past_best(knees: Mapping[str, Knee]) -> bool:
    """Whether the densest packing so far carries less than one that is not as dense: denser ones would as well."""
    return bool(knees) and best(knees) != max((int(name) for name in knees if name), default=None)


def one_replica(knees: Mapping[str, Knee], steps: Iterable[Step]) -> tuple[Knee, list[Step]]:
    """The knee in the best packing and the steps it was found from, as one replica of it saw them on average."""
    count = best(knees)
    share = count or 1
    whole = knees[key(count)]
    each = replace(whole, rate=whole.rate / share, low=whole.low / share, high=whole.high / share)
    return each, [_of_one(step, share) for step in steps if step.replicas_per_gpu == count]


def _of_one(step: Step, share: int) -> Step:
    """A step of several replicas together, as one of them saw it on average."""
    return replace(
        step,
        rate=step.rate / share,
        achieved_rate=step.achieved_rate / share,
        concurrency=step.concurrency / share,
        tokens_per_s=step.tokens_per_s / share,
    )
