from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from serve_app.batch.run.input import Scan
from serve_app.batch.run.journal import DiskFull, Journal, JournalError

SCAN = Scan(lines=9, fingerprint="0123456789ab", lines_of={})


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Journal]:
    return lambda scan=SCAN: Journal(tmp_path / "out.jsonl", tmp_path / "errors.jsonl", scan)


def line(journal: Journal, index: int, text: str = "x") -> bytes:
    return b'{"id":"%b","custom_id":"%b"}\n' % (journal.id(index).encode(), text.encode())


def test_what_is_in_either_file_is_done(opened: Callable[..., Journal]) -> None:
    with opened() as journal:
        journal.add(0, line(journal, 0), failed=False)
        journal.add(8, line(journal, 8), failed=True)
    with opened() as again:
        assert [again.done(index) for index in range(9)] == [True, *[False] * 7, True]
        assert (again.succeeded, again.failed) == (1, 1)


def test_a_last_line_torn_at_any_byte_is_cut_off_and_the_rest_kept(
    opened: Callable[..., Journal], tmp_path: Path
) -> None:
    with opened() as journal:
        first, second = line(journal, 3, "ä\\n"), line(journal, 4)
    output = tmp_path / "out.jsonl"
    for kept in range(len(second) + 1):
        output.write_bytes(first + second[:kept])
        with opened() as again:
            whole = kept == len(second)
            assert again.done(3) and again.done(4) is whole
            if not whole:
                again.add(4, second, failed=False)
        assert output.read_bytes() == first + second


def test_another_inputs_output_is_refused(opened: Callable[..., Journal]) -> None:
    with opened() as journal:
        journal.add(0, line(journal, 0), failed=False)
    with pytest.raises(JournalError, match="another input"):
        opened(Scan(9, "ffffffffffff", frozenset()))


@pytest.mark.parametrize("text", ['{"id": "batch_req_0123456789ab_9"}', '{"id": "mine"}', "{}", "hello", "\0\0"])
def test_a_file_that_holds_anything_else_is_left_alone(
    opened: Callable[..., Journal], tmp_path: Path, text: str
) -> None:
    (tmp_path / "errors.jsonl").write_text(text + "\n")
    with pytest.raises(JournalError, match=r"errors\.jsonl:1"):
        opened()
    assert (tmp_path / "errors.jsonl").read_text() == text + "\n"


def test_a_line_answered_in_both_files_is_told(opened: Callable[..., Journal], tmp_path: Path) -> None:
    with opened() as journal:
        journal.add(0, line(journal, 0), failed=False)
        (tmp_path / "errors.jsonl").write_bytes(line(journal, 0))
    with pytest.raises(JournalError, match="answered before"):
        opened()


def test_one_run_at_a_time(opened: Callable[..., Journal]) -> None:
    with opened(), pytest.raises(JournalError, match="another run"):
        opened()
    opened().close()


def test_a_full_disk_leaves_whole_lines(opened: Callable[..., Journal], tmp_path: Path) -> None:
    """The limit of a file's size stands for the disk's: write(2) writes what fits, then fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with opened() as journal:
        journal.add(0, line(journal, 0), failed=False)
        size = os.path.getsize(tmp_path / "out.jsonl")
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, before[1]))
        try:
            with pytest.raises(DiskFull, match="make room"):
                journal.add(1, line(journal, 1), failed=False)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, handler)
        assert os.path.getsize(tmp_path / "out.jsonl") == size
        journal.add(1, line(journal, 1), failed=False)
    with opened() as again:
        assert again.done(0) and again.done(1)
