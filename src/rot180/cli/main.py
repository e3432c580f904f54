"""rot180: reads the command, runs it, and turns errors into sentences."""

import argparse
import json
import os
import sys
from collections.abc import Sequence

from rot180.cli import bench, check, evaluate, explain, export, predict, report, summary, train
from rot180.cli import filter as filter_command
from rot180.errors import Rot180Error
from rot180.notices import listeners

COMMANDS = train, evaluate, predict, explain, report, export, summary, check, filter_command, bench
INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    try:
        try:
            return _run(argv)
        finally:
            sys.stdout.flush()  # a reader who has gone is noticed here, not by the interpreter at its end
    except BrokenPipeError:  # not our error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(argv: Sequence[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    listeners[:] = [lambda sentence: print(f"rot180: {sentence}", file=sys.stderr)]
    try:
        return int(arguments.run(arguments))
    except Rot180Error as error:
        return _fail(str(error), arguments.json)
    except MemoryError:
        return _fail("there is not enough memory; use fewer images or a smaller batch", arguments.json)
    except BrokenPipeError:
        raise
    except OSError as error:  # a path too long, a folder that may not be read
        return _fail(f"{error.filename or 'a file'}: {error.strerror or error}", arguments.json)
    except KeyboardInterrupt:
        print("rot180: interrupted", file=sys.stderr)
        return INTERRUPTED


def _fail(sentence: str, as_json: bool) -> int:
    print(f"rot180: {sentence}", file=sys.stderr)
    if as_json:
        print(json.dumps({"error": sentence}))
    return 1


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from rot180.version import VERSION

        print(f"rot180 {VERSION}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rot180",
        description="Convolutional networks on a plain CPU. Without any option, `rot180 train` trains LeNet-5 on the "
        "embedded MNIST.",
        epilog="rot180 COMMAND --help explains a command. Exit codes: 0 done, 1 failed, 2 wrong usage.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in COMMANDS:
        name = module.__name__.rpartition(".")[2]
        summary_line = (module.__doc__ or "").split("\n")[0]
        command = commands.add_parser(
            name,
            help=summary_line,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.configure(command)
        command.add_argument("--json", action="store_true", help="print the result as JSON, for programs")
        command.set_defaults(run=module.run)
    return parser
