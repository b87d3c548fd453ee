"""The simulator's command line, and the scenario it describes."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from pydantic import ValidationError

from loadtests.arguments import BadSpec, instead, number, whole
from loadtests.loadgen import lengths, traffic
from loadtests.planner.simulation import calibrate, scalers
from loadtests.planner.simulation.fleet import Hardware
from loadtests.planner.simulation.scalers import ScalerInputs
from loadtests.planner.simulation.world import SimulationScenario
from loadtests.planner.tuning.oracle import Oracle
from loadtests.planner.tuning.state import State
from loadtests.results.slo import Slo
from serve_app.config import file
from serve_app.config.adapters import AdaptersConfig
from serve_app.config.errors import ConfigError, explain
from serve_app.config.schema import Autoscaling, IngressConfig, ModelConfig, Simulated
from serve_app.planning.resolve import resolve
from serve_app.routing.pickers import PICKERS

STARTUP_S = 30.0
"""How long a replica takes to start where nothing says it, s."""
MOST_REPLICAS = 1000
"""Where neither --replicas nor the configuration says how many there may be."""
MOST_SKEW = 10.0
"""Of --adapter-skew: with it one adapter has nearly all requests."""


class UsageError(Exception):
    """The command line leaves something open, or names what is not there; says what to give."""


@dataclass(frozen=True)
class SimulationOptions:
    """What the simulator's command line asks for."""

    scenario: SimulationScenario
    slo: Slo
    bounds: tuple[int, int]
    """Fewest and most replicas."""
    policies: tuple[str, ...]
    """As given, such as `keda:threshold=20`."""
    facts: tuple[str, ...]
    """Where the timing is from, for people."""


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="serve-app simulate",
        description="How a model's replicas, balancing and autoscaling would hold a traffic: in virtual time.",
    )
    add = parser.add_argument
    add("--traffic", required=True, help="as for the other load tests: spike:base=2,peak=12,at=60,for=60,duration=300")
    add("--lengths", default="lognormal:prompt=256,output=128", help="tokens of a request (default: %(default)s)")
    add("--slo", default="ttft_p95=500ms,tpot_p95=40ms", help="default: %(default)s")
    add("--policy", default="ours,serve,keda,oracle", help="by comma: ours, serve, keda, fixed:N, oracle, with options")
    add("--question", choices=["gpus"], help="find the fewest GPUs with which the SLO holds under the first policy")
    replica = parser.add_argument_group("one replica: a measurement, a configuration, or figures")
    add = replica.add_argument
    add("--calibration", type=Path, help="what `serve-app tune` measured (JSON)")
    add("--config", type=Path, help="a configuration of this service")
    add("--model", help="which of its models, where it has several")
    add("--timing", help="step_base_ms=10,step_per_sequence_ms=0.1,prefill_tokens_per_s=20000,kv_tokens=100000,...")
    add("--max-running", type=whole(), help="sequences one replica decodes at the same time")
    add("--path", default="0ms", help="what the way to the replica adds to TTFT (default: %(default)s)")
    add("--max-queued", type=whole(0), help="requests it holds beyond those")
    fleet = parser.add_argument_group("the fleet")
    add = fleet.add_argument
    add("--replicas", help=f"fewest..most (default: the configuration's, or 1..{MOST_REPLICAS})")
    add("--startup", help=f"of a replica, as in 5s (default: as measured or configured, or {STARTUP_S:g}s)")
    add("--replicas-per-gpu", type=whole(), default=1)
    add("--gpus", type=whole(), help="how many there are (default: as many as are asked for)")
    add("--ingresses", type=whole(), help="ingress processes, each with a pool of its own")
    add("--seed", type=int, default=0)
    asked = parser.add_argument_group("adapters")
    add = asked.add_argument
    add("--adapters", type=whole(), help="how many adapters requests are for (default: none, they are for the model)")
    add("--adapter-skew", type=float, default=1.0, help="how unevenly they are asked: 0 alike, 1 as words (Zipf's law)")
    add("--max-loaded", type=whole(), help="how many one replica has room for (default: the configuration's, or 8)")
    add("--routing", choices=PICKERS, help="in place of the configuration's policy: least_loaded is without affinity")
    output = parser.add_argument_group("output")
    output.add_argument("--json", type=Path, help="write figures and curves here")
    output.add_argument("--plot", type=Path, help="draw replicas and service over time into this PNG")
    return parser


