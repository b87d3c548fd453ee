"""`serve-app key new NAME`: a key for a client, and the entry of the configuration that lets it in."""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Sequence

from serve_app.config.api_keys import DIGEST, digest_of
from serve_app.config.keys import key_name

BYTES = 32
"""Of chance in a key."""


def main(argv: Sequence[str] | None = None) -> int:
    """0 with the key on standard output, 2 for a name that no key can have."""
    parser = argparse.ArgumentParser(
        prog="serve-app key", description="Make a key for a client. It is shown once and kept nowhere."
    )
    actions = parser.add_subparsers(dest="action", required=True)
    new = actions.add_parser("new", help="print a new key, and its digest as an entry of `ingress.keys`")
    new.add_argument("name", help="what the client is called in metrics, accounts and logs")
    args = parser.parse_args(argv)
    try:
        name = key_name(args.name)
    except ValueError as error:
        print(f"{args.name!r} {error}", file=sys.stderr)
        return 2
    key = f"sk-{secrets.token_urlsafe(BYTES)}"
    print(f"key, for the client: {key}")
    print("entry, for the configuration:\n\n    ingress:\n      keys:")
    print(f"        - {{name: {name}, key_sha256: {digest_of(key).removeprefix(DIGEST)}}}")
    return 0
