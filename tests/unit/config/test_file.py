"""Files are read through, KubeRay manifests too, and each error has the line it is on."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
import yaml

from serve_app.cli import main
from serve_app.config.errors import ConfigError
from serve_app.config.file import load
from tests.support.configs import SHIPPED, problems

CONFIG = """\
# A service.
http_options:
  prot: 8000
applications:
  - name: a
    import_path: serve_app.app:build
    args:
      models:
        - id: lfm2-demo
          max_runing: 3
          engine_args:
            max_num_seqs: 1
        - {id: other,
           sampling: {temperature: 5}}
      ingress:
        cpus: 1
        cpus: 2
"""
WRONG = {
    "http_options.prot": 3,
    "applications[0].args.models[0].max_runing": 10,
    "applications[0].args.models[0].engine_args.max_num_seqs": 12,
    "applications[0].args.models[1].sampling.temperature": 14,
    "applications[0].args.ingress.cpus": 17,
}


def lines(path: Path) -> dict[str, int | None]:
    """The line of each problem, by its place."""
    with pytest.raises(ConfigError) as caught:
        load(path)
    return {str(one).split(": ", 1)[0]: one.line for one in caught.value.problems}


def written(folder: Path, text: str) -> Path:
    path = folder / "service.yaml"
    path.write_text(text)
    return path


def manifest(text: str, style: str = "|") -> str:
    return f"kind: RayService\nspec:\n  # Ray's own.\n  serveConfigV2: {style}\n{textwrap.indent(text, '    ')}"


def test_every_problem_has_its_line(tmp_path: Path) -> None:
    assert lines(written(tmp_path, CONFIG)) == WRONG


def test_lines_in_a_manifest_are_those_of_the_file(tmp_path: Path) -> None:
    for text in (CONFIG, f"\n{CONFIG}"):
        path = written(tmp_path, "a: 1\n---\n" + manifest(text, "|  # as a string"))
        above = path.read_text().splitlines().index("    # A service.")
        assert lines(path) == {f"spec.serveConfigV2.{place}": above + line for place, line in WRONG.items()}


def test_a_string_that_is_not_written_line_by_line_is_one_place(tmp_path: Path) -> None:
    inner = '"applications: [{import_path: \\"serve_app.app:build\\", args: {modls: []}}]"'
    path = written(tmp_path, f"kind: RayService\nspec:\n  serveConfigV2: {inner}\n")
    assert set(lines(path).values()) == {3}


def test_a_key_written_twice_elsewhere_in_a_manifests_file_is_where_it_is(tmp_path: Path) -> None:
    path = written(tmp_path, f"kind: ConfigMap\nspec:\n  a: 1\n  a: 2\n---\n{manifest(CONFIG)}")
    assert lines(path)["spec.a"] == 4


def test_the_message_has_file_and_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, CONFIG.replace("  prot: 8000", "  port: 8000"))
    assert main(["check", str(path)]) == 1
    head, *told = capsys.readouterr().err.splitlines()
    assert head == f"{path}: 4 problems"
    place = "applications[0].args.models[0].max_runing: unknown key; did you mean `max_running`?"
    assert f"  {path}:10: {place}" in told
    path.write_text("\napplications: []\n")
    with pytest.raises(ConfigError, match=rf"^{path}:2: applications: none has `import_path"):
        load(path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\nb: [\n", "service.yaml:3: is not YAML: column 1: "),
        (manifest("a: 1\nb: [\n"), "service.yaml:7: spec.serveConfigV2: is not YAML: column "),
        (
            "kind: RayService\nspec:\n  serveConfigV2: 'a: ['",
            "service.yaml:3: spec.serveConfigV2: is not YAML: line 2, ",
        ),
        ("a: 2024-13-45", "service.yaml: is not YAML: month must be in 1..12"),
    ],
)
def test_where_yaml_ends_to_be_yaml(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, text))
    assert told in str(caught.value)


def test_what_is_not_on_this_machine_has_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(
        tmp_path,
        textwrap.dedent("""\
            applications:
              - import_path: serve_app.app:build
                args:
                  models:
                    - id: some/model
                      source: /nowhere/at/all
                  batch: {directory: /dev/null/batch}
            """),
    )
    assert main(["check", str(path)]) == 1
    told = capsys.readouterr().err
    assert f"{path}:6: applications[0].args.models[0].source: there is no folder /nowhere/at/all" in told
    assert f"{path}:7: applications[0].args.batch.directory: " in told


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_configurations_are_right(path: Path) -> None:
    assert load(path).applications
    assert [line[0] for line in path.read_text().splitlines()[:3]] == ["#"] * 3


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [", "not YAML"),
        ("", "mapping"),
        ("applications: []", "import_path: serve_app.app:build"),
        ("http_options: {port: 1, port: 2}\napplications: []", "twice"),
        ("kind: RayService\nspec: {}", "spec.serveConfigV2"),
        ("kind: RayService\nspec: {serveConfigV2: 'a: ['}", "spec.serveConfigV2: is not YAML"),
        ("a: 1\n---\na: 2", "holds 2 YAML documents, and none is a RayService"),
        ("- a", "should be a mapping: a Ray Serve configuration with `applications`"),
        ("applications: 3", "applications: is required: a list"),
        (
            "applications: [{import_paths: x}]",
            r"applications\[0\].import_paths: unknown key; did you mean `import_path`",
        ),
        ("applications: [{import_path: 'serve_app.app:build'}]", r"applications\[0\].args.models: is required"),
        ("http_options: 3\napplications: []", "http_options: should be a mapping"),
        ("proxy_location: All\napplications: []", "proxy_location: should be one of Disabled, HeadOnly, EveryNode"),
    ],
)
def test_files_that_are_no_configuration(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "service.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=told):
        load(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "none.yaml")


def test_a_kuberay_manifest_is_read_through(tmp_path: Path) -> None:
    inner = yaml.safe_dump({"applications": [{"import_path": "serve_app.app:build", "args": {"modls": []}}]})
    path = tmp_path / "service.yaml"
    path.write_text(yaml.safe_dump({"kind": "RayService", "spec": {"serveConfigV2": inner}}))
    assert any(where.startswith("spec.serveConfigV2.applications[0].args") for where in problems(path))
