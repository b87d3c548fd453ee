"""The adapters that a model has at present: those its entry lists, and those in its directory.

In the directory lies a record too, of what was loaded and unloaded by request (`serve_app.adapters.record`). Whoever
routes requests looks here again and again: what one process changes, all others see, on every node and after every
restart.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from serve_app.adapters import files
from serve_app.adapters.adapter import Adapter, listed
from serve_app.adapters.record import AdapterRecord, changing, read
from serve_app.config.names import model_id
from serve_app.config.schema import ModelConfig
from serve_app.config.vllm_args import PACKAGE, locate

logger = logging.getLogger("ray.serve")

Signature = tuple[tuple[int, int], ...]
"""Times and sizes of an adapter's files."""


class AdapterDirectory:
    """Looks at what one model has."""

    def __init__(self, model: ModelConfig) -> None:
        """`model` is resolved, and has adapters."""
        assert model.adapters is not None
        self._model = model
        self._listed = listed(model.adapters)
        self.root = Path(model.adapters.directory).expanduser() if model.adapters.directory else None
        self._judged: dict[Path, tuple[Signature, str | None]] = {}
        self._told: dict[str, str | None] = {}
        """What was last said of each in the log."""

    def look(self) -> list[Adapter]:
        """All adapters by now; one that cannot be used says so. Blocks."""
        found = {one.id: self._judge(one) for one in self._listed}
        if self.root is not None:
            record = read(self.root, self._model.id)
            for id, path in self._named(self.root, record):
                if id not in found:
                    found[id] = self._judge(Adapter(id, str(path)), self.root)
        self._tell(found)
        return list(found.values())

    def lists(self, id: str) -> bool:
        """Whether the model's entry lists an adapter of this id."""
        return any(one.id == id for one in self._listed)

    def below(self, path: str) -> Path | None:
        """The folder of an adapter that a path names, absolute or from the directory; None where it leads elsewhere."""
        if self.root is None or "\0" in path:
            return None
        folder = self.root / Path(path).expanduser()
        return self.root / folder.resolve().relative_to(self.root.resolve()) if inside(folder, self.root) else None

    def as_found(self, id: str, folder: Path) -> Adapter:
        """What `look` will find in the folder under this name. Blocks."""
        return self._judge(Adapter(id, str(folder)), self.root)

    def load(self, id: str, folder: Path) -> None:
        """Have the adapter in this folder, which `below` has given, from now on. Blocks; raises OSError."""
        assert self.root is not None
        path = str(folder.relative_to(self.root))
        with changing(self.root, self._model.id) as record:
            record.loaded.pop(id, None)
            if path != id:
                record.loaded[id] = path
            elif id in record.unloaded:
                record.unloaded.remove(id)

    def unload(self, id: str) -> None:
        """Have it no more, though its folder stays. Blocks; raises OSError."""
        assert self.root is not None
        with changing(self.root, self._model.id) as record:
            record.loaded.pop(id, None)
            if (self.root / id).is_dir() and id not in record.unloaded:
                record.unloaded.append(id)

    def judge(self, folder: Path) -> str | None:
        """Why the adapter in this folder cannot be used; None where nothing is known to be wrong. Blocks."""
        return files.problem(folder, self._model)

    def _named(self, root: Path, record: AdapterRecord) -> Iterator[tuple[str, Path]]:
        for id, path in record.loaded.items():
            yield id, root / path
        try:
            names = sorted(one.name for one in os.scandir(root) if not one.name.startswith("."))
        except OSError:
            return
        for name in names:
            if name not in record.unloaded and (root / name / files.CONFIG).is_file() and _is_name(name):
                yield name, root / name

    def _judge(self, adapter: Adapter, root: Path | None = None) -> Adapter:
        """The adapter with the version of its files, and with what is wrong with them."""
        folder = _folder(adapter.source)
        if folder is None or (signature := _signature(folder)) is None:
            return adapter if root is None else Adapter(adapter.id, adapter.source, wrong=f"{folder} is no folder")
        known = self._judged.get(folder)
        if known is None or known[0] != signature:
            wrong = self.judge(folder) if root is None or inside(folder, root) else f"it leads to outside of {root}"
            known = self._judged[folder] = (signature, wrong)
        return Adapter(adapter.id, adapter.source, adapter.sampling, _spelt(signature), known[1])

    def _tell(self, found: dict[str, Adapter]) -> None:
        """What has changed, in the log."""
        now = {id: one.wrong for id, one in found.items()}
        for id in now.keys() | self._told.keys():
            if id not in now:
                logger.info("%s: the adapter %s is gone", self._model.id, id)
            elif id not in self._told or now[id] != self._told[id]:
                wrong = now[id]
                if wrong is None:
                    logger.info("%s: has the adapter %s", self._model.id, id)
                else:
                    logger.warning("%s: the adapter %s cannot be used: %s", self._model.id, id, wrong)
        self._told = now


def inside(folder: Path, root: Path) -> bool:
    """Whether a folder, and the files of an adapter in it, lie in `root` once all links are followed."""
    top = root.resolve()
    return all((folder / name).resolve().is_relative_to(top) for name in ("", files.CONFIG, files.WEIGHTS))


def version(folder: Path) -> str:
    """Of the files of the adapter in this folder, as `look` tells it; empty where there is no such folder. Blocks."""
    signature = _signature(folder)
    return "" if signature is None else _spelt(signature)


def _spelt(signature: Signature) -> str:
    return "-".join(f"{time:x}.{size:x}" for time, size in signature)


def _folder(source: str) -> Path | None:
    """Where an adapter is on this node; None for a repository."""
    if source.startswith(("/", "~", PACKAGE)):
        return Path(locate(source)).expanduser()
    return None


def _signature(folder: Path) -> Signature | None:
    """None where there is no such folder on this node."""
    if not folder.is_dir():
        return None
    found = []
    for name in (files.CONFIG, files.WEIGHTS):
        try:
            about = (folder / name).stat()
            found.append((about.st_mtime_ns, about.st_size))
        except OSError:
            found.append((0, 0))
    return tuple(found)


def _is_name(name: str) -> bool:
    try:
        model_id(name)
    except ValueError:
        return False
    return True
