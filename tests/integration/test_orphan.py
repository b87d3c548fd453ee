"""A launcher that is killed leaves its service behind: the next says so, and `down` ends it without cutting anybody."""

from __future__ import annotations

import concurrent.futures
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import httpx
import yaml

from serve_app.launching.environment import free_ports
from serve_app.launching.launches import on_port
from tests.support.service import stream_to_end, wait_ready

KEY = "sk-planted-4711"
ARGS = {
    "models": [{"id": "m", "engine": "simulated", "cpus": 0.1, "simulated": {"step_base_ms": 50}}],
    "ingress": {"cpus": 0.1, "api_keys": [KEY]},
}


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "serve_app", *words], capture_output=True, text=True, timeout=120)


def files_with(text: str, folder: Path) -> list[str]:
    """Files below a folder that hold a text; what is not a plain file is passed over."""
    plain = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return [str(path) for path in plain if text.encode() in path.read_bytes()]


def test_an_orphan_is_named_and_ended_and_never_logged_a_key(tmp_path: Path) -> None:
    config = tmp_path / "orphan.yaml"
    application = {"name": "lfm2", "route_prefix": "/", "import_path": "serve_app.app:build", "args": ARGS}
    config.write_text(yaml.safe_dump({"applications": [application]}))
    port = str(free_ports(1)[0])
    url, keyed = f"http://127.0.0.1:{port}", {"Authorization": f"Bearer {KEY}"}
    with tempfile.TemporaryFile() as output:
        up = [sys.executable, "-m", "serve_app", "up", str(config), "--port", port]
        launcher = subprocess.Popen(up, stdout=output, stderr=output, start_new_session=True)
        try:
            wait_ready(url, 120, launcher)
            assert httpx.get(f"{url}/v1/models").status_code == 401
            assert httpx.get(f"{url}/v1/models", headers=keyed).status_code == 200
            launch = on_port(int(port))
            assert launch is not None
            assert files_with("Importing application", Path(launch.folder)), "Ray logs what it builds"
            assert not files_with(KEY, Path(launch.folder))
            launcher.send_signal(signal.SIGKILL)
            launcher.wait()
            with concurrent.futures.ThreadPoolExecutor() as threads:
                begun = threading.Event()
                stream = threads.submit(stream_to_end, url, "m", 200, begun, **keyed)
                assert begun.wait(60)
                again = run("up", str(config), "--port", port)
                assert again.returncode == 1
                for part in ("orphan.yaml", "its launcher is gone", f"down --port {port}", "--replace"):
                    assert part in again.stderr
                ended = run("down", "--port", port)
                assert ended.returncode == 0, ended.stdout + ended.stderr
                assert "every open request has ended" in ended.stdout
                assert stream.result() == 200
            assert on_port(int(port)) is None and not Path(launch.folder).exists()
        except BaseException:
            output.seek(0)
            print(output.read().decode(errors="replace")[-20_000:])
            raise
        finally:
            launcher.kill()
            launcher.wait()
            run("down", "--port", port, "--now")
