"""`python -m serve_app check|up|down ...`"""

from __future__ import annotations

import signal
import sys

USAGE = """usage: python -m serve_app COMMAND ...

  check CONFIG   is the configuration right, and what would run where?
  up CONFIG      start the service on this machine and show how it comes up
  down           end a service that `up` started on this machine

Each command tells more with --help."""


def main(argv: list[str]) -> int:
    """Run a command; 2 when there is none such."""
    command, rest = (argv[0], argv[1:]) if argv else ("", [])
    if command == "check":
        from serve_app.planning import check

        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        return check.main(rest)
    if command == "up":
        from serve_app.launching import up

        return up.main(rest)
    if command == "down":
        from serve_app.launching import down

        return down.main(rest)
    if command in ("-h", "--help"):
        print(USAGE)
        return 0
    print(USAGE, file=sys.stderr)
    return 2


def command() -> None:
    """`serve-app`, the same as `python -m serve_app`."""
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    command()
