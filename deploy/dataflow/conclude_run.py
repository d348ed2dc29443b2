"""Conclude a run whose job was launched from the flex template and has ended.

    python conclude_run.py --input gs://crawl/*.warc.gz --output gs://corpus/web --recipe web

Takes the arguments of the launch that ``cidermill curate`` knows, and no others. Adds up the
accounts of all inputs, removes tables of earlier inputs, and writes ``report.html`` and
``manifest.json``. Where an input was not finished it says so and writes nothing: launch again, and
the job goes on from the work directory.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pipelines.quiet  # noqa: F401 - before Beam is imported
from pipelines import conclude, files
from pipelines.account import ConservationError
from pipelines.cli import parser
from pipelines.command_curate import plan
from pipelines.console import print_funnel
from pipelines.inputs_error import InputError
from pipelines.yaml_tree import RecipeError


def main(arguments: Sequence[str]) -> int:
    """Conclude; returns the exit code: 0, 2 for wrong arguments, 3 for an unfinished input."""
    known = parser().parse_args(["curate", *arguments])
    try:
        run, found = plan(known)
        manifest = conclude.conclude(run, found)
    except (InputError, RecipeError) as error:
        print(f"conclude_run: {error}", file=sys.stderr)
        return 2
    except ConservationError as error:
        print(f"conclude_run: {error}", file=sys.stderr)
        return 3
    seconds = files.read_json(conclude.timing_file(run.output))["seconds"]
    print_funnel(manifest, run.output, seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
