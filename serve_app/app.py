"""The composition root: a configuration in, a Ray Serve application out."""

import re

from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, RequestRouterConfig

from serve_app.config import Images, ModelConfig, ServiceConfig
from serve_app.engine.deployment import EngineReplica
from serve_app.ingress.deployment import IngressReplica
from serve_app.replica import LOOK_BACK_S, REPORT_PERIOD_S

HEALTH_PERIOD_S = 1.0
"""Serve replaces a replica after three failed checks in a row."""
SHUTDOWN_MARGIN_S = 30.0
"""For ending the engine once its last request is done."""
NO_LIMIT = 1_000_000
"""Serve's own request limits; ours are the pool's and the replica's."""


def build(args: ServiceConfig) -> serve.Application:
    """The whole service: one deployment per model, and the ingress in front of them."""
    engines = {model.id: engine(model, args.images) for model in args.models}
    return ingress(args, engines)


def engine(model: ModelConfig, images: Images) -> serve.Application:
    """One model's replicas."""
    deployment = serve.deployment(
        EngineReplica,
        name=re.sub(r"[^\w.-]+", "--", model.id),
        ray_actor_options={"num_cpus": model.cpus, "num_gpus": model.gpu_share},
        max_ongoing_requests=NO_LIMIT,
        health_check_period_s=HEALTH_PERIOD_S,
        graceful_shutdown_timeout_s=model.drain_timeout_s + SHUTDOWN_MARGIN_S,
        graceful_shutdown_wait_loop_s=0.5,
        request_router_config=RequestRouterConfig(
            request_router_class="serve_app.balancing.discovery:Listener",
            request_router_kwargs={"model": model.id},
            request_routing_stats_period_s=REPORT_PERIOD_S,
        ),
        **replicas(model),
    )
    return deployment.bind(model, images)


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


def ingress(config: ServiceConfig, engines: dict[str, serve.Application]) -> serve.Application:
    """The public face."""
    deployment = serve.deployment(
        serve.ingress()(IngressReplica),
        name="ingress",
        num_replicas=config.ingress.replicas,
        max_ongoing_requests=NO_LIMIT,
        # A line a request costs the ingress a fifth of what the request itself does; its metrics count them all.
        logging_config={"enable_access_log": False},
        ray_actor_options={
            "num_cpus": config.ingress.cpus,
            # One loop for Serve and the application: each byte would otherwise cross a thread.
            "runtime_env": {"env_vars": {"RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0"}},
        },
    )
    return deployment.bind(config, engines)
