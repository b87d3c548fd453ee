"""What of the service's log reaches the terminal."""

from pathlib import Path

import pytest

from serve_app.launching.log import ServiceLog, important, plain

CONTROLLER = "\x1b[36m(ServeController pid=3616)\x1b[0m "
FAILED_REPLICA = [
    CONTROLLER + "ERROR 2026-01-01 01:51:52,439 controller 27626 -- Exception in Replica(id='a'), it will be stopped.",
    CONTROLLER + "Traceback (most recent call last):",
    CONTROLLER + '  File "replica.py", line 1, in check_ready',
    CONTROLLER + "ray.exceptions.RayTaskError(RuntimeError): ray::ServeReplica:demo:App.initialize() (pid=1)",
    CONTROLLER + "RuntimeError: Traceback (most recent call last):",
    CONTROLLER + "serve_app.config.schema.ConfigError: demo.yaml: 2 problems",
    CONTROLLER + "  models[0].id: is required",
    CONTROLLER + "  models[0].kv: unknown key",
    CONTROLLER + "INFO 2026-01-01 01:51:53,000 controller 27626 -- Stopping 1 replica.",
]
GAVE_UP = CONTROLLER + "ERROR 2026-01-01 01:52:00,000 controller 27626 -- Failed to update the deployments ['App']."


def written(path: Path, lines: list[str]) -> ServiceLog:
    path.write_text("".join(f"{line}\n" for line in lines))
    return ServiceLog(path)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (FAILED_REPLICA[0], "Exception in Replica(id='a'), it will be stopped."),
        (FAILED_REPLICA[1], None),
        (FAILED_REPLICA[2], None),
        (FAILED_REPLICA[3], None),
        (FAILED_REPLICA[4], None),
        (FAILED_REPLICA[5], "serve_app.config.schema.ConfigError: demo.yaml: 2 problems"),
        (FAILED_REPLICA[8], None),
        (
            "(ServeReplica:a:b pid=1) (EngineCore pid=2) ERROR 01-01 01:02:03 [core.py:12] EngineCore died.",
            "EngineCore died.",
        ),
        ("(EngineCore pid=2) ERROR 01-01 01:02:03 [core.py:12]   File core.py, line 3, in run", None),
        ("(EngineCore pid=2) ERROR 01-01 01:02:03 [core.py:12] Traceback (most recent call last):", None),
        ("2026-01-01 01:31:16,491\tWARNING authentication_token_setup.py:85 -- Token authentication is enabled", None),
        (
            CONTROLLER
            + "WARNING 2026-01-01 01:02:03,004 controller 1 -- Deployment 'a' has 1 replicas that have taken "
            "more than 30s to be scheduled.",
            "Deployment 'a' has 1 replicas that have taken more than 30s to be scheduled.",
        ),
    ],
)
def test_only_trouble_is_shown(line: str, shown: str | None) -> None:
    assert important(plain(line)) == shown


def test_the_reason_is_the_last_exception_with_all_its_lines(tmp_path: Path) -> None:
    log = written(tmp_path / "log", [*FAILED_REPLICA, GAVE_UP])
    log.news()
    assert log.reason() == (
        "serve_app.config.schema.ConfigError: demo.yaml: 2 problems\n"
        "  models[0].id: is required\n  models[0].kv: unknown key"
    )


def test_without_an_exception_the_reason_is_how_the_log_ends(tmp_path: Path) -> None:
    log = written(tmp_path / "log", ["one", "two"])
    log.news()
    assert log.reason() == "one\ntwo"


LOST_GCS = (
    "[2026-01-01 03:53:32,890 E 17321 17954] rpc_client.h:204: Failed to connect to GCS within 60 seconds. "
    "GCS may have been killed."
)


def test_an_error_of_rays_core_is_a_reason(tmp_path: Path) -> None:
    log = written(tmp_path / "log", [*FAILED_REPLICA, LOST_GCS])
    log.news()
    assert log.reason() == "Failed to connect to GCS within 60 seconds. GCS may have been killed."


