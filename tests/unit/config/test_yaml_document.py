"""Values as PyYAML gives them to `serve run`, and the lines they stand on."""

from __future__ import annotations

import pytest
import yaml

from serve_app.config.yaml_document import descend, documents
from tests.support.configs import SHIPPED

SCALARS = """\
booleans: [yes, no, on, off, true, False, ~, null]
octal: [0755, 0o755, 08]
numbers: [1e3, 1.0e3, 1.0e+3, 1_000, 0x1F, .5, 5., .inf, 190:20:30]
dates: [2024-01-02, "2024-01-02"]
texts: ["yes", '0755', plain text, ""]
block: |
  two
  lines
merged: &base {a: 1, b: 2}
over: {<<: *base, b: 3}
"""


@pytest.mark.parametrize("text", [SCALARS, *(path.read_text() for path in SHIPPED)])
def test_values_are_those_that_serve_run_reads(text: str) -> None:
    assert [one.data for one in documents(text)] == list(yaml.safe_load_all(text))
    assert list(map(repr, (one.data for one in documents(text)))) == list(map(repr, yaml.safe_load_all(text)))


def test_each_part_knows_its_line() -> None:
    (document,) = documents("# top\na:\n  - x: 1\n    'y z': 2\n  # between\n  - {k: [1,\n      2]}\n")
    places = {("a",): 2, ("a", 0): 3, ("a", 0, "y z"): 4, ("a", 1, "k"): 6, ("a", 1, "k", 1): 7}
    assert {path: document.line(path) for path in places} == places


@pytest.mark.parametrize("path", [("a", "none"), ("a", 5), ("a", 0, "x", "deeper"), ("a", 0, "x", 3)])
def test_what_is_not_there_is_where_it_would_stand(path: tuple[str | int, ...]) -> None:
    (document,) = documents("b: 1\na:\n  - x: 1\n")
    assert document.line(path) == (3 if len(path) > 2 else 2)
    with pytest.raises(KeyError):
        descend(document.root, path)


def test_a_mapping_that_is_merged_in_stands_where_it_is_written() -> None:
    (document,) = documents("base: &base\n  a: 1\n  b: 2\nover:\n  <<: *base\n  b: 3\n")
    assert (document.line(("over", "a")), document.line(("over", "b"))) == (2, 6)


def test_keys_written_twice() -> None:
    (document,) = documents("a: {b: 1, b: 2}\nc:\n  - d: 1\n    d: 2\n  - <<: {e: 1}\n    <<: {f: 1}\n")
    assert document.twice == ((("a", "b"), 1), (("c", 0, "d"), 4))


def test_a_list_that_holds_itself_ends() -> None:
    (document,) = documents("a: &a [*a]\n")
    assert document.twice == () and document.line(("a", 0)) == 1


def test_empty_documents_are_none() -> None:
    assert [one.data for one in documents("---\n---\na: 1\n---\n")] == [{"a": 1}]
    assert [one.line(("a",)) for one in documents("---\n---\na: 1\n---\n")] == [3]
