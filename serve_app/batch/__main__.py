"""`python -m serve_app.batch`: the command of `serve_app.batch.command`."""

import sys

from serve_app.batch.command import main

if __name__ == "__main__":
    sys.exit(main())
