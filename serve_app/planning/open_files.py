"""How many files and connections a process may have open."""

from __future__ import annotations

import resource

RESERVED = 500
"""For a process's own files: libraries, logs, listeners, health checks, pipes."""
PER_CONNECTION = 1.5
"""Files HAProxy takes for a client's connection: one, and a second while a request is in progress on it."""


def most_connections(wanted: int) -> int:
    """As many of the `wanted` connections as the hard limit on open files leaves room for."""
    return max(1, min(wanted, int((hard_limit() - RESERVED) / PER_CONNECTION)))


def room(wanted: int) -> str:
    """How many of the `wanted` connections HAProxy would take if it started from here; why not all, and what to do."""
    if (possible := most_connections(wanted)) == wanted:
        return f"{wanted:,}"
    needed = int(wanted * PER_CONNECTION) + RESERVED
    return (
        f"{possible:,} in place of {wanted:,} (ingress.max_connections), as a process may open {hard_limit():,} files"
        f" here: raise the hard limit to {needed:,} (ulimit -Hn, LimitNOFILE=, docker run --ulimit nofile=)"
    )


def hard_limit() -> int:
    """Files a process may open at most, whatever it asks for."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return 2**30 if hard == resource.RLIM_INFINITY else hard


def raise_to_hard_limit() -> None:
    """Let this process, and what it starts, open as many files as the hard limit allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
