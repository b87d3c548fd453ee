"""What can be known of a service before anything is sent to it: whether it is there, and has the model."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterable
from urllib.parse import urlsplit

from loadtests import arguments
from loadtests.arguments import BadSpec

TIMEOUT_S = 10.0


def check(url: str | None, models: Iterable[str], api_key: str = "") -> None:
    """Raises BadSpec when there is no such service, when it refuses the key, or when its list of models has not
    all of these. A service that does not tell its models, or is slow to, is taken as it is.
    """
    parts = urlsplit(url or "")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadSpec(f"--host is the service's URL, as in --host http://127.0.0.1:8000; got {url!r}")
    base = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/v1')}"
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"{base}/v1/models", headers=headers), timeout=TIMEOUT_S
        ) as page:
            listed = json.loads(page.read())
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            raise BadSpec(f"{base} answers {error.code} to this API key: give another one") from None
        return
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            return
        raise BadSpec(f"no service at {base}: {error.reason}") from None
    except (OSError, ValueError, RecursionError):
        return
    known = _names(listed)
    for model in models:
        if known and model not in known:
            near = arguments.instead(model, dict.fromkeys(known))
            raise BadSpec(f"--model {model!r}: {base} has no such model{near}; it has {', '.join(sorted(known))}")


def _names(listed: object) -> set[str]:
    """Of an answer in OpenAI's schema; nothing where it is in another."""
    data = listed.get("data") if isinstance(listed, dict) else None
    found = {one.get("id") for one in data if isinstance(one, dict)} if isinstance(data, list) else set()
    return {name for name in found if isinstance(name, str)}
