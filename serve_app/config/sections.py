"""What sections of the configuration are made of, and the parts of a model's entry."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

Positive = Annotated[float, Field(gt=0)]
AtLeastOne = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]


def _the_same_wherever_it_starts(directory: str) -> str:
    if not directory.startswith(("/", "~")):
        raise ValueError(f"{directory!r} would be another folder for each process: write it from / or ~")
    return directory


Directory = Annotated[str, AfterValidator(_the_same_wherever_it_starts)]
"""An absolute path, or one below `~`."""


def _number_or_auto(given: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    try:
        return handler(given)
    except ValidationError:
        raise ValueError(f"should be auto or a whole number above 0, not {given!r}") from None


PerGpu = Annotated[Annotated[int, Field(ge=1)] | Literal["auto"], WrapValidator(_number_or_auto)]
"""How many replicas share a GPU; `auto` leaves the number to `serve_app.planning.resolve`."""


class Section(BaseModel):
    """A part of the configuration: closed to unknown keys, immutable once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=())


class Sampling(Section):
    """Sampling used when a request does not say otherwise."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """Softmax temperature; 0 is greedy."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Nucleus sampling: the smallest set of tokens whose probability reaches this."""
    top_k: Annotated[int, Field(ge=-1)] | None = None
    """Keep only the k likeliest tokens; -1 or 0 keeps all."""
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    """Drop tokens less likely than this share of the likeliest one."""
    repetition_penalty: Positive | None = None
    """Above 1 discourages tokens that the prompt or the output already holds."""


class Memory(Section):
    """What a model needs of a device's memory, for planning."""

    weights_gib: Positive
    """Weights as loaded (bf16 unless quantised), GiB."""
    kv_bytes_per_token: AtLeastOne
    """KV cache of one token over all attention layers, bytes."""
    state_bytes_per_sequence: NotNegative = 0
    """Convolution state of one running sequence as vLLM pages it, bytes."""
    reserve_gib: Positive = 2.5
    """Left for CUDA's context, graphs and activations of one replica, GiB."""
    adapter_bytes_per_rank: AtLeastOne | None = None
    """One loaded LoRA adapter, for each unit of its rank, bytes."""


class Autoscaling(Section):
    """Bounds and pace of a model's replicas."""

    min_replicas: NotNegative = 1
    """Never fewer; 0 lets an idle model give its accelerator back."""
    max_replicas: AtLeastOne
    """Never more."""
    initial_replicas: NotNegative | None = None
    """How many to start with; `min_replicas` unless set."""
    target_load: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Aimed-at share of `max_running` that is busy."""
    target_kv_usage: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Aimed-at share of the KV cache in use."""
    tokens_per_s: Positive | None = None
    """Output tokens a second one replica is meant to carry, head-room taken off; unless set, tokens do not count."""
    ttft_target_s: Positive | None = None
    """Grow while requests wait and the engines' mean time to first token is above this, seconds."""
    startup_s: Positive | None = None
    """How long replicas take to start, seconds; with it, what will wait by then asks for replicas too."""
    upscale_delay_s: Annotated[float, Field(ge=0)] = 5.0
    """Demand must stay above the present replicas for this long, unless arrivals jump by more than chance or there are
    more requests than slots."""
    downscale_delay_s: Annotated[float, Field(ge=0)] = 120.0
    """Demand must stay below the present replicas for this long."""
    standby: NotNegative = 0
    """Further replicas that are started but asleep, their weights in the host's memory: they serve a moment after they
    are needed, and others are started in their place, up to `max_replicas` in all."""
    standby_cost: Annotated[float, Field(ge=0, le=1)] = 0.1
    """What a sleeping replica counts in replica-seconds, as a share of one that serves."""

    @model_validator(mode="after")
    def _ordered(self) -> Autoscaling:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas ({self.min_replicas}) is above max_replicas ({self.max_replicas})")
        if self.min_replicas + self.standby > self.max_replicas:
            raise ValueError(
                f"min_replicas and standby ({self.min_replicas} + {self.standby}) are above max_replicas "
                f"({self.max_replicas}), which counts sleeping replicas too"
            )
        first = self.initial_replicas
        if first is not None and not self.min_replicas <= first <= self.max_replicas:
            raise ValueError(f"initial_replicas ({first}) is outside {self.min_replicas}..{self.max_replicas}")
        return self


class Simulated(Section):
    """The simulated engine's speed and size (`engine: simulated`)."""

    prefill_tokens_per_s: Positive = 20_000
    """Prompt tokens processed a second by one replica."""
    prefill_chunk_tokens: AtLeastOne | None = None
    """Tokens one step may carry, prompts' included, which then lengthen it, as vLLM's max_num_batched_tokens;
    without it prefill delays nobody's decoding."""
    step_base_ms: Positive = 10.0
    """Time of one decoding step with a single sequence, ms."""
    step_per_sequence_ms: Annotated[float, Field(ge=0)] = 0.1
    """Added to a step by each further running sequence, ms."""
    kv_tokens: AtLeastOne = 100_000
    """Tokens the KV cache holds; a sequence that does not fit waits."""
    max_model_len: AtLeastOne = 32_768
    """Context length, tokens."""
    startup_s: Annotated[float, Field(ge=0)] = 0.0
    """How long a replica takes to become ready."""
    wake_s: Annotated[float, Field(ge=0)] = 0.07
    """How long one that sleeps takes to wake."""
    adapter_load_ms: Annotated[float, Field(ge=0)] = 50.0
    """How long an adapter's files take to read, ms, beside the steps."""
    adapter_stall_ms: Annotated[float, Field(ge=0)] = 5.0
    """For how long every stream then waits for it, ms."""
