"""How the service is: /health, /ready, /ping, /load, /version."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from serve_app.ingress.authentication import Authentication
from serve_app.ingress.failing import Failing
from serve_app.ingress.rollout import Rollout
from serve_app.planning.resolve import replica_bounds
from serve_app.routing.catalogue import Catalogue, Served
from serve_app.routing.replica import Replica


class Status:
    """Probes."""

    def __init__(
        self,
        catalogue: Catalogue,
        failing: Failing | None = None,
        rollout: Rollout | None = None,
        authentication: Authentication | None = None,
    ) -> None:
        """`failing` knows of failed starts, `rollout` of the last deploy, whose failure is told to an admin."""
        self._catalogue = catalogue
        self._failing = failing
        self._rollout = rollout
        self._authentication = authentication

    def routes(self) -> list[Route]:
        return [
            Route("/health", self._health),
            Route("/ready", self._ready),
            Route("/ping", self._ping, methods=["GET", "POST"]),
            Route("/version", self._version),
            Route("/load", self._load),
        ]

    async def _health(self, request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    async def _ready(self, request: Request) -> JSONResponse:
        models = {
            one.config.id: {
                "ready": len(one.pool.replicas),
                "wanted": replica_bounds(one.config)[0],
                **(self._failing.count(one.config.id) if self._failing else {}),
            }
            for one in self._catalogue.models
        }
        ready = all(model["ready"] or not model["wanted"] for model in models.values())
        deploy = self._rollout.shown(reasons=self._is_admin(request)) if self._rollout else {}
        told = {"status": "ready" if ready else "starting", "models": models, **deploy}
        return JSONResponse(told, 200 if ready else 503)

    def _is_admin(self, request: Request) -> bool:
        """Whether who asks may know more than a probe."""
        shown = self._authentication.shown(request.scope) if self._authentication else None
        return shown is not None and shown.admin

    async def _ping(self, request: Request) -> Response:
        """As SageMaker asks: the status alone."""
        return Response(status_code=(await self._ready(request)).status_code)

    async def _load(self, request: Request) -> JSONResponse:
        """What a batch outside the service paces itself by."""
        return JSONResponse({one.config.id: load(one.pool.replicas) for one in self._catalogue.models})

    async def _version(self, request: Request) -> JSONResponse:
        engines = {one.config.id: _engine_versions(one) for one in self._catalogue.models}
        packages = {name: _installed(name) for name in ("serve-app", "ray", "starlette")}
        return JSONResponse({"version": packages["serve-app"], "packages": packages, "engines": engines})


def load(replicas: Iterable[Replica]) -> dict[str, int]:
    """Sums of what the replicas last reported."""
    fields = ("running", "waiting", "interactive", "interactive_begun")
    return {name: sum(getattr(replica.load, name) for replica in replicas) for name in fields}


def _engine_versions(served: Served) -> dict[str, str]:
    return dict(pair for replica in served.pool.replicas for pair in replica.info.versions.items())


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
