"""All benchmarks: a table, and JSON in build/bench/results.json.

python bench/run.py [--only write,bulk,read,open,usage] [--rounds 5] [--quick]
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from dataclasses import asdict

from common import BUILD, Result, machine

TOPICS = ("write", "bulk", "read", "open", "usage")


def line(result: Result) -> str:
    spread = "" if result.spread is None else "{:,.4g} … {:,.4g}".format(*result.spread)
    verdict = {None: "", True: "met", False: "MISSED"}[result.met]
    goal = ""
    if result.goal is not None:
        goal = f"{'>=' if result.at_least else '<='} {result.goal:.3g}"
    value = f"{result.value:,.4g}"
    return f"{result.name:<46}{value:>11} {result.unit:<7}{spread:>22}  {goal:<9}{verdict}"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(TOPICS), help="topics, separated by commas")
    parser.add_argument(
        "--rounds", type=int, default=5, help="interleaved rounds; the median counts"
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows: does it work?")
    given = parser.parse_args(arguments)
    about = machine()
    for name, value in about.items():
        print(f"{name}: {value}")
    results: list[Result] = []
    for topic in given.only.split(","):
        print(f"\n{topic}", flush=True)
        found = importlib.import_module(f"bench_{topic}").measure(given.rounds, given.quick)
        for result in found:
            print(line(result), flush=True)
        results += found
    BUILD.mkdir(parents=True, exist_ok=True)
    report = {"machine": about, "rounds": given.rounds, "results": [asdict(r) for r in results]}
    (BUILD / "results.json").write_text(json.dumps(report, indent=1))
    missed = [result.name for result in results if result.met is False]
    print(f"\n{len(missed)} goals missed" + "".join(f"\n  {name}" for name in missed))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