def read(args: argparse.Namespace) -> SimulationOptions:
    """What the arguments ask for, with the timing read or fitted.

    Raises UsageError, BadSpec, ConfigError, CannotCalibrate or OSError.
    """
    _check_together(args)
    model, ingress, facts = _model(args)
    load, path_s = traffic.parse(args.traffic), _seconds(args.path, "--path")
    startup_s = model.simulated.startup_s if model.simulated and model.simulated.startup_s else STARTUP_S
    if args.calibration:
        measured = _measured(args.calibration)
        model, fit = _calibrated(model, measured, args.replicas_per_gpu, path_s)
        facts = (*facts, fit)
        startup_s = median(measured.startup_s) if measured.startup_s else startup_s
    if args.startup:
        startup_s = _seconds(args.startup, "--startup")
    limits = {"max_running": args.max_running, "max_queued": args.max_queued}
    model = model.model_copy(update={key: value for key, value in limits.items() if value is not None})
    if args.routing:
        model = model.model_copy(update={"routing_policy": args.routing})
    if args.adapters:
        model = model.model_copy(update={"adapters": _adapters(args, model)})
    if args.ingresses:
        ingress = ingress.model_copy(update={"replicas": args.ingresses})
    scenario = SimulationScenario(
        model=model,
        traffic=load,
        lengths=lengths.parse(args.lengths),
        hardware=Hardware(startup_s, args.replicas_per_gpu, args.gpus),
        ingress=ingress,
        adapters=popularity(args.adapters or 0, args.adapter_skew),
        path_s=path_s,
        seed=args.seed,
    )
    bounds = _bounds(args, model)
    return SimulationOptions(scenario, Slo.parse(args.slo), bounds, tuple(_policies(args.policy)), facts)


def popularity(count: int, skew: float) -> dict[str, float]:
    """So many adapters, and how often each is asked: the n-th 1 / n^skew times as often as the first (Zipf's law)."""
    return {f"adapter-{number:02}": number**-skew for number in range(1, count + 1)}


def on_gpus(asked: SimulationOptions, gpus: int) -> SimulationOptions:
    """`asked` with so many GPUs, and no more replicas than they hold."""
    hardware = replace(asked.scenario.hardware, gpus=gpus)
    most = gpus * hardware.replicas_per_gpu
    bounds = min(asked.bounds[0], most), min(asked.bounds[1], most)
    return replace(asked, scenario=replace(asked.scenario, hardware=hardware), bounds=bounds)


def _check_together(args: argparse.Namespace) -> None:
    """Raises BadSpec for options of which one would go unheeded."""
    if args.model and not args.config:
        raise BadSpec("--model says which model of a configuration: give --config as well")
    if args.max_loaded and not args.adapters:
        raise BadSpec("--max-loaded is how many adapters a replica has room for: give --adapters as well")
    if not 0 <= args.adapter_skew <= MOST_SKEW:
        raise BadSpec(f"--adapter-skew must be from 0 to {MOST_SKEW:g}; got {args.adapter_skew:g}")
    if args.question and args.plot:
        raise BadSpec("--plot draws policies side by side, and --question asks for a number: give one of them")


def _adapters(args: argparse.Namespace, model: ModelConfig) -> AdaptersConfig:
    """Of which it counts alone how many have room at the same time."""
    known = model.adapters or AdaptersConfig(directory="/")
    return known if args.max_loaded is None else known.model_copy(update={"max_loaded": args.max_loaded})


def _seconds(text: str, option: str) -> float:
    value = number(text, option)
    if value < 0:
        raise BadSpec(f"{option} must not be below 0; got {text!r}")
    return value


