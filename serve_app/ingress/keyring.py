"""The keys that this process knows, and whose each of them is; those in files are read again when a file changes."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from serve_app.config.api_keys import DIGEST, FILE, digests
from serve_app.config.keys import UNNAMED, KeyConfig, unnamed

LOOK_S = 1.0
"""How often the files are looked at."""

logger = logging.getLogger("ray.serve")


class Keyring:
    """Finds the owner of a key. What is kept and compared are digests: how long that takes tells nothing of a key.

    Raises ValueError, which names the entry and never a key, for an entry that yields no key or another's.
    """

    def __init__(self, api_keys: Sequence[str], keys: Iterable[KeyConfig] = ()) -> None:
        self._entries = [("ingress.api_keys", entry, UNNAMED) for entry in api_keys]
        self._entries += [(f"ingress.keys, {one.name}", one.entry, one) for one in keys]
        self._files = {entry: _signature(entry) for _, entry, _ in self._entries if entry.startswith(FILE)}
        self._found: dict[str, list[str]] = {}
        """Digests by entry."""
        for place, entry, _ in self._entries:
            try:
                self._found[entry] = digests(entry)
            except ValueError as error:
                raise ValueError(f"{place}: {error}") from None
        self._owners = self._sorted(self._found)

    def __bool__(self) -> bool:
        return bool(self._entries)

    def owner(self, key: str) -> KeyConfig | None:
        """Whose it is; None where it is nobody's."""
        return self._owners.get(DIGEST + hashlib.sha256(key.encode()).hexdigest())

    def look(self) -> None:
        """Read the files that have changed. One that cannot be used any more keeps the keys it had. Blocks."""
        for entry, before in list(self._files.items()):
            if (now := _signature(entry)) == before:
                continue
            self._files[entry] = now
            try:
                found = {**self._found, entry: digests(entry)}
                self._owners, self._found = self._sorted(found), found
                logger.info("%s was read again: it holds %d keys", entry, len(found[entry]))
            except ValueError as error:
                logger.warning("the keys of %s stay as they were: %s", entry, error)

    async def follow(self) -> None:
        """Never returns."""
        while self._files:
            await asyncio.sleep(LOOK_S)
            await asyncio.to_thread(self.look)

    def _sorted(self, found: dict[str, list[str]]) -> dict[str, KeyConfig]:
        owner_of: dict[str, KeyConfig] = {}
        for place, entry, owner in self._entries:
            for digest in found[entry]:
                if owner_of.setdefault(digest, owner) is not owner:
                    raise ValueError(f"{place}: {entry} holds a key that another entry has")
        return {digest: unnamed(digest) if owner is UNNAMED else owner for digest, owner in owner_of.items()}


def _signature(entry: str) -> tuple[int, int, int] | None:
    """Differs when the file has changed; None where there is none."""
    try:
        found = os.stat(Path(entry.removeprefix(FILE)).expanduser())
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
