"""The typed configuration: what a user writes under `args` of the Serve application.

A model entry is merged over what the catalog knows of its `id` before it is validated, so every
field below may come from the catalog, and whatever the entry says wins. Unknown keys are errors.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from serve_app.config import catalog, vllm_args
from serve_app.config.adapters import AdaptersConfig
from serve_app.config.api_keys import ApiKey
from serve_app.config.errors import SEVERAL_KEYS, ConfigError, KeyPath, explain, spell
from serve_app.config.keys import KeyConfig, told_apart
from serve_app.config.names import Id, Name, distinct
from serve_app.config.origin import Origin
from serve_app.config.sections import (
    AtLeastOne,
    Autoscaling,
    Directory,
    Memory,
    NotNegative,
    PerGpu,
    Positive,
    Sampling,
    Section,
    Simulated,
)
from serve_app.config.telemetry import LogConfig, Telemetry, TracingConfig
from serve_app.config.vllm_args import ReasoningParser, ToolParser


class ModelConfig(Section):
    """One model behind the endpoint."""

    id: Id
    """The name clients use, and by default the Hugging Face repository or local path of the weights."""
    source: str | None = None
    """Weights, where they are not `id`: a repository, a path, or `package:PATH` inside serve_app."""
    aliases: tuple[Name, ...] = ()
    """Further names for the same model."""
    kind: Literal["text", "vision", "embedding"] = "text"
    """What the model takes and gives."""
    engine: Literal["vllm", "simulated"] = "vllm"
    """`simulated` replaces vLLM by a model of its timing, for tests of balancing and scaling."""
    engine_args: dict[str, Any] = {}
    """vLLM's AsyncEngineArgs by name, passed on as they are."""
    sampling: Sampling = Sampling()
    """Sampling defaults."""
    tool_parser: ToolParser | None = None
    """vLLM's `--tool-call-parser`; also switches automatic tool choice on."""
    reasoning_parser: ReasoningParser | None = None
    """vLLM's `--reasoning-parser`."""
    images_per_prompt: AtLeastOne = 4
    """Images one prompt may hold (vision only)."""
    memory: Memory | None = None
    """Sizes for planning; without them `check` cannot say what fits."""
    adapters: AdaptersConfig | None = None
    """LoRA adapters, served beside the model; none unless set."""

    gpus: Annotated[float, Field(ge=0)] | None = None
    """GPUs of one replica: a fraction shares a GPU, a whole number above 1 is tensor parallel, 0 runs on the CPU.
    1 unless `replicas_per_gpu` says otherwise; a simulated engine takes none unless this says so."""
    replicas_per_gpu: PerGpu | None = None
    """How many replicas share a GPU evenly; the other way to write `gpus`. `auto` takes as many as pay and fit."""
    packing: Annotated[int, Field(ge=1, le=8)] | None = None
    """The most replicas known to pay on one GPU; `replicas_per_gpu: auto` goes no higher, and without it takes 1."""
    cpus: Annotated[float, Field(ge=0)] = 1.0
    """CPU cores Ray reserves for one replica."""
    replicas: AtLeastOne | None = None
    """A fixed number; 1, or what fills a GPU with `replicas_per_gpu: auto`, unless `autoscaling` is given."""
    autoscaling: Autoscaling | None = None
    """Let load decide the number of replicas."""

    max_running: AtLeastOne = 256
    """Sequences one replica decodes at the same time (vLLM's max_num_seqs)."""
    max_queued: NotNegative = 256
    """Sequences one replica holds beyond `max_running` before it refuses."""
    max_sequences: AtLeastOne | None = None
    """Sequences one request may be, `n` for each of its prompts; half of `max_running` unless set."""
    routing_policy: Literal["prefix_affinity", "least_loaded"] = "prefix_affinity"
    """Which replica gets a request: `prefix_affinity` sends those with a common prefix or session to the same one,
    where load allows; `least_loaded` sends each to the less loaded of two."""
    drain_timeout_s: Positive = 600.0
    """How long a leaving replica may take to finish what it accepted."""
    max_surge_percent: Annotated[int, Field(ge=0, le=100)] | None = None
    """How many replicas of a new version may start before old ones stop, in percent of their number; 0 stops each old
    one before its successor starts. Unless set, 100 where there is room for one more, and 0 where there is not."""
    simulated: Simulated | None = None
    """Timing of `engine: simulated`."""

    @model_validator(mode="before")
    @classmethod
    def _over_catalog(cls, entry: Any) -> Any:
        return catalog.fill(entry) if isinstance(entry, dict) else entry

    @field_validator("engine_args")
    @classmethod
    def _vllm_knows_them(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        if wrong := vllm_args.problems(arguments):
            text = "; ".join(f"{spell(path)} {what}" for path, what in wrong.items())
            raise PydanticCustomError(SEVERAL_KEYS, "{text}", {"text": text, "keys": wrong})
        return arguments

    @field_validator("gpus")
    @classmethod
    def _whole_above_one(cls, gpus: float | None) -> float | None:
        if gpus is not None and gpus > 1 and gpus != int(gpus):
            raise ValueError(f"{gpus} GPUs a replica: a fraction is below 1, above it is a whole number")
        return gpus

    @model_validator(mode="after")
    def _consistent(self) -> ModelConfig:
        if self.gpus is not None and self.replicas_per_gpu is not None:
            raise ValueError("gpus and replicas_per_gpu say the same thing twice: keep one")
        if self.replicas is not None and self.autoscaling is not None:
            raise ValueError("replicas fixes the number that autoscaling would choose: keep one")
        if self.simulated is not None and self.engine != "simulated":
            raise ValueError("simulated has no effect without `engine: simulated`")
        if self.most_sequences > self.capacity:
            raise ValueError(
                f"max_sequences ({self.max_sequences}) is above what a replica holds: max_running + max_queued is "
                f"{self.capacity}"
            )
        return self

    @property
    def weights(self) -> str:
        """Where the weights are: a Hugging Face repository, a path, or `package:PATH`."""
        return self.source or self.id

    @property
    def names(self) -> tuple[str, ...]:
        """Every name a client may use for the model itself, the id first."""
        return (self.id, *self.aliases)

    @property
    def listed_adapters(self) -> tuple[str, ...]:
        """Ids of the adapters that the entry lists; its directory may have more."""
        return tuple(one.id for one in self.adapters.list) if self.adapters else ()

    @property
    def capacity(self) -> int:
        """Sequences one replica holds at most, running and queued."""
        return self.max_running + self.max_queued

    @property
    def most_sequences(self) -> int:
        """Sequences one request may be. An embedding's are short, and come by the list: all that a replica holds."""
        half = self.capacity if self.kind == "embedding" else max(1, self.max_running // 2)
        return self.max_sequences or half


class ImageConfig(Section):
    """Where the images of a request may come from, and how large they may be."""

    allowed_domains: tuple[str, ...] = ()
    """Hosts from which image URLs are fetched; none unless listed. Data URLs always work."""
    allow_private_addresses: bool = False
    """Also fetch from hosts that resolve to loopback, private or link-local addresses."""
    fetch_timeout_s: Positive = 5.0
    """Time one image may take to arrive."""
    max_mib: Positive = 16.0
    """Encoded size of one fetched image, MiB."""
    max_megapixels: Positive = 50.0
    """Decoded size of one image, millions of pixels."""


class UsageConfig(Section):
    """Accounts of what each key used, by day and model."""

    directory: Directory
    """Where they are kept: an absolute path, or one below `~`. On a cluster, a folder of each node's own."""
    audit: bool = False
    """A JSON line for each request to a model too, in `audit/` there."""


class IngressConfig(Section):
    """The public face: limits, keys, waiting."""

    replicas: AtLeastOne = 1
    """Ingress processes."""
    cpus: Annotated[float, Field(ge=0)] = 0.5
    """CPU cores Ray reserves for one of them."""
    api_keys: tuple[ApiKey, ...] = ()
    """Keys clients may present as `Authorization: Bearer KEY`; none means open. `sha256:HEX` is the digest of one,
    `env:NAME` a variable of the ingress process, comma-separated, `file:PATH` a file on its node, one a line. A key
    written out works with `up` alone, which deploys its digest."""
    keys: tuple[KeyConfig, ...] = ()
    """Keys that have names, rights and limits."""
    usage: UsageConfig | None = None
    """Switches `/v1/usage` on."""
    console: bool = True
    """Whether there is a page for people at `/console`, in a process of its own."""
    max_connections: AtLeastOne = 65_536
    """Connections of clients that HAProxy holds open at the same time, idle ones included; more wait to be accepted."""
    cors: tuple[Origin, ...] = ()
    """Origins of pages whose scripts may call, such as `https://app.example.com`; `*` is any. None unless listed."""
    max_body_mib: Positive = 32.0
    """Larger request bodies are refused with 413."""
    max_buffered_mib: Positive = 512.0
    """Request bodies that one ingress process holds at the same time, together, each until its answer begins; more get
    503. Bodies of up to 1 MiB have a quarter of it to themselves. Those kept to continue a stream make way."""
    continue_bytes: NotNegative = 2**20
    """What one ingress process keeps of each open stream, its request and the ids of its tokens, to go on with it on
    another replica if its own is lost. One that has more ends with an error then; 0 ends all of them so."""
    max_waiting: NotNegative = 1024
    """Sequences one ingress process holds while all replicas of their model are full; more get 429."""
    wait_timeout_s: Positive = 30.0
    """How long such a request may wait. Who would wait longer, by how fast the queue is taken and what replicas are
    starting, gets 429 at once; who waits longer than was expected gets it after twice this."""
    start_timeout_s: Positive = 60.0
    """How long a request waits for a model's first replica before it gets 503."""

    @model_validator(mode="after")
    def _keys_told_apart(self) -> IngressConfig:
        told_apart(self.api_keys, self.keys)
        return self

    @model_validator(mode="after")
    def _one_body_fits(self) -> IngressConfig:
        if self.max_buffered_mib * 3 / 4 < self.max_body_mib:
            raise ValueError(
                f"max_buffered_mib should be at least {self.max_body_mib * 4 / 3:.0f}, or no large body fits"
            )
        return self


class BatchConfig(Section):
    """OpenAI's Batch API: uploaded files of requests, worked through beside interactive traffic."""

    directory: Directory
    """Where files, results and the state of batches are kept: an absolute path, or one below `~`. On a cluster, a
    file system that every node shares."""
    max_file_mib: Positive = 512.0
    """Larger uploads are refused with 413."""
    min_free_mib: Annotated[float, Field(ge=0)] = 32.0
    """Of the directory's disk: uploads that would leave less are refused with 507, and where less than half of it is
    left no batch is begun."""
    parallel_batches: AtLeastOne = 4
    """Batches worked through at the same time; the others wait in the order in which they came. One that waits for
    engines or for the disk does not count, up to as many again."""
    max_open: AtLeastOne = 8192
    """Sequences for one model that a batch has open at most; how many it has open follows what the model's engines
    take."""
    cpus: Annotated[float, Field(ge=0)] = 0.2
    """CPU cores Ray reserves for the process that does all this."""


class ServiceConfig(Section):
    """The whole service."""

    gpu_memory_gib: Positive | None = None
    """Memory of one GPU; unless set, `check` asks this machine's and `replicas_per_gpu: auto` assumes 80."""
    cache_directory: Annotated[str, Field(min_length=1)] | None = None
    """Where engines on GPUs keep what they compile, on each node; `~/.cache/serve-app` unless set."""
    models: Annotated[tuple[ModelConfig, ...], Field(min_length=1)]
    """The models behind the endpoint."""
    ingress: IngressConfig = IngressConfig()
    """The public face."""
    images: ImageConfig = ImageConfig()
    """Image sources and sizes."""
    batch: BatchConfig | None = None
    """Switches `/v1/files` and `/v1/batches` on."""
    tracing: TracingConfig | None = None
    """Switches traces on."""
    logging: LogConfig = LogConfig()
    """How logs are written."""

    @field_validator("models")
    @classmethod
    def _named_once(cls, models: tuple[ModelConfig, ...]) -> tuple[ModelConfig, ...]:
        distinct([(*model.names, *model.listed_adapters) for model in models])
        return models

    @model_validator(mode="after")
    def _keys_name_models(self) -> ServiceConfig:
        if any(model.adapters and model.adapters.directory for model in self.models):
            return self
        served = {name for model in self.models for name in (*model.names, *model.listed_adapters)}
        wrong = {
            ("ingress", "keys", index, "models"): f"{name!r} is not served: " + ", ".join(map(repr, sorted(served)))
            for index, key in enumerate(self.ingress.keys)
            for name in key.models or ()
            if name not in served
        }
        if wrong:
            text = "; ".join(f"{spell(path)} {what}" for path, what in wrong.items())
            raise PydanticCustomError(SEVERAL_KEYS, "{text}", {"text": text, "keys": wrong})
        return self

    @property
    def telemetry(self) -> Telemetry:
        """What each process needs of it to tell of its requests."""
        return Telemetry(self.tracing, self.logging)

    @property
    def longest_drain_s(self) -> float:
        """How long a leaving replica of any model may take to finish what it accepted."""
        return max(model.drain_timeout_s for model in self.models)

    @classmethod
    def parse(cls, args: Any, at: KeyPath = (), where: str = "the configuration") -> ServiceConfig:
        """The service that `args` describe; ConfigError otherwise. They lie at `at` in `where`."""
        return cls.model_validate(args, context={"at": at, "where": where})

    @model_validator(mode="wrap")
    @classmethod
    def _explained(
        cls, args: Any, handler: ModelWrapValidatorHandler[ServiceConfig], info: ValidationInfo
    ) -> ServiceConfig:
        """Every way to a ServiceConfig, Ray Serve's included, tells its errors in the same words."""
        context = info.context or {}
        try:
            return handler(args)
        except ValidationError as error:
            problems = explain(error, cls, context.get("at", ()))
        raise ConfigError(problems, context.get("where", "the configuration"))
