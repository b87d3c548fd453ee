"""`serve-app check CONFIG`: is the configuration right, and what would run where?

Takes about a second: it imports neither Ray, vLLM nor torch.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from serve_app.config import keys, known_keys
from serve_app.config.errors import spell
from serve_app.config.file import Application, ConfigFile, load
from serve_app.config.schema import Autoscaling, ConfigError, ServiceConfig
from serve_app.planning import compile_cache, gpus, machine, open_files, plan, upgrade
from serve_app.planning.packing import ASSUMED_GPU_GIB, GIB
from serve_app.planning.plan import ASLEEP_GIB, ModelPlan, ServicePlan
from serve_app.planning.resolve import gpu_share, resolve
from serve_app.planning.upgrade import Upgrade

LOOPBACK = ("127.0.0.1", "localhost", "::1")
COLUMNS = ("MODEL", "REPLICAS", "GPUS", "GIB", "WEIGHTS", "RESERVE", "KV", "TOKENS", "FULL", "2K", "RUNNING")
LEGEND = (
    "per replica: GPUs and the GiB it may use of them, weights + reserve + KV cache in GiB, tokens that fit,\n"
    "sequences that fit at full context and at 2,048 tokens, most that run at the same time"
)


@dataclass(frozen=True)
class Checked:
    """An application and what would run."""

    application: Application
    memory: GpuMemory
    plan: ServicePlan
    upgrades: tuple[Upgrade, ...]


@dataclass(frozen=True)
class GpuMemory:
    """Memory of one GPU, and how it is known."""

    gib: float
    source: str


def main(argv: list[str]) -> int:
    """0 when the configuration is right, 1 with what is wrong on standard error."""
    parser = argparse.ArgumentParser(prog="serve-app check", description="Check a configuration.")
    parser.add_argument("config", type=Path)
    parser.add_argument("--gpu-memory-gib", type=_positive, metavar="N", help="memory of one GPU")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="the plan as JSON")
    output.add_argument("--full", action="store_true", help="the configuration with every default filled in, as YAML")
    parser.add_argument("--elsewhere", action="store_true", help="it is for other machines: leave this one's files out")
    args = parser.parse_args(argv)
    try:
        file = load(args.config)
        if not args.elsewhere:
            machine.check_machine(file)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    if args.full:
        print(full(file), end="")
    else:
        shown = as_json if args.json else report
        print(shown(file, args.gpu_memory_gib, here=not args.elsewhere and not file.manifest))
    return 0


def report(file: ConfigFile, gpu_memory_gib: float | None, here: bool = False) -> str:
    """What would run, on this machine if `here`, for people."""
    checked = _checked(file, gpu_memory_gib, here)
    parts = [f"{file.path}: right"]
    for one in checked:
        parts.append(_summary(file, one))
        parts.append(_table([COLUMNS, *(_row(model) for model in one.plan.models)]) + f"\n{LEGEND}")
        described = zip(one.plan.models, one.upgrades, strict=True)
        parts.append("\n".join(line for model, order in described for line in _describe(model, order)))
    if found := warnings(file, checked):
        parts.append("\n".join(f"warning: {one}" for one in found))
    return "\n\n".join(parts)


def as_json(file: ConfigFile, gpu_memory_gib: float | None, here: bool = False) -> str:
    """What would run, on this machine if `here`, for programs."""
    checked = _checked(file, gpu_memory_gib, here)
    applications = [
        {
            "name": one.application.name,
            "route_prefix": one.application.route_prefix,
            "gpu_memory": asdict(one.memory),
            "plan": asdict(one.plan),
            "upgrades": [asdict(each) for each in one.upgrades],
        }
        for one in checked
    ]
    found = {"file": file.path, "applications": applications, "warnings": warnings(file, checked)}
    return json.dumps(found, indent=2)


def full(file: ConfigFile) -> str:
    """This service's applications with every default; keys of clients are their digests."""
    applications = []
    for application in file.applications:
        args = application.config.model_dump(mode="json")
        for entry, model in zip(args["models"], resolve(application.config).config.models, strict=True):
            if entry["replicas_per_gpu"] == "auto":
                entry["replicas"] = model.replicas
        names = {"name": application.name, "route_prefix": application.route_prefix}
        applications.append(names | {"import_path": "serve_app.app:build", "args": args})
    whole = {"http_options": file.http_options, "applications": applications}
    return yaml.safe_dump(whole, sort_keys=False, allow_unicode=True, width=120)


