"""`python -m serve_app`, which is `serve-app` where it is not on the PATH."""

from serve_app.cli import command

command()
