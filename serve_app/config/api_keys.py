"""Clients' API keys: how a configuration names them, and how they are read.

An entry of `ingress.api_keys`, or the `key` of one of `ingress.keys`, is `sha256:HEX`, the digest of a key;
`env:NAME`, a variable of the ingress process; `file:PATH`, a file on its node; or the key itself, which is replaced by
its digest as soon as it is read, so that nothing that is logged, shown or sent to a cluster holds it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

DIGEST = "sha256:"
VARIABLE = "env:"
FILE = "file:"
_HEX = re.compile(r"[0-9a-f]{64}")
_SENDABLE = re.compile(r"[!-~]+")


class WrittenOut(str):
    """The digest of a key that stood in the configuration itself."""


def loggable(entry: str) -> str:
    """The entry as it may be logged: a key by its digest, anything else as it is. Raises ValueError for a wrong one."""
    if entry.startswith(DIGEST):
        digest = entry.removeprefix(DIGEST).lower()
        if not _HEX.fullmatch(digest):
            raise ValueError("sha256: should be followed by 64 hexadecimal digits: printf %s KEY | sha256sum")
        return WrittenOut(DIGEST + digest) if isinstance(entry, WrittenOut) else DIGEST + digest
    for scheme, what in ((VARIABLE, "the name of an environment variable"), (FILE, "the path of a file")):
        if entry.startswith(scheme):
            if not entry.removeprefix(scheme).strip() or "\0" in entry:
                raise ValueError(f"{scheme} should be followed by {what}")
            return entry
    return WrittenOut(digest_of(entry))


ApiKey = Annotated[str, AfterValidator(loggable)]
"""An entry of `ingress.api_keys` or a `key`, as it may be logged."""


def digests(entry: str) -> list[str]:
    """The digests of an entry's keys, read from where it says. Raises ValueError where there are none."""
    entry = loggable(entry)
    if entry.startswith(VARIABLE):
        name = entry.removeprefix(VARIABLE)
        return _all(os.environ.get(name, "").split(","), f"the environment variable {name} is empty or not set")
    if entry.startswith(FILE):
        path = Path(entry.removeprefix(FILE)).expanduser()
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise ValueError(f"the file {path} cannot be read ({reason})") from None
        return _all(lines, f"the file {path} holds no key")
    return [entry]


def digest_of(key: str) -> str:
    """A key's `sha256:HEX`. Raises ValueError for one that no client can send."""
    if not key.strip():
        raise ValueError("a key should not be empty: it would let everybody in")
    if not _SENDABLE.fullmatch(key):
        raise ValueError("a key should be of visible ASCII characters, without white space: no header carries others")
    return DIGEST + hashlib.sha256(key.encode()).hexdigest()


def _all(found: Iterable[str], none: str) -> list[str]:
    """One key each; a digest may stand for it."""
    keys = [key.strip() for key in found if key.strip()]
    if not keys:
        raise ValueError(none)
    return [loggable(key) if key.startswith(DIGEST) else digest_of(key) for key in keys]
