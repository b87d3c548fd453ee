"""The composition root: a configuration in, a Ray Serve application out."""

import ray
from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, RequestRouterConfig

from serve_app.batch.deployment import BatchReplica
from serve_app.config import names
from serve_app.config.api_keys import WrittenOut
from serve_app.config.errors import ConfigError, Problem
from serve_app.config.schema import Images, ModelConfig, ServiceConfig
from serve_app.engine.deployment import EngineReplica
from serve_app.ingress.deployment import IngressReplica
from serve_app.replica.protocol import LOOK_BACK_S, REPORT_PERIOD_S

HEALTH_PERIOD_S = 1.0
"""Serve replaces a replica after three failed checks in a row."""
SHUTDOWN_MARGIN_S = 30.0
"""For ending the engine once its last request is done."""
START_FAILURES = 4
"""After so many, with no replica up, Serve gives a deployment up. Its own 20 may take an hour."""
NO_LIMIT = 1_000_000
"""Serve's own request limits; ours are the pool's and the replica's."""


def build(args: ServiceConfig) -> serve.Application:
    """The whole service: one deployment per model, the batch deployment if it is on, and the ingress before them.

    Raises ConfigError for API keys that Ray has written to its logs on the way here.
    """
    refuse_logged_keys(args)
    engines = {model.id: engine(model, args.images) for model in args.models}
    return ingress(args, engines, batch(args, engines))


def refuse_logged_keys(config: ServiceConfig) -> None:
    """Ray Serve logs the arguments of the task in which it builds an application from a file, and stores them."""
    written_out = [index for index, key in enumerate(config.ingress.api_keys) if isinstance(key, WrittenOut)]
    if written_out and ray.is_initialized() and ray.get_runtime_context().get_task_id() is not None:
        text = "is written out, and Ray has it in its logs now: choose another, and put its sha256:HEX, env: or file:"
        raise ConfigError(Problem(("ingress", "api_keys", index), text) for index in written_out)


def engine(model: ModelConfig, images: Images) -> serve.Application:
    """One model's replicas."""
    deployment = serve.deployment(
        EngineReplica,
        name=names.deployment(model.id),
        ray_actor_options={"num_cpus": model.cpus, "num_gpus": model.gpu_share},
        max_constructor_retry_count=START_FAILURES,
        max_ongoing_requests=NO_LIMIT,
        health_check_period_s=HEALTH_PERIOD_S,
        graceful_shutdown_timeout_s=model.drain_timeout_s + SHUTDOWN_MARGIN_S,
        graceful_shutdown_wait_loop_s=0.5,
        request_router_config=announced(model.id),
        **replicas(model),
    )
    return deployment.bind(model, images)


def announced(pool: str) -> RequestRouterConfig:
    """Replicas make themselves known to this pool in each process that listens."""
    return RequestRouterConfig(
        request_router_class="serve_app.routing.discovery:Listener",
        request_router_kwargs={"model": pool},
        request_routing_stats_period_s=REPORT_PERIOD_S,
    )


def replicas(model: ModelConfig) -> dict[str, int | AutoscalingConfig]:
    """A fixed number, or bounds and the policy that moves between them."""
    if model.autoscaling is None:
        return {"num_replicas": model.replicas or 1}
    bounds = model.autoscaling
    return {
        "autoscaling_config": AutoscalingConfig(
            min_replicas=bounds.min_replicas,
            max_replicas=bounds.max_replicas,
            initial_replicas=bounds.initial_replicas,
            # The policy waits by itself, and sees what it waits for.
            upscale_delay_s=0.0,
            downscale_delay_s=0.0,
            metrics_interval_s=REPORT_PERIOD_S,
            look_back_period_s=LOOK_BACK_S,
            policy=AutoscalingPolicy(
                policy_function="serve_app.autoscaling.serve_policy:DemandPolicy",
                policy_kwargs={
                    "model": model.id,
                    "settings": bounds.model_dump(),
                    "max_running": model.max_running,
                },
            ),
        )
    }


def batch(config: ServiceConfig, engines: dict[str, serve.Application]) -> serve.Application | None:
    """OpenAI's Batch API, where the configuration gives it a directory."""
    if config.batch is None:
        return None
    deployment = serve.deployment(
        BatchReplica,
        name=names.BATCH,
        ray_actor_options={"num_cpus": config.batch.cpus},
        max_ongoing_requests=NO_LIMIT,
        health_check_period_s=HEALTH_PERIOD_S,
        graceful_shutdown_timeout_s=SHUTDOWN_MARGIN_S,
        graceful_shutdown_wait_loop_s=0.5,
        request_router_config=announced(names.BATCH_POOL),
    )
    return deployment.bind(config, engines)


def ingress(
    config: ServiceConfig, engines: dict[str, serve.Application], batch: serve.Application | None
) -> serve.Application:
    """The public face."""
    deployment = serve.deployment(
        serve.ingress()(IngressReplica),
        name=names.INGRESS,
        num_replicas=config.ingress.replicas,
        max_ongoing_requests=NO_LIMIT,
        # It carries the streams of every model: Serve's own 20 s would cut those that a redeploy finds open.
        graceful_shutdown_timeout_s=config.longest_drain_s + SHUTDOWN_MARGIN_S,
        graceful_shutdown_wait_loop_s=0.5,
        # New ones start before old ones stop, or nobody would be served while a stream goes on at the old.
        max_surge_percent=100,
        # A line a request costs the ingress a fifth of what the request itself does; its metrics count them all.
        logging_config={"enable_access_log": False},
        ray_actor_options={
            "num_cpus": config.ingress.cpus,
            # One loop for Serve and the application: each byte would otherwise cross a thread.
            "runtime_env": {"env_vars": {"RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0"}},
        },
    )
    return deployment.bind(config, engines, batch)