def _model(args: argparse.Namespace) -> tuple[ModelConfig, IngressConfig, tuple[str, ...]]:
    if args.config:
        model, ingress = _configured(args.config, args.model)
        if args.timing:
            model = model.model_copy(update={"simulated": timing(args.timing)})
        if model.simulated is None and not args.calibration:
            raise UsageError(
                f"{args.config} does not say how fast {model.id} is: add --calibration FILE, which `python -m"
                " loadtests.tune` measures, or --timing"
            )
        return model, ingress, (f"{model.id} of {args.config}",)
    if not (args.timing or args.calibration):
        raise UsageError("how fast is a replica? Say --calibration FILE, --config FILE or --timing step_base_ms=...")
    model = ModelConfig(id="simulated", engine="simulated", simulated=timing(args.timing or ""))
    return model, IngressConfig(), (f"timing {args.timing}",) if args.timing else ()


def _configured(path: Path, name: str | None) -> tuple[ModelConfig, IngressConfig]:
    read = file.load(path)
    services = [resolve(one.config).config for one in read.applications]
    models = {model.id: (model, one.ingress) for one in services for model in one.models}
    if name is None and len(models) == 1:
        return next(iter(models.values()))
    if name not in models:
        raise UsageError(f"--model must be one of {', '.join(models)}")
    return models[name]


def _measured(path: Path) -> State:
    try:
        return State.read(path)
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"--calibration {path} is not what a tuner keeps: {error!r}") from None


def _calibrated(model: ModelConfig, measured: State, replicas_per_gpu: int, path_s: float) -> tuple[ModelConfig, str]:
    """(the model with its timing fitted, how well it fits, for people): from what was measured when so many replicas
    shared a GPU, or with the configured packing where that was not measured."""
    packed = [one for one in measured.steps if one.replicas_per_gpu == replicas_per_gpu]
    steps = packed or [one for one in measured.steps if one.replicas_per_gpu is None]
    fit = calibrate.fit(steps, model.simulated or Simulated(), path_s)
    fitted = fit.timing
    fact = (
        f"fitted to {fit.steps} measurements: step {fitted.step_base_ms:.3g} ms + {fitted.step_per_sequence_ms:.3g} ms"
        f" a sequence, prefill {fitted.prefill_tokens_per_s:,.0f} tokens/s; TPOT within {fit.tpot_error:.1%}, TTFT"
        f" within {fit.ttft_error:.1%} of them"
    )
    return model.model_copy(update={"simulated": fitted}), fact


def timing(text: str) -> Simulated:
    """`step_base_ms=10,...`, in the units of `models[].simulated`."""
    given = {}
    for word in filter(None, (word.strip() for word in text.split(","))):
        key, _, value = (part.strip() for part in word.partition("="))
        if key not in Simulated.model_fields:
            hint = instead(key, Simulated.model_fields)
            raise BadSpec(f"--timing: unknown key {key!r}{hint}; there are {', '.join(Simulated.model_fields)}")
        given[key] = number(value, f"--timing: {key}")
    try:
        return Simulated.model_validate(given)
    except ValidationError as error:
        raise ConfigError(explain(error, Simulated), "--timing") from None


def _bounds(args: argparse.Namespace, model: ModelConfig) -> tuple[int, int]:
    if args.replicas:
        found = re.fullmatch(r"(\d+)(?:\.\.(\d+))?", args.replicas)
        if not found:
            raise BadSpec(f"--replicas is a number or fewest..most, as in 1..8; got {args.replicas!r}")
        low, high = int(found[1]), int(found[2] or found[1])
    elif model.autoscaling:
        low, high = model.autoscaling.min_replicas, model.autoscaling.max_replicas
    else:
        low, high = 1, MOST_REPLICAS
    if args.gpus:
        high = min(high, args.gpus * args.replicas_per_gpu)
    if high < 1:
        raise BadSpec("--replicas: none would ever serve; allow at least 1")
    if not low <= high:
        raise BadSpec(f"--replicas: {low} is above {high}")
    return low, high


def _policies(text: str) -> list[str]:
    """The policies in a list that is split at the commas before a name: options have commas of their own. Raises
    BadSpec."""
    found = [one.strip() for one in re.split(r",(?=\s*[a-z]+\s*(?:[:,]|$))", text) if one.strip()]
    if not found:
        raise BadSpec(f"--policy is empty; there are {', '.join(scalers.SCALERS)}")
    inputs = ScalerInputs(Autoscaling(max_replicas=1), 1, lambda: Oracle(1.0, (1,)))
    for one in found:
        scalers.make(one, inputs)
    return found
