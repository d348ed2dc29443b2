"""``cidermill why`` and ``cidermill report``: what a finished run tells."""

from __future__ import annotations

import argparse


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add both commands to the command line."""
    why = commands.add_parser(
        "why",
        help="tell why a page was kept, dropped or edited",
        description="Tell the whole story of a document: each rule it broke with the measured "
        "value and the bound, each edit, what it is a duplicate of.",
    )
    why.add_argument("document", metavar="URL-or-id", help="the page's URL, or a document id")
    why.add_argument("--output", "-o", default="out", help="folder of the run (default: out)")
    why.set_defaults(perform=_why)
    report = commands.add_parser(
        "report",
        help="print the funnel of a finished run and write its report anew",
        description="Print the funnel of a finished run, and write report.html anew from its "
        "manifest.",
    )
    report.add_argument("output", nargs="?", default="out", help="folder of the run (default: out)")
    report.set_defaults(perform=_report)


def _why(arguments: argparse.Namespace) -> int:
    from pipelines.why import explain

    for line in explain(arguments.output, arguments.document):
        print(line)
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from pipelines.command_curate import report

    return report(arguments)