def test_an_old_exception_is_not_why_the_service_ends_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    log = written(tmp_path / "log", FAILED_REPLICA)
    log.news()
    clock[0] += 3600
    assert log.reason(90) == "its log says nothing of it"
    with log.path.open("a") as file:
        file.write("INFO 2026-01-01 02:51:53,000 controller 27626 -- something else\n")
    log.news()
    assert log.reason(90).endswith("something else") and "ConfigError" not in log.reason(90)
    assert "ConfigError" in log.reason()


@pytest.mark.parametrize(
    "line",
    [
        GAVE_UP,
        CONTROLLER + "ERROR 2026-01-01 01:52:00,000 controller 1 -- Deploying app 'demo' failed with exception:",
    ],
)
def test_a_deployment_given_up_is_a_failure(tmp_path: Path, line: str) -> None:
    log = written(tmp_path / "log", FAILED_REPLICA)
    log.news()
    assert not log.failed
    with log.path.open("a") as file:
        file.write(line + "\n")
    log.news()
    assert log.failed


def test_a_line_is_news_once_and_when_complete(tmp_path: Path) -> None:
    log = written(tmp_path / "log", ["one"])
    with log.path.open("a") as file:
        file.write("tw")
        file.flush()
        assert log.news() == ["one"]
        file.write("o\n")
        file.flush()
        assert log.news() == ["two"]
    assert log.news() == []


def test_what_was_told_is_not_told_again_at_once(tmp_path: Path) -> None:
    log = ServiceLog(tmp_path / "log")
    assert log.fresh(["a", "b", "a"]) == ["a", "b"]
    assert log.fresh(["a", "c"]) == ["c"]
    one, other = (f"Exception in Replica(id='{id}', deployment='m')" for id in ("x1", "y2"))
    assert log.fresh([one, other]) == [one], "the next replica's failure is no news"


def failure(replica: str, error: str) -> list[str]:
    return [
        CONTROLLER
        + f"ERROR 2026-01-01 01:51:52,439 controller 27626 -- Exception in Replica(id='{replica}', deployment='demo',"
        " app='lfm2'), the replica will be stopped.",
        CONTROLLER + "Traceback (most recent call last):",
        CONTROLLER + f"RuntimeError: {error}",
        CONTROLLER + "INFO 2026-01-01 01:51:53,000 controller 27626 -- Stopping 1 replica.",
    ]


def test_an_error_met_more_often_than_there_are_replicas_was_met_twice_by_one(tmp_path: Path) -> None:
    log = written(tmp_path / "log", failure("a", "no memory on 0x7f12, pid 12"))
    log.news()
    log.news()
    assert log.failures.repeated({}) is None
    with log.path.open("a") as file:
        file.writelines(f"{line}\n" for line in failure("b", "no memory on 0x8e34, pid 345"))
    log.news()
    log.news()
    told = log.failures.repeated({"demo": 1})
    assert told == "demo failed its start 2 times with\nRuntimeError: no memory on 0x8e34, pid 345"
    assert log.failures.repeated({"demo": 2}) is None, "each of two may have failed once"


def test_different_errors_are_tried_again(tmp_path: Path) -> None:
    log = written(tmp_path / "log", [*failure("a", "no memory"), *failure("b", "no network")])
    log.news()
    log.news()
    assert log.failures.repeated({}) is None


def test_one_failure_that_will_not_pass_is_enough(tmp_path: Path) -> None:
    text = "m: its KV cache holds less than one full context: lower engine_args.max_model_len (3 GiB is needed)"
    lines = failure("a", "x")
    lines[-2] = CONTROLLER + f"serve_app.replica.failed_starts.PermanentStartError: {text}"
    log = written(tmp_path / "log", lines)
    log.news()
    log.news()
    assert log.failures.repeated({"demo": 8}) == text
