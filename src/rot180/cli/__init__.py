"""The command line: one module a command. Exit codes: 0 done, 1 it failed (one sentence on stderr), 2 wrong usage."""

from rot180.cli.main import main

__all__ = ["main"]
