"""Translate the graph to a Dataflow job request, offline, and hold it against Dataflow's limits.

    python deploy/dataflow/check_job.py                        # 3 and 100,000 inputs
    python deploy/dataflow/check_job.py --inputs 5 --recipe c4

Needs the Dataflow client (``apache-beam[gcp]``), but no network, project or credentials: Beam's own
runner translates and describes the job, and what it would upload and send is counted instead.
The graph is built by ``pipelines.curate.curate`` with made-up inputs on ``gs://``; lists that it
writes go to a folder that is removed again.

Exit codes: 0 within the limits; 1 beyond one; 2 the Dataflow client is not installed.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pipelines.quiet  # noqa: F401 - before Beam is imported
from pipelines.inputs import Input
from pipelines.recipe import Source, load
from pipelines.run import Run

REQUEST_LIMIT = 20_000_000
"""Bytes of a job request in JSON: cloud.google.com/dataflow/docs/request-quotas says 20 MB."""

GRAPH_LIMIT = 10_000_000
"""Bytes of a job's graph: the same page says 10 MB. The service counts a form of its own; what is
held against the limit here is the pipeline as it is staged for the service."""

IMAGE = "us-docker.pkg.dev/project/cidermill/cidermill:0.1.0"
OPTIONS = (
    "--runner=DataflowRunner",
    "--project=project-1",
    "--region=us-central1",
    "--job_name=cidermill",
    "--temp_location=gs://bucket/temp",
    "--staging_location=gs://bucket/staging",
    f"--sdk_container_image={IMAGE}",
    # Without it Beam stages the list of packages installed here, which says nothing of the image.
    "--experiments=disable_logging_submission_environment",
    # On Dataflow Beam stages a pickle of __main__ by default; all of our functions are in modules.
    "--no_save_main_session",
)


@dataclass(frozen=True)
class Measured:
    """What a job of so many inputs comes to, in bytes.

    ``request`` is the request in JSON, ``graph`` the pipeline that is staged beside it, ``largest``
    the largest payload of one transform. ``packages`` are the names of files that workers would
    have to install before they start.
    """

    inputs: int
    request: int
    graph: int
    transforms: int
    largest: int
    largest_name: str
    image: str
    packages: tuple[str, ...]

    def excesses(self) -> list[str]:
        """A sentence for each limit that the job is beyond."""
        found = []
        for what, value, limit in (
            ("request", self.request, REQUEST_LIMIT),
            ("graph", self.graph, GRAPH_LIMIT),
        ):
            if value > limit:
                found.append(
                    f"the {what} of a job with {self.inputs:,} inputs has {value:,} bytes, above "
                    f"Dataflow's limit of {limit:,}; keep the inputs out of the graph, or split "
                    "the run"
                )
        return found


def made_up_inputs(count: int) -> list[Input]:
    """Inputs named like a month of Common Crawl, with keys and sizes as irregular as real ones."""
    found = []
    for number in range(count):
        noise = hashlib.sha256(str(number).encode()).digest()
        segment = 1_700_000_000 + int.from_bytes(noise[5:8], "big")
        name = (
            f"crawl-data/CC-MAIN-2024-10/segments/{segment}.{noise[8]}/warc/"
            f"CC-MAIN-20240220211055-20240221001055-{number:05d}.warc.gz"
        )
        found.append(
            Input(
                key=noise[:5].hex(),
                source="input",
                kind="warc",
                name=name,
                paths=(f"gs://bucket/{name}",),
                size=900_000_000 + int.from_bytes(noise[9:12], "big"),
                updated=1_709_000_000.0 + int.from_bytes(noise[12:14], "big"),
            )
        )
    return found


def measure(count: int, recipe: str = "web") -> Measured:
    """Translate the graph over ``count`` inputs and count its bytes.

    Raises:
      ImportError: the Dataflow client is not installed.
    """
    found = made_up_inputs(count)
    with tempfile.TemporaryDirectory() as work:
        run = Run(
            recipe=load(recipe).with_sources([Source("input", "warc", ("gs://bucket/*",), "")]),
            output="gs://bucket/out",
            work=work,
            partitions=256,
        )
        job, graph = describe(found, run)
    return count_bytes(count, job, graph)


def describe(found: Sequence[Input], run: Run) -> tuple[Any, bytes]:
    """The job that would be submitted, and the pipeline that would be staged for it."""
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.dataflow.internal import apiclient

    from pipelines.curate import curate

    class Describer(apiclient.DataflowApplicationClient):  # type: ignore[misc]
        """Beam's client with its uploads kept in memory and no connection to the service."""

        def __init__(self, options: PipelineOptions) -> None:
            self.environment_version = apiclient._FNAPI_ENVIRONMENT_MAJOR_VERSION
            self._sdk_image_overrides = self._get_sdk_image_overrides(options)
            self._enable_caching = False
            self.staged: dict[str, bytes] = {}

        def stage_file_with_retry(
            self, _location: str, name: str, stream: Any, *_: Any, **__: Any
        ) -> None:
            if isinstance(stream, str):
                with open(stream, "rb") as handle:
                    self.staged[name] = handle.read()
            else:
                self.staged[name] = stream.read()

    # With --dry_run the runner stops after translating, before it opens a connection.
    options = PipelineOptions([*OPTIONS, "--dry_run=True"])
    pipeline = beam.Pipeline(options=options)
    _ = curate(pipeline, found, run)
    job = pipeline.run().job
    client = Describer(options)
    client.create_job_description(job)
    return job, client.staged["pipeline.pb"]


def count_bytes(inputs: int, job: Any, graph: bytes) -> Measured:
    """The figures of a described job."""
    from apache_beam.portability.api import beam_runner_api_pb2

    pipeline = beam_runner_api_pb2.Pipeline.FromString(graph)
    payloads = {t.unique_name: t.ByteSize() for t in pipeline.components.transforms.values()}
    largest = max(payloads, key=lambda name: payloads[name])
    pool = job.proto.environment.worker_pools[0]
    return Measured(
        inputs=inputs,
        request=len(job.json().encode()),
        graph=len(graph),
        transforms=len(payloads),
        largest=payloads[largest],
        largest_name=largest,
        image=pool.worker_harness_container_image,
        packages=tuple(package.name for package in pool.packages),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, and say which limits are exceeded."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--inputs", type=int, action="append", help="may be repeated")
    parser.add_argument("--recipe", default="web")
    known = parser.parse_args(arguments)
    if importlib.util.find_spec("google.cloud") is None or (
        importlib.util.find_spec("google.cloud.dataflow") is None
    ):
        print("check_job: needs apache-beam[gcp]: the Dataflow client is absent", file=sys.stderr)
        return 2
    print(f"{'inputs':>9} {'request':>12} {'graph':>12} {'transforms':>10}  largest transform")
    excesses = []
    for count in known.inputs or [3, 100_000]:
        found = measure(count, known.recipe)
        print(
            f"{count:9,} {found.request:12,} {found.graph:12,} {found.transforms:10,}  "
            f"{found.largest:,} {found.largest_name}",
            flush=True,
        )
        excesses += found.excesses()
    print(f"{'limit':>9} {REQUEST_LIMIT:12,} {GRAPH_LIMIT:12,}")
    for sentence in excesses:
        print(f"check_job: {sentence}", file=sys.stderr)
    return 1 if excesses else 0


if __name__ == "__main__":
    sys.exit(main())