def warnings(file: ConfigFile, checked: list[Checked]) -> list[str]:
    """What is allowed and probably not meant."""
    found = []
    if not known_keys.engine_arguments():
        found.append("vLLM is not installed here, so the names in engine_args could not be checked")
    host = _host(file)
    for one in checked:
        ingress = one.application.config.ingress
        if host not in LOOPBACK and not ingress.api_keys and not ingress.keys:
            found.append(f"anyone who reaches {host} may use the service: ingress.keys is empty")
        found += _about_keys(one.application.config)
        found += one.plan.warnings
    if (timeout := file.http_options.get("request_timeout_s")) is not None:
        found.append(f"http_options.request_timeout_s cuts every answer that takes longer than {timeout} s")
    return found


def _about_keys(config: ServiceConfig) -> list[str]:
    """Keys that only `up` takes, and those that are not on this machine."""
    found = []
    for path, entry in keys.entries(config.ingress.api_keys, config.ingress.keys):
        place = spell(("ingress", *path))
        if keys.written_out(entry):
            found.append(f"{place} is written out: `up` deploys its digest, but other ways Ray logs it; write {entry}")
        elif not machine.key_exists(entry):
            found.append(f"{place}: there is no {entry} on this machine, and the service does not start without it")
    return found


def _checked(file: ConfigFile, gpu_memory_gib: float | None, here: bool) -> list[Checked]:
    checked = []
    for application in file.applications:
        resolved = resolve(application.config)
        memory = gpu_memory(resolved.config, gpu_memory_gib)
        planned = plan.plan(resolved, int(memory.gib * GIB))
        gpus_here = _gpus_here() if here and planned.gpus_max else None
        cores = os.cpu_count() if here else None
        upgrades = tuple(upgrade.planned(one, planned, gpus_here, cores) for one in resolved.config.models)
        checked.append(Checked(application, memory, planned, upgrades))
    return checked


def _gpus_here() -> int | None:
    try:
        return len(gpus.installed())
    except gpus.GpusUnknown:
        return None


def _host(file: ConfigFile) -> str:
    """Where HTTP listens; every interface unless the file says otherwise, as HAProxy does."""
    return str(file.http_options.get("host", "0.0.0.0"))


def gpu_memory(config: ServiceConfig, given_gib: float | None) -> GpuMemory:
    """What was given, else what the configuration says, else this machine's GPU, else an assumption."""
    if given_gib is not None:
        return GpuMemory(given_gib, "as given")
    if config.gpu_memory_gib is not None:
        return GpuMemory(config.gpu_memory_gib, "from gpu_memory_gib")
    if any(gpu_share(model) for model in config.models) and (found := _installed_gpu_gib()):
        return GpuMemory(found, "of this machine")
    return GpuMemory(ASSUMED_GPU_GIB, "assumed; --gpu-memory-gib or gpu_memory_gib would tell")


def _installed_gpu_gib() -> float | None:
    """Memory of the smallest GPU here, where anybody tells."""
    try:
        return min((one.total_gib for one in gpus.installed() if one.total_gib), default=None)
    except gpus.GpusUnknown:
        return None


def _summary(file: ConfigFile, checked: Checked) -> str:
    application, planned = checked.application, checked.plan
    lines = [
        f"application {application.name} at {application.route_prefix},"
        f" HTTP on {_host(file)}:{file.http_options.get('port', 8000)}",
        f"ingress replicas: {application.config.ingress.replicas}",
        f"connections of clients: {open_files.room(application.config.ingress.max_connections)}",
        f"CPU cores: {_range(planned.cpus_min, planned.cpus_max)}",
    ]
    batch = application.config.batch
    lines.append(
        f"Batch API: in {batch.directory}, files up to {batch.max_file_mib:g} MiB" if batch else "Batch API: off"
    )
    if usage := application.config.ingress.usage:
        lines.append(f"accounts of keys: in {usage.directory}")
    if planned.gpus_max:
        known = f"{checked.memory.gib:g} GiB each, {checked.memory.source}"
        lines.append(f"GPUs: {_range(planned.gpus_min, planned.gpus_max)} ({known})")
        lines.append(f"compile cache: {compile_cache.folder(application.config.cache_directory)}")
    return "\n".join(lines)


