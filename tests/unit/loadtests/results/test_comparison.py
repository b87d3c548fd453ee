"""What a comparison makes of its samples."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.results.comparison import COLUMNS, Comparison, Measurement
from loadtests.results.plots import comparison, style


def measured(tokens_per_s: float, ttft_ms: float = 10.0) -> Measurement:
    return Measurement(tokens_per_s, 1.0, ttft_ms, 20.0, 5.0, 6.0, 1.0, 0, 0.1)


@pytest.fixture
def results() -> Comparison:
    results = Comparison("cpu-text", {"gpu": None, "date": "2026-01-01"})
    for round, speed in enumerate((100, 900, 200)):
        results.add("chat", "vllm serve", round, measured(speed))
        results.add("chat", "this project", round, measured(2 * speed, ttft_ms=5.0))
    return results


def test_medians_over_rounds(results: Comparison) -> None:
    medians = results.medians()["chat"]
    assert medians["vllm serve"]["tokens_per_s"] == 200
    assert list(medians) == ["vllm serve", "this project"]


def test_the_table_gives_multiples_of_the_baseline(results: Comparison) -> None:
    row = next(line for line in results.table("vllm serve").splitlines() if line.startswith("| this project"))
    assert row.endswith("| 2.00 | 0.50 |")


def test_without_its_baseline_the_table_has_no_ratios(results: Comparison) -> None:
    row = next(line for line in results.table("nobody").splitlines() if line.startswith("| this project"))
    assert row.endswith("| - | - |")


def test_a_contender_that_failed_is_named_with_the_reason(results: Comparison) -> None:
    results.failed["ray-llm"] = "it ended with 1: no such module"
    assert "Not measured: ray-llm: it ended with 1: no such module" in results.table("vllm serve")


def test_json_keeps_everything(results: Comparison, tmp_path: Path) -> None:
    results.write(tmp_path / "new" / "x.json")
    assert Comparison.read(tmp_path / "new" / "x.json") == results


def test_plot(results: Comparison, tmp_path: Path) -> None:
    style.png(comparison.bars(results.title, results.medians(), COLUMNS), tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_who_failed_under_a_load_is_a_row_of_its_table(results: Comparison, tmp_path: Path) -> None:
    results.fail("chat", "vllm serve (Rust)", "0 of 16 requests were answered, with no token")
    results.fail("image", "vllm serve (Rust)", "no image")
    text = results.table("vllm serve")
    assert "| vllm serve (Rust) | failed |" in text
    assert "Failed: vllm serve (Rust): 0 of 16 requests were answered" in text and "no image" in text
    results.write(tmp_path / "x.json")
    again = Comparison.read(tmp_path / "x.json")
    assert again == results
    again.try_again("image", "vllm serve (Rust)")
    assert again.has_failed("chat", "vllm serve (Rust)") and not again.has_failed("image", "vllm serve (Rust)")
