"""A set to draw from."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import TypeVar, overload

T = TypeVar("T", bound=Hashable)


class RandomSet(Sequence[T]):
    """Each item once, in no order; adding, removing, asking and drawing by number cost the same at any size."""

    def __init__(self, items: Iterable[T] = ()) -> None:
        self._items = list(dict.fromkeys(items))
        self._at = {item: at for at, item in enumerate(self._items)}

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        return iter(self._items)

    def __contains__(self, item: object) -> bool:
        return item in self._at

    @overload
    def __getitem__(self, at: int) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[T]: ...
    def __getitem__(self, at: int | slice) -> T | Sequence[T]:
        return self._items[at]

    def add(self, item: T) -> None:
        """Does nothing if it is there."""
        if item not in self._at:
            self._at[item] = len(self._items)
            self._items.append(item)

    def discard(self, item: T) -> None:
        """Does nothing if it is not there."""
        at = self._at.pop(item, None)
        if at is None:
            return
        last = self._items.pop()
        if last is not item:
            self._items[at] = last
            self._at[last] = at
