"""The composition root: a configuration in, a Ray Serve application out."""

import ray
from ray import serve

from serve_app.batch.deployment import batch_application
from serve_app.compat import free_resources
from serve_app.config import keys, names
from serve_app.config.errors import ConfigError, Problem
from serve_app.config.schema import ServiceConfig
from serve_app.console.deployment import console_application
from serve_app.engine.deployment import engine_application
from serve_app.ingress.deployment import ingress_application
from serve_app.planning.resolve import resolve
from serve_app.planning.upgrade import surge_percent


def build(args: ServiceConfig) -> serve.Application:
    """The whole service: one deployment per model, those of the batches and the console if they are on, and the ingress
    before them.

    Raises ConfigError for API keys that Ray has written to its logs on the way here.
    """
    refuse_logged_keys(args)
    config = resolve(args).config
    surges = surge_percents(config)
    engines = {model.id: engine_application(model, config, surges[model.id]) for model in config.models}
    batch = batch_application(config, engines)
    console = console_application(config, engines)
    return ingress_application(config, engines, batch, console)


def surge_percents(config: ServiceConfig) -> dict[str, int]:
    """Serve's `max_surge_percent` for each model, by its id, from what the cluster has free now."""
    free, there = free_resources.free_of_nodes(), free_resources.deployed()
    newcomers = [model for model in config.models if names.deployment(model.id) not in there]
    return {model.id: surge_percent(model, newcomers, free) for model in config.models}


def refuse_logged_keys(config: ServiceConfig) -> None:
    """Ray Serve logs the arguments of the task in which it builds an application from a file, and stores them."""
    given = keys.entries(config.ingress.api_keys, config.ingress.keys)
    written_out = [path for path, entry in given if keys.written_out(entry)]
    if written_out and ray.is_initialized() and ray.get_runtime_context().get_task_id() is not None:
        text = "is written out, and Ray has it in its logs now: choose another, and put its sha256:HEX, env: or file:"
        raise ConfigError(Problem(("ingress", *path), text) for path in written_out)
