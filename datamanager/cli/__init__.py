"""The command line: ``datamanager`` and ``python -m datamanager``.

Each module beside this one holds a group of commands in its ``COMMANDS``. What a command needs to
do its work is imported when it runs, so that the cheap ones start fast.
"""

from __future__ import annotations

import argparse
import io
import os
import sys

from datamanager.cli import (
    care,
    completion,
    files,
    host,
    prices,
    records,
    report,
    status,
    usage,
)
from datamanager.cli.command import Parser, add_commands
from datamanager.cli.errors import OUTPUT_GONE, STOPPED, explained

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_GROUPS = (records, status, usage, prices, report, files, care, host, completion)


def _parser() -> Parser:
    from datamanager import __version__

    parser = Parser(prog="datamanager", description="The usage and billing store of LLM models.")
    parser.add_argument("--version", action="version", version=f"datamanager {__version__}")
    parser.add_argument("--db", metavar="FILE", help=argparse.SUPPRESS)
    add_commands(parser, [command for group in _GROUPS for command in group.COMMANDS])
    return parser


def _run(arguments: Sequence[str] | None) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(arguments)
    code: int | None = options.run(options)
    sys.stdout.flush()
    return code or 0


def _failed(error: KeyboardInterrupt | Exception) -> int:
    if isinstance(error, KeyboardInterrupt):
        if sys.stderr.isatty():
            print(file=sys.stderr)
        return STOPPED
    if isinstance(error, BrokenPipeError):  # whoever reads has seen enough
        return OUTPUT_GONE
    code, text = explained(error)
    print(text, file=sys.stderr)
    return code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. 0: done; else ``errors`` has the number, and standard error says why."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the caller closed it
            setattr(sys, name, open(os.devnull, "w"))
    try:
        return _run(arguments)
    except (KeyboardInterrupt, Exception) as error:
        code = _failed(error)
        # What is still buffered is half a result, and Python would fail to flush it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return code
