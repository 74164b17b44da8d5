"""The command line: ``datamanager`` and ``python -m datamanager``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence


def _parser() -> argparse.ArgumentParser:
    from datamanager import __version__

    parser = argparse.ArgumentParser(prog="datamanager", description="LLM usage and billing store")
    parser.add_argument("--version", action="version", version=f"datamanager {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = commands.add_parser("demo", help="replay requests into a new database and show its sums")
    demo.add_argument("--trace", metavar="CSV", help="a real trace: TIMESTAMP,ContextTokens,...")
    demo.add_argument("--dir", metavar="FOLDER", help="where to put it (default: a new folder)")
    adopt = commands.add_parser("adopt", help="put the drop-in into a host's tree")
    adopt.add_argument("path", metavar="PATH", help="the host's folder, or its data_manager.py")
    adopt.add_argument("--undo", action="store_true", help="put the host's own file back")
    commands.add_parser("sqlite-info", help="which SQLite is in use")
    return parser


def _run(options: argparse.Namespace) -> None:
    if options.command == "demo":
        from datamanager.demo import run

        run(options.trace, options.dir)
    elif options.command == "adopt":
        from datamanager.adopt import adopt, undo

        print((undo if options.undo else adopt)(options.path))
    else:
        from datamanager import sqlite_info

        for key, value in sqlite_info().items():
            print(f"{key}: {value}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. 0: done; 1: it failed, and standard error says why; 130: Ctrl-C."""
    from datamanager import DataManagerError

    try:
        _run(_parser().parse_args(arguments))
    except KeyboardInterrupt:
        return 130
    except (DataManagerError, OSError, ValueError) as error:
        print(f"datamanager: {error}", file=sys.stderr)
        return 1
    return 0
