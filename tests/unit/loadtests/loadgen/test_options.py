"""Options of the Locust file are read, and those that cannot be are refused with the reason."""

from __future__ import annotations

import argparse

import pytest

from loadtests.arguments import BadSpec
from loadtests.loadgen import options


def parsed(*words: str) -> argparse.Namespace:
    class Parser(argparse.ArgumentParser):
        """Takes what Locust's parser takes beside argparse's own."""

        def add_argument(
            self, *names: str, env_var: str = "", is_secret: bool = False, **kw: object
        ) -> argparse.Action:
            return super().add_argument(*names, **kw)

    parser = Parser(exit_on_error=False)
    options.add(parser)
    return parser.parse_args(words)


def test_options_are_read() -> None:
    found = options.Options.of(
        parsed("--traffic", "steady:rate=3", "--scenario", "chat:2,vision", "--image-sizes", "64")
    )
    assert found.traffic and found.traffic.peak == 3 and not found.shape
    assert found.scenarios == {"chat": 2, "vision": 1}
    assert found.settings.image_sizes == ((64, 64),)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--traffic", "stedy:rate=1"], "did you mean 'steady'"),
        (["--slo", "ttft"], "unit"),
        (["--extra-body", "[]"], "JSON object"),
        (["--extra-body", "{"], "no JSON"),
        (["--scenario", "chatt"], "did you mean 'chat'"),
        (["--scenario", "chat:1,chat:2"], "given twice"),
        (["--extra-body", '{"stream": false}'], "--no-stream"),
        (["--extra-body", '{"model": "m"}'], "--model"),
        (["--model", "a:0"], "above 0"),
        (["--traffic", "steady:rate=0"], "nothing would ever come"),
        (["--traffic", "steady:rate=1,duration=0"], "longer than 0 s"),
        (["--traffic", "steady:rate=1,rate=2"], "given twice"),
        (["--traffic", "bursts:peak=1,on=1us,off=1,duration=9"], "must be a number"),
        (["--traffic", "bursts:peak=1,on=0.000001,off=0.000001,duration=900"], "times, of at most"),
        (["--lengths", "lognormal:prompt=256,output=128,most=200"], "above most=200"),
        (["--lengths", "lognormal:prompt=2,output=1,output_sigma=1000"], "from 0 to 5"),
        (["--image-sizes", "100000"], "pixels a side"),
    ],
)
def test_options_that_cannot_be_read_say_why(words: list[str], said: str) -> None:
    with pytest.raises(argparse.ArgumentError, match=said):
        parsed(*words)


def test_a_loop_is_open_or_closed() -> None:
    with pytest.raises(BadSpec, match="open loop"):
        options.Options.of(parsed("--traffic", "steady:rate=1", "--shape", "steady:rate=1"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--prefix-groups", "0"], "--prefix-groups must be at least 1"),
        (["--prefix-tokens", "-1"], "--prefix-tokens must be at least 1"),
        (["--turns", "0"], "--turns must be at least 1"),
        (["--think", "-1"], "--think must be at least 0"),
        (["--timeout", "0"], "--timeout must be above 0"),
        (["--timeout", "nan"], "--timeout must be a number"),
        (["--characters-per-token", "0"], "--characters-per-token must be above 0"),
        (["--model", ""], "--model"),
        (["--traffic", "steady:rate=1", "--think", "1"], "--think"),
        (["--shape", "steady:rate=0.2"], "no user at any time"),
        (["--no-stream"], "no answer is streamed"),
        (["--scenario", "batch"], "no answer is streamed"),
    ],
)
def test_options_that_cannot_be_say_why(words: list[str], said: str) -> None:
    with pytest.raises(BadSpec, match=said):
        options.Options.of(parsed(*words))


@pytest.mark.parametrize(
    ("of_locust", "said"),
    [({"num_users": -1}, "--users"), ({"num_users": 0}, "--users"), ({"run_time": 0}, "--run-time")],
)
def test_options_of_locust_that_cannot_be_say_why(of_locust: dict[str, int], said: str) -> None:
    found = parsed()
    vars(found).update(of_locust)
    with pytest.raises(BadSpec, match=said):
        options.Options.of(found)


def test_whole_answers_have_an_slo_of_their_own() -> None:
    found = options.Options.of(parsed("--no-stream", "--slo", "e2e_p95=5s"))
    assert not found.settings.stream
    assert options.Options.of(parsed("--scenario", "batch,chat")).slo
