"""What happens to a service on this machine, from its start to its end, each as an object with its time.

`up` prints them; with `--events FILE` it also writes them, one JSON object a line, for programs that start it. `read`
makes objects of such a file again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened."""

    at_s: float
    """Seconds since the service was told to start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Milestone(Event):
    """Ray's or Ray Serve's own start has come so far."""

    reached: str
    """In the words of `serve_app.compat.serve_log.MILESTONES`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble(Event):
    """The log says something that a person should see."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressAnswers(Event):
    """The ingress answers for the first time."""

    models: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaOrdered(Event):
    """Another number of replicas of a model is wanted than before."""

    model: str
    wanted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaReady(Event):
    """Another number of replicas of a model is ready than before."""

    model: str
    ready: int
    wanted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready(Event):
    """Every model has a replica: the service can be used."""

    url: str
    models: list[str]
    console: str | None = None
    """Address of the page for people; None where it is off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedAgain(Event):
    """Ray gave up before it was up, as it does on a busy machine, and is started once more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended(Event):
    """The service has ended by itself, or could not start."""

    reason: str


_ALL = (Milestone, Trouble, IngressAnswers, ReplicaOrdered, ReplicaReady, Ready, StartedAgain, Ended)
KINDS: dict[str, type[Event]] = {one.__name__: one for one in _ALL}
"""Events by the name they have in a file."""


def line(event: Event) -> str:
    """An event as a line of JSON."""
    return json.dumps({"event": type(event).__name__, **asdict(event)}) + "\n"


def read(path: Path) -> list[Event]:
    """The events in a file that `up --events` writes, also while it does; none where there is no file yet."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    # The last line may be only half written.
    found = [json.loads(one) for one in text[: text.rfind("\n") + 1].splitlines()]
    return [KINDS[one.pop("event")](**one) for one in found]


def startup_s(events: Iterable[Event], model: str, replicas: int) -> float:
    """From the deployment of a service to so many ready replicas of a model, in seconds.

    That is the replicas' start by Ray Serve, their engines', and the ingress's coming to know of them; the ingress's
    own start runs beside it. A service that was deployed before anything was seen counts from its start. Raises
    ValueError where so many were never ready.
    """
    began_s = 0.0
    for event in events:
        if isinstance(event, Milestone):
            began_s = event.at_s
        elif isinstance(event, ReplicaReady) and event.model == model and event.ready >= replicas:
            return event.at_s - began_s
    raise ValueError(f"{replicas} replicas of {model!r} were never ready")
