"""`serve-app COMMAND ...`: all commands of this project.

Each has a module of its own, which is imported when it is asked for.
"""

from __future__ import annotations

import difflib
import importlib
import signal
import sys
from typing import NamedTuple


class Command(NamedTuple):
    """One command."""

    module: str
    """Its `main` takes the arguments and returns the exit status."""
    summary: str


COMMANDS = {
    "check": Command("serve_app.planning.check", "is a configuration right, and what would run where?"),
    "up": Command("serve_app.launching.up", "start a service on this machine and show how it comes up"),
    "deploy": Command("serve_app.launching.deploy", "give a service that `up` started another configuration"),
    "down": Command("serve_app.launching.down", "end a service that `up` started on this machine"),
    "environment": Command("serve_app.launching.node_environment", "what each node's `ray start` needs to be set"),
    "warm": Command("serve_app.launching.warm", "fill the compile cache, so that replicas start in seconds"),
    "key": Command("serve_app.config.new_key", "make a key for a client, and the entry of the configuration for it"),
    "batch": Command("serve_app.batch.command", "answer every request of a file, going on where an earlier run ended"),
    "tune": Command("loadtests.tune", "measure a replica, write a configuration, prove it under a traffic"),
    "prove": Command("loadtests.prove", "what becomes of a configuration, as it stands, under a traffic"),
    "chaos": Command("loadtests.chaos", "what clients notice when parts of a service are killed, frozen or replaced"),
    "report": Command("loadtests.planner.report", "write the report of a tuning anew"),
    "simulate": Command(
        "loadtests.simulate", "how a service holds a traffic, and how many GPUs that takes, in virtual time"
    ),
    "compare": Command("loadtests.compare", "this project and its peers side by side on this machine"),
    "interference": Command("loadtests.interference", "what a chat notices of a batch on the same service"),
    "switching": Command("loadtests.switching", "what it costs a running service to load an adapter"),
    "fairness": Command("loadtests.fairness", "what a client notices of another one's flood, in virtual time"),
    "offline": Command("loadtests.offline", "a file of prompts here and through vLLM's own offline engine"),
}
LOADTESTS = "loadtests."


def main(argv: list[str]) -> int:
    """Run a command and return its exit status; 2 when there is no such command, or what it needs is not installed."""
    name, rest = (argv[0], argv[1:]) if argv else ("", [])
    if name in ("-h", "--help"):
        print(usage())
        return 0
    if (command := COMMANDS.get(name)) is None:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        print(f"there is no command {name!r}{hint}\n\n{usage()}" if name else usage(), file=sys.stderr)
        return 2
    try:
        module = importlib.import_module(command.module)
    except ModuleNotFoundError as error:
        if not command.module.startswith(LOADTESTS):
            raise
        print(
            f"serve-app {name} needs {error.name}: pip install 'serve-app[load]', or, in a checkout,"
            " `make .venv/.installed-test`",
            file=sys.stderr,
        )
        return 2
    if name == "check":
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    return int(module.main(rest))


def usage() -> str:
    """All commands, a line each."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(["usage: serve-app COMMAND ...", "", *lines, "", "serve-app COMMAND --help tells more of each."])


def command() -> None:
    """The console script `serve-app`."""
    sys.exit(main(sys.argv[1:]))
