"""The options of the Locust file, on the command line and in the web UI."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.arguments import BadSpec
from loadtests.loadgen import images, lengths, scenarios, traffic
from loadtests.loadgen.prompts import Prose
from loadtests.loadgen.scenarios import UNSTREAMED, ScenarioSettings
from loadtests.loadgen.traffic import Traffic
from loadtests.results.record import Record
from loadtests.results.slo import Slo

STOP_TIMEOUT_S = 60
"""How long a test that ends waits for its open requests, unless --stop-timeout says otherwise."""
EPOCH_SIGN = "the test's time 0 is "
"""Begins the log line that says when, in seconds since the epoch."""
NAMES = {"num_users": "users"}
"""The option's name, by what Locust calls its value, where the two differ."""
OWN_FIELDS = {
    "messages": "scenarios write the messages",
    "model": "--model names the model",
    "stream": "answers are streamed but with --no-stream",
}
"""Fields of a request that --extra-body cannot set, and what does."""
API_KEY_VARIABLE = "LOCUST_API_KEY"
"""Read where --api-key is not given: other users of the machine see command lines."""


@dataclass(frozen=True)
class Options:
    """What a test was asked to do: the Locust file's options, read and checked."""

    traffic: Traffic | None
    """Open loop: when requests are sent, whatever becomes of those before."""
    shape: Traffic | None
    """Closed loop: how many users there are over time."""
    models: dict[str, float]
    """The names that requests give, and how often each."""
    scenarios: dict[str, float]
    settings: ScenarioSettings
    slo: Slo
    think_s: float
    timeout_s: float
    api_key: str
    records: Path | None

    @classmethod
    def of(cls, parsed: Any) -> Options:
        """From what Locust has parsed; raises BadSpec for what cannot be or contradicts itself."""
        if parsed.traffic and parsed.shape:
            raise BadSpec("--traffic is an open loop and --shape a closed one: give one of them")
        _check_numbers(parsed)
        found = cls(
            traffic=traffic.parse(parsed.traffic) if parsed.traffic else None,
            shape=traffic.parse(parsed.shape) if parsed.shape else None,
            models=scenarios.models(parsed.model),
            scenarios=scenarios.weights(parsed.scenario),
            settings=ScenarioSettings(
                lengths=lengths.parse(parsed.lengths),
                prose=Prose(parsed.seed, parsed.characters_per_token),
                stream=not parsed.no_stream,
                turns=parsed.turns,
                prefix_groups=parsed.prefix_groups,
                prefix_tokens=parsed.prefix_tokens,
                image_sizes=images.sizes(parsed.image_sizes),
                extra_body=_object(parsed.extra_body),
                seed=parsed.seed,
            ),
            slo=Slo.parse(parsed.slo),
            think_s=parsed.think,
            timeout_s=parsed.timeout,
            api_key=parsed.api_key,
            records=Path(parsed.records) if parsed.records else None,
        )
        found._check()
        return found

    def row(self, record: Record) -> str:
        """Under which name a request is counted: its scenario, after its model where the test asks several."""
        return f"{record.model} {record.scenario}" if len(self.models) > 1 else record.scenario

    def _check(self) -> None:
        if self.traffic and self.think_s:
            raise BadSpec(
                "--think is a pause of the users of a closed loop, and --traffic an open one: give one of them"
            )
        if self.shape and round(self.shape.peak) < 1:
            raise BadSpec(f"--shape has no user at any time: its peak is {self.shape.peak:g}")
        check_streamed(self.slo, self.scenarios if self.settings.stream else UNSTREAMED)


def check_streamed(slo: Slo, asked: Iterable[str]) -> None:
    """Raises BadSpec for an SLO about tokens where none of the scenarios asked is streamed: it would hold whatever
    comes."""
    about = [term.figure for term in slo.terms if term.figure != "e2e"]
    if about and UNSTREAMED.issuperset(asked):
        raise BadSpec(
            f"the SLO {slo} is about {about[0]}, and no answer is streamed: give e2e, as in --slo e2e_p95=30s"
        )