def _row(model: ModelPlan) -> tuple[str, ...]:
    sizes = (model.budget_gib, model.weights_gib, model.reserve_gib if model.gpu_share else None, model.kv_gib)
    counts = (model.tokens, model.full_sequences, model.sequences, model.max_running)
    return (
        model.id,
        _range(model.replicas_min, model.replicas_max),
        f"{model.gpu_share:g}" if model.gpu_share else "CPU",
        *("-" if size is None else f"{size:.3g}" if size < 1 else f"{size:.1f}" for size in sizes),
        *("-" if count is None else f"{count:,}" for count in counts),
    )


def _describe(model: ModelPlan, order: Upgrade) -> list[str]:
    facts = [model.kind if model.engine == "vllm" else f"{model.kind}, {model.engine}"]
    if aliases := model.names[1:]:
        facts.append("also " + ", ".join(aliases))
    facts.append(f"context {model.max_model_len:,}" if model.max_model_len else "the model's own context")
    if model.kind != "embedding":
        sampling = ", ".join(f"{name} {value:g}" for name, value in model.sampling.items())
        facts.append(f"sampling: {sampling or 'the checkpoint says, or temperature 1'}")
    facts += [f"tools: {model.tool_parser}"] if model.tool_parser else []
    facts += [f"reasoning: {model.reasoning_parser}"] if model.reasoning_parser else []
    lines = [f"{model.id}: " + "; ".join(facts)]
    if model.packing is not None:
        lines.append(f"{model.id}: replicas_per_gpu auto: {model.packing.replicas_per_gpu}; {model.packing.reason}")
    if model.autoscaling is not None:
        lines.append(f"{model.id}: " + _scaling(model, Autoscaling.model_validate(model.autoscaling)))
    if model.adapters is not None:
        lines.append(f"{model.id}: " + _adapters(model, model.adapters))
    lines.append(f"{model.id}: {order}")
    return lines


def _adapters(model: ModelPlan, at_once: int) -> str:
    """How many adapters a replica has room for, and what they take."""
    parts = [f"adapters: {at_once} at the same time on one replica"]
    if model.adapters_gib is not None:
        where = "each of its GPUs" if model.gpu_share > 1 else "its GPU" if model.gpu_share else "the host's memory"
        parts.append(f"{model.adapters_gib:.2g} GiB of {where}, and at most as much again of the host's memory")
    if model.adapters_fit is not None:
        parts.append(f"{model.adapters_fit:,} would fit beside one full context")
    return "; ".join(parts)


def _scaling(model: ModelPlan, settings: Autoscaling) -> str:
    aims = [
        f"{settings.target_load * model.max_running:.3g} requests",
        f"{settings.target_kv_usage:.0%} of its KV cache",
    ]
    aims += [f"{settings.tokens_per_s:g} output tokens/s"] if settings.tokens_per_s else []
    aims += [f"a TTFT of {settings.ttft_target_s:g} s while requests wait"] if settings.ttft_target_s else []
    parts = [
        f"autoscaling {_range(settings.min_replicas, settings.max_replicas)} replicas",
        f"aims at {' and '.join(aims)} a replica",
        f"up when that is exceeded for {settings.upscale_delay_s:g} s, at once when arrivals jump or there are more"
        " requests than slots",
        f"down when fewer would have done for {settings.downscale_delay_s:g} s",
    ]
    if settings.standby:
        parts.append(f"{settings.standby} of them asleep, {_asleep(model, settings)}, woken before others start")
    parts += (
        [] if settings.min_replicas else ["to zero when nothing is asked of it; the next request waits at the ingress"]
    )
    return "; ".join(parts)


def _asleep(model: ModelPlan, settings: Autoscaling) -> str:
    """What sleeping replicas hold. vLLM copies the weights of one to pinned memory of its host."""
    if not model.gpu_share or model.engine == "simulated":
        return "with all they hold"
    if model.weights_gib is None:
        return f"each with about {ASLEEP_GIB:g} GiB of its GPU and its weights in the host's memory"
    host_gib = settings.standby * model.weights_gib
    return (
        f"each with about {ASLEEP_GIB:g} GiB of its GPU and its weights in the host's memory, {host_gib:.3g} GiB of it"
        " for all"
    )


def _range(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g}-{high:g}"


def _table(rows: list[tuple[str, ...]]) -> str:
    """Columns as wide as they must be; the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    )


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError("should be above 0")
    return value
