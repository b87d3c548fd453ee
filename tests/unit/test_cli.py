"""`serve-app`: which commands there are, and what is said where there is no such command."""

from __future__ import annotations

import pytest

from serve_app import cli


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_each_command_tells_of_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main([name, "--help"])
    assert left.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: serve-app {name} ")


def test_the_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown and command.summary in shown for name, command in cli.COMMANDS.items())


def test_a_command_that_is_not_there_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["chek"]) == 2
    assert "there is no command 'chek'; did you mean check?" in capsys.readouterr().err


def test_without_a_command_the_usage_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert capsys.readouterr().err.startswith("usage: serve-app COMMAND")


def test_load_tests_that_are_not_installed_say_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'locust'", name="locust")

    monkeypatch.setattr("importlib.import_module", missing)
    assert cli.main(["tune", "x.yaml"]) == 2
    assert "serve-app tune needs locust: pip install 'serve-app[load]'" in capsys.readouterr().err
