"""What the launcher makes of a configuration before anything starts."""

import socket
from pathlib import Path

import pytest
import yaml

from serve_app.config.api_keys import digest_of
from serve_app.launching import settings
from serve_app.launching.settings import CannotStart, LaunchSettings, prepare

HERE = "http_options: {host: 127.0.0.1, port: 8123}\napplications: [{name: a}]\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "private"
    folder.mkdir()
    return folder


def config(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    return path


def test_a_complete_configuration_runs_as_it_is(tmp_path: Path, folder: Path) -> None:
    path = config(tmp_path, HERE)
    assert prepare(path, None, folder) == prepare(path, 8123, folder) == LaunchSettings(path, "127.0.0.1", 8123)
    assert not list(folder.iterdir())


def test_another_port_goes_into_a_copy(tmp_path: Path, folder: Path) -> None:
    path = config(tmp_path, HERE)
    wanted = prepare(path, 9000, folder)
    assert wanted == LaunchSettings(folder / "a.yaml", "127.0.0.1", 9000)
    assert yaml.safe_load(wanted.config.read_text()) == {
        "http_options": {"host": "127.0.0.1", "port": 9000},
        "applications": [{"name": "a"}],
    }
    assert path.read_text() == HERE


def test_keys_written_out_are_deployed_as_digests(tmp_path: Path, folder: Path) -> None:
    application = "{import_path: 'serve_app.app:build', args: {ingress: {api_keys: [sk-1, 'env:KEYS']}}}"
    here = HERE.replace("{name: a}", application)
    wanted = prepare(config(tmp_path, here), None, folder)
    assert wanted.config.parent == folder and "sk-1" not in wanted.config.read_text()
    deployed = yaml.safe_load(wanted.config.read_text())["applications"][0]["args"]["ingress"]["api_keys"]
    assert deployed == [digest_of("sk-1"), "env:KEYS"]


def test_named_keys_written_out_are_deployed_as_digests(tmp_path: Path, folder: Path) -> None:
    keys = "[{name: a, key: sk-1}, {name: b, key: 'file:/b'}, {name: c, key_sha256: 00}]"
    here = HERE.replace("{name: a}", f"{{import_path: 'serve_app.app:build', args: {{ingress: {{keys: {keys}}}}}}}")
    wanted = prepare(config(tmp_path, here), None, folder)
    assert "sk-1" not in wanted.config.read_text()
    deployed = yaml.safe_load(wanted.config.read_text())["applications"][0]["args"]["ingress"]["keys"]
    assert [one.get("key") for one in deployed] == [digest_of("sk-1"), "file:/b", None]


@pytest.mark.parametrize("options", ["", "http_options:\n", "http_options: {port: 8000}\n"])
def test_a_service_that_does_not_say_where_listens_here_only(tmp_path: Path, folder: Path, options: str) -> None:
    wanted = prepare(config(tmp_path, options + "applications: [{name: a}]\n"), None, folder)
    assert (wanted.host, wanted.port) == ("127.0.0.1", 8000)
    assert yaml.safe_load(wanted.config.read_text())["http_options"]["host"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://127.0.0.1:80"),
        ("10.0.0.1", "http://10.0.0.1:80"),
        ("::1", "http://[::1]:80"),
    ],
)
def test_where_this_machine_reaches_it(host: str, url: str) -> None:
    assert LaunchSettings(Path("a.yaml"), host, 80).url == url


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "not YAML"),
        ("[]", "no `applications`"),
        ("applications: []", "no `applications`"),
        ("applications: [{name: a, import_path: 'serve_app.app:build', args: {modles: []}}]", "modles"),
    ],
)
def test_what_is_wrong_is_said_first(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(CannotStart, match=says):
        settings.check(config(tmp_path, text))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match=r"none\.yaml: No such file"):
        settings.check(tmp_path / "none.yaml")


def test_a_taken_port_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = LaunchSettings(Path("a.yaml"), "127.0.0.1", server.getsockname()[1])
        with pytest.raises(CannotStart, match="--port"):
            settings.check_port(taken)
    settings.check_port(taken)


def test_only_a_cluster_the_user_names_is_deployed_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert settings.nearby_cluster() is None
    (tmp_path / "ray").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        (tmp_path / "ray" / "ray_current_cluster").write_text(address)
        assert settings.nearby_cluster() == address
        assert settings.chosen_cluster() is None
    assert settings.nearby_cluster() is None, "its file is there still, and nobody listens"
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert settings.chosen_cluster() is None
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert settings.chosen_cluster() == "10.0.0.1:6379"
