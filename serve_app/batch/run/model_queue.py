"""The lines of one model on their way to its engines: those that are open, and those that wait behind them.

A run reads its input once, for all models together. A line that comes while its model has as many open as it may joins
the model's backlog, so that the lines behind it reach the other models. The backlog keeps where a line is, not the
line: it is read again when there is room.
"""

from __future__ import annotations

import asyncio
from array import array
from collections import deque
from pathlib import Path
from typing import BinaryIO

from serve_app.batch.run.input import READ_ERRORS, InputLine, is_packed, next_line, opened, unreadable
from serve_app.batch.run.sender import PacedSender, RunStopped

MOST_OPEN_BYTES = 256 * 2**20
"""Of a model's lines that are open; a single longer one goes alone."""
UNPACKED_AT_ONCE = 2**20
"""Bytes of a packed file that are passed over before others on the event loop have their turn."""
DROPPED_AT_ONCE = 4096
"""Lines taken out of a backlog before the memory of their positions is given back."""


class Backlog:
    """Positions of lines in the input, first in, first out: 16 bytes of memory each, however long the lines are.

    Lines come out in the order of the input, so each backlog goes through the files forwards, with a stream of its own.
    In a plain file it jumps from line to line. A file packed with gzip has no positions to jump to: it is unpacked as
    far as the next line, so that all of a backlog costs unpacking the file once more, and no disk space.
    """

    def __init__(self) -> None:
        self._offsets = array("Q")
        self._indexes = array("I")
        self._numbers = array("I")
        self._taken = 0
        """Positions at the front that are no longer in the backlog."""
        self._files: deque[tuple[int, Path]] = deque()
        """The files that the positions are in, each with the index of its first line here."""
        self._open: tuple[Path, BinaryIO, bool] | None = None
        """The file that was read from last, and whether it is packed."""

    def __len__(self) -> int:
        return len(self._offsets) - self._taken

    def append(self, line: InputLine) -> None:
        """Remember where this line is, which is behind those that were appended before."""
        if not self._files or self._files[-1][1] is not line.file:
            self._files.append((line.index, line.file))
        self._offsets.append(line.offset)
        self._indexes.append(line.index)
        self._numbers.append(line.number)

    async def first(self) -> InputLine:
        """Read the first line again; it stays in the backlog until `drop_first`. Raises InputError."""
        index, offset, number = self._indexes[self._taken], self._offsets[self._taken], self._numbers[self._taken]
        while len(self._files) > 1 and self._files[1][0] <= index:
            self._files.popleft()
        file = self._files[0][1]
        try:
            stream, packed = self._stream_of(file)
            while packed and (step := stream.tell() + UNPACKED_AT_ONCE) < offset:
                stream.seek(step)
                await asyncio.sleep(0)
            stream.seek(offset)
            data, _ = next_line(stream, file, first=number == 1)
        except READ_ERRORS as error:
            raise unreadable(error, file) from None
        return InputLine(index, file, number, offset, data)

    def drop_first(self) -> None:
        """Forget the line that `first` gave."""
        self._taken += 1
        if self._taken >= DROPPED_AT_ONCE and self._taken * 2 >= len(self._offsets):
            for positions in (self._offsets, self._indexes, self._numbers):
                del positions[: self._taken]
            self._taken = 0

    def close(self) -> None:
        """Let the input go."""
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def _stream_of(self, file: Path) -> tuple[BinaryIO, bool]:
        if self._open is None or self._open[0] is not file:
            self.close()
            self._open = file, opened(file), is_packed(file)
        return self._open[1:]


class ModelQueue:
    """One model's lines, which wait for no other model's engines."""

    def __init__(self, model: str | None, lines: int, sender: PacedSender) -> None:
        """`lines` of the input are this model's. `model` is None for all models that have no queue of their own."""
        self.model = model
        self.unread = lines
        """Its lines that the reader has not come to."""
        self.sender = sender
        self.backlog = Backlog()
        self.tasks: set[asyncio.Task[None]] = set()
        """Of the lines that are open."""
        self.open_bytes = 0
        """Of the lines that are open."""
        self.stopped: RunStopped | None = None
        """Why it could not go on."""
        self.changed = asyncio.Event()
        """Set when there may be something to do for this queue."""

    @property
    def has_room(self) -> bool:
        """Whether another line may be opened."""
        return len(self.tasks) < self.sender.allowed and (self.open_bytes < MOST_OPEN_BYTES or not self.tasks)

    @property
    def takes_next(self) -> bool:
        """Whether a line of this model that the reader comes to may be opened at once."""
        return self.stopped is None and not self.backlog and self.has_room

    @property
    def waits_for_reader(self) -> bool:
        """Whether the model's engines could have a line that is further on in the input."""
        return self.unread > 0 and self.takes_next
