"""Clients' keys that have names: what each of them may use, and how much of it.

An entry of `ingress.keys` is a key and what goes with it; one of `ingress.api_keys` is a key that may do everything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from serve_app.config.api_keys import DIGEST, ApiKey, WrittenOut, loggable
from serve_app.config.names import Name
from serve_app.config.sections import AtLeastOne, Positive, Section

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def key_name(name: str) -> str:
    """The name as it is; ValueError for one that metrics or headers cannot carry."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            "should be up to 64 letters, digits and any of . _ - after the first: metrics and headers carry it"
        )
    return name


def _digest(text: str) -> str:
    return loggable(DIGEST + text).removeprefix(DIGEST)


def _path(path: str) -> str:
    if not path.startswith("/") or len(path) < 2 or path.endswith("/"):
        raise ValueError("should be a path such as /v1/chat/completions; it stands for what lies below it too")
    return path


class KeyConfig(Section):
    """A client's key, its rights and its limits. A limit that is not set is none."""

    name: Annotated[str, AfterValidator(key_name)]
    """What the client is called in metrics, accounts and logs."""
    key: ApiKey | None = None
    """The key: `env:NAME`, `file:PATH` (read again when it changes), or written out, which works with `up` alone."""
    key_sha256: Annotated[str, AfterValidator(_digest)] | None = None
    """Or the digest of it, 64 hexadecimal digits; `serve-app key new NAME` makes a key and prints both."""
    admin: bool = False
    """Whether it opens `/metrics`, `/autoscaling`, `/docs`, `/openapi.json` and what the console shows, sees all keys
    in `/v1/usage`, and may load and unload adapters."""
    models: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    """Models it may use with their adapters, by any of their names, and adapters by theirs; all unless set."""
    routes: Annotated[tuple[Annotated[str, AfterValidator(_path)], ...], Field(min_length=1)] | None = None
    """Routes it may use beside `/v1/models` and `/v1/usage`, each with what lies below it; all unless set."""
    requests_per_minute: AtLeastOne | None = None
    """Requests to models within any minute; more get 429."""
    requests_per_day: AtLeastOne | None = None
    """The same within a day, which begins at midnight UTC."""
    tokens_per_minute: AtLeastOne | None = None
    """Tokens of prompts and answers, as the engines count them, within any minute."""
    tokens_per_day: AtLeastOne | None = None
    """The same within a day."""
    parallel: AtLeastOne | None = None
    """Requests open at the same time."""
    max_prompt_tokens: AtLeastOne | None = None
    """Tokens of one prompt; a longer one is 400."""
    max_output_tokens: AtLeastOne | None = None
    """Tokens of one answer, which ends there with the finish reason `length`."""
    priority: Literal["interactive", "batch"] = "interactive"
    """`batch` marks all of its requests as batch work, which makes way for people."""
    weight: Positive = 1.0
    """Its share where requests wait: one of weight 2 gets twice the tokens that one of weight 1 gets."""

    @model_validator(mode="after")
    def _one_key(self) -> KeyConfig:
        if (self.key is None) == (self.key_sha256 is None):
            raise ValueError("needs one of key and key_sha256")
        return self

    @property
    def entry(self) -> str:
        """Where its key is to be had, as `api_keys` writes it."""
        return self.key if self.key is not None else DIGEST + str(self.key_sha256)

    @property
    def client(self) -> str:
        """By what it is told apart where requests wait: its name, or else its digest; empty for all who show no key."""
        return self.name or self.key_sha256 or ""

    @property
    def is_limited(self) -> bool:
        """Whether it may be at a limit that all of its requests have together."""
        limits = (self.requests_per_minute, self.requests_per_day, self.parallel)
        return self.limits_tokens or any(limit is not None for limit in limits)

    @property
    def limits_tokens(self) -> bool:
        return self.tokens_per_minute is not None or self.tokens_per_day is not None


def unconfigured(name: str, **rights: Any) -> KeyConfig:
    """Of a name that no entry has."""
    return KeyConfig.model_construct(name=name, **rights)


UNNAMED = unconfigured("", admin=True)
"""Everybody where no key is configured."""


def unnamed(digest: str) -> KeyConfig:
    """Whoever shows the key of `api_keys` that has this digest."""
    return unconfigured("", admin=True, key_sha256=digest.removeprefix(DIGEST))


def entries(api_keys: Sequence[str], keys: Sequence[KeyConfig]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Every key of a configuration, as it may be logged, and where it stands below `ingress`."""
    for index, entry in enumerate(api_keys):
        yield ("api_keys", index), entry
    for index, one in enumerate(keys):
        yield ("keys", index, "key" if one.key is not None else "key_sha256"), one.entry


def told_apart(api_keys: Sequence[str], keys: Sequence[KeyConfig]) -> None:
    """Raises ValueError where two have one name or, as far as can be seen here, one key."""
    names: set[str] = set()
    for one in keys:
        if one.name in names:
            raise ValueError(
                f"two keys have the name {one.name!r}: rotation takes one entry with several keys in a file"
            )
        names.add(one.name)
    places: dict[str, str] = {}
    for path, entry in entries(api_keys, keys):
        place = f"{path[0]}[{path[1]}]"
        if entry.startswith(DIGEST) and entry in places:
            raise ValueError(f"{places[entry]} and {place} are the same key: nobody could tell whose it is")
        places[str(entry)] = place


def written_out(entry: str) -> bool:
    """Whether the key itself stood in the configuration."""
    return isinstance(entry, WrittenOut)
