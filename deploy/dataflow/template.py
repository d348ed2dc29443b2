"""The pipeline of the flex template: submit the graph, and return without waiting for it.

A launcher runs this file with the template's parameters and Beam's options as arguments, takes the
job that ``run`` describes, and starts it. Nothing here may wait for the end of the job, which
begins only after this program has ended. What ``cidermill curate`` does after the last record
(adding up the accounts, manifest, report) is left to ``conclude_run.py``.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import uuid
from collections.abc import Sequence

import pipelines.quiet  # noqa: F401 - before Beam is imported
from pipelines import conclude
from pipelines.cli import parser
from pipelines.command_curate import plan
from pipelines.inputs_error import InputError
from pipelines.resources import stage_resources
from pipelines.yaml_tree import RecipeError


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """What ``cidermill curate`` would make of these arguments; the rest are Beam's."""
    known, rest = parser().parse_known_args(["curate", *arguments])
    known.beam_options = rest
    return known


def launch(arguments: Sequence[str]) -> None:
    """Plan the run and hand its graph to the runner that ``--runner`` names.

    Raises:
      InputError: an argument or an input cannot be used.
      RecipeError: the recipe cannot be used.
    """
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    from pipelines.curate import curate

    known = parsed(arguments)
    if known.runner == "local":
        raise InputError(
            "--runner is local, which is no Beam runner; the launcher gives DataflowRunner"
        )
    # No main session: all functions are in modules of the image, and this file is in no worker.
    options = PipelineOptions(
        [f"--runner={known.runner}", "--no_save_main_session", *known.beam_options]
    )
    # First, for with these options Beam's file systems can list the inputs.
    pipeline = beam.Pipeline(options=options)
    run, found = plan(known)
    staged = stage_resources(dict(run.resources), run.work)
    run = dataclasses.replace(
        run,
        staged=staged,
        token=uuid.uuid4().hex,
        isolated=known.runner == "DataflowRunner",
    )
    conclude.begin(run)
    _ = curate(pipeline, found, run)
    pipeline.run()


def main(arguments: Sequence[str]) -> int:
    """Launch; returns the exit code: 0, or 2 for arguments or inputs that cannot be used."""
    try:
        launch(arguments)
    except (InputError, RecipeError) as error:
        print(f"template: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