def _check_numbers(parsed: Any) -> None:
    """Of this project's options and of those of Locust's own that it leaves open."""
    least = {"turns": 1, "prefix_groups": 1, "prefix_tokens": 1, "num_users": 1, "think": 0, "stop_timeout": 0}
    above = ("characters_per_token", "timeout", "spawn_rate", "run_time")
    for name in (*least, *above):
        if (value := getattr(parsed, name, None)) is None:
            continue
        option = "--" + NAMES.get(name, name).replace("_", "-")
        if not math.isfinite(value):
            raise BadSpec(f"{option} must be a number; got {value}")
        if name in least and value < least[name]:
            raise BadSpec(f"{option} must be at least {least[name]}; got {value:g}")
        if name in above and value <= 0:
            raise BadSpec(f"{option} must be above 0; got {value:g}")


def add(parser: Any) -> None:
    """To Locust's parser. Values stay plain: Locust sends them to its workers."""
    text: dict[str, Any] = {"type": str, "default": ""}

    def checked(read: Callable[[str], object]) -> dict[str, Any]:
        return {"type": _checked(read)}

    add = parser.add_argument
    add(
        "--model",
        **checked(scenarios.models),
        default="lfm2-demo",
        help="the model to ask, or several by weight, adapters among them, as in lfm2-demo:3,capitals:1",
    )
    add(
        *("--scenario", "--scenarios"),
        **checked(scenarios.weights),
        default="chat",
        help=f"what users ask, by weight, as in chat:3,vision:1; of {', '.join(scenarios.SCENARIOS)}",
    )
    add(
        "--lengths",
        **checked(lengths.parse),
        default="lognormal:prompt=256,output=128,most=1024",
        help="tokens of prompts and answers: fixed:prompt=256,output=128, lognormal:..., or trace:FILE",
    )
    add(
        "--traffic",
        **{**text, **checked(traffic.parse)},
        help="open loop, in requests/s: steady:rate=5,duration=60, steps, ramp, spike, day, bursts, or trace:FILE",
    )
    add(
        "--shape",
        **{**text, **checked(traffic.parse)},
        help="closed loop, in users: the same shapes; without either, --users and --run-time count",
    )
    add("--slo", **checked(Slo.parse), default="ttft_p95=1s,tpot_p95=100ms", help="what good service is")
    add("--no-stream", action="store_true", help="ask for whole answers: no TTFT, no TPOT")
    add("--think", type=float, default=0.0, help="closed loop: mean pause of a user between requests, s")
    add("--turns", type=int, default=5, help="of one conversation")
    add("--prefix-groups", type=int, default=8, help="shared-prefix: how many different system prompts")
    add("--prefix-tokens", type=int, default=512, help="shared-prefix: length of a system prompt, tokens")
    add("--image-sizes", **checked(images.sizes), default="256,512,1024x768", help="vision: pixels")
    add("--extra-body", **{**text, **checked(_object)}, help='JSON laid over every request, as in {"temperature": 0}')
    add("--characters-per-token", type=float, default=4.0, help="of the prompts' English in the model's tokenizer")
    add("--timeout", type=float, default=120.0, help="longest silence of the service before a request fails, s")
    add("--seed", type=int, default=1, help="of arrivals, lengths and texts")
    add("--api-key", **text, env_var=API_KEY_VARIABLE, is_secret=True, help="sent as a bearer token")
    add("--records", **text, help="write what became of each request to this file, as JSON lines")
    parser.set_defaults(stop_timeout=STOP_TIMEOUT_S)


def _checked(read: Callable[[str], object]) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text:
            try:
                read(text)
            except BadSpec as error:
                raise argparse.ArgumentTypeError(str(error)) from error
        return text

    return check


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError as error:
        raise BadSpec(f"extra body: no JSON: {error}") from error
    if not isinstance(found, dict):
        raise BadSpec(f"extra body must be a JSON object; got {text!r}")
    if taken := OWN_FIELDS.keys() & found.keys():
        name = min(taken)
        raise BadSpec(f"extra body: {name!r} is not for it to say: {OWN_FIELDS[name]}")
    return found
