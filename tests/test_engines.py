"""What the command line makes of an engine, before anything is submitted."""

from __future__ import annotations

import argparse
import io
import re
import socket

import pytest

from filters.batch import Batch
from pipelines import engines, metrics
from pipelines.cli import main
from pipelines.console import print_counters
from pipelines.engines import choose, run_on_engine, worker_pool
from pipelines.inputs_error import InputError


def chosen(runner: str, *options: str, workers: int | None = None) -> engines.Engine:
    return choose(argparse.Namespace(runner=runner, beam_options=list(options), workers=workers))


def test_flink_by_its_job_service():
    engine = chosen("flink", "--job_endpoint=host:8099", "--environment_type=EXTERNAL", workers=8)
    assert engine.runner == "PortableRunner"
    assert engine.options[-2:] == ("--parallelism", "8")
    assert engine.told == "flink (8 workers)"
    assert engine.isolated
    assert not engine.own_pool


def test_a_flink_on_this_machine_gets_workers_here():
    engine = chosen("flink", "--job_endpoint=localhost:8099", "--parallelism=3")
    assert engine.own_pool
    assert engine.isolated
    assert engine.workers == 3
    assert not chosen("flink", "--job_endpoint=far:8099").own_pool
    assert not chosen("flink", "--job_endpoint=localhost:1", "--flink_master=far:8081").own_pool


def test_flink_without_anything_to_start_it_with():
    with pytest.raises(InputError, match="needs --job_endpoint HOST:PORT .* or --flink_job_server"):
        chosen("flink")


def test_prism_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"no prism program on the PATH; .* go install github"):
        chosen("prism")
    with pytest.raises(InputError, match="no prism program at /none"):
        chosen("prism", "--prism_location=/none")


def test_a_runner_that_does_not_exist_is_one_line(capsys, tmp_path):
    code = main(["curate", "--input", str(tmp_path), "--runner", "Nowhere"])
    assert code == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("cidermill: --runner Nowhere cannot be used: ")


def test_workers_in_the_submitting_process_must_not_end_it():
    assert not chosen("FnApiRunner").isolated
    assert not chosen("PortableRunner", "--environment_type=LOOPBACK").isolated


def test_a_pool_of_workers_listens_on_loopback_only():
    with worker_pool() as address:
        host, _, port = address.partition(":")
        assert host == "127.0.0.1"
        with socket.socket() as probe:
            assert probe.connect_ex((host, int(port))) == 0
        with socket.socket() as probe:
            # Another address of this machine, which a pool on all interfaces would answer at.
            assert probe.connect_ex(("127.0.0.2", int(port))) != 0
    with socket.socket() as probe:
        assert probe.connect_ex((host, int(port))) != 0


# --- submitting again ---------------------------------------------------------------------------


def submissions(monkeypatch, outcomes):
    """Have submissions end as told: (a worker died, the job failed)."""
    dead: set[str] = set()
    made = []

    def submit(*_):
        died, failed = outcomes[len(made)]
        made.append(1)
        if died:
            dead.add(str(len(made)))
        if failed:
            raise engines.EngineFailed("prism failed")
        return engines.Counted({"read": 1}, {})

    monkeypatch.setattr(engines, "_dead_attempts", lambda _: frozenset(dead))
    monkeypatch.setattr(engines, "_submit", submit)
    said: list[str] = []
    engine = engines.Engine("FnApiRunner", "FnApiRunner", (), None)
    return lambda: run_on_engine(engine, "", id, lambda _: None, said.append), made, said


def test_a_job_that_fails_because_a_worker_died_is_submitted_again(monkeypatch):
    run, made, said = submissions(monkeypatch, [(True, True), (True, True), (False, False)])
    assert run().documents == {"read": 1}
    assert len(made) == 3
    assert len(said) == 2


def test_a_job_that_fails_for_another_reason_is_not(monkeypatch):
    run, made, _ = submissions(monkeypatch, [(False, True)])
    with pytest.raises(engines.EngineFailed):
        run()
    assert len(made) == 1


def test_there_is_an_end_to_it(monkeypatch):
    run, made, _ = submissions(monkeypatch, [(True, True)] * 9)
    with pytest.raises(engines.EngineFailed):
        run()
    assert len(made) == engines.MAX_SUBMISSIONS


# --- counters -----------------------------------------------------------------------------------

TOTAL = {
    "counts": {"read": 3, "kept": 2, "rejected": 1},
    "stages": {"url": {"in": 3, "dropped": 1, "out": 2}},
    "rules": {"url.blocked": {"removed": 1, "broken": 2}, "c4.lorem_ipsum": {"broken": 1}},
}


def test_counters_of_an_account():
    assert metrics.counters_of(TOTAL) == {
        "read": 3, "kept": 2, "rejected": 1,
        "url.in": 3, "url.dropped": 1, "url.out": 2,
        "removed by url.blocked": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("counters", "said"),
    [
        (metrics.counters_of(TOTAL), "counters all 7 agree with the manifest"),
        ({**metrics.counters_of(TOTAL), "read": 6}, "1 of 7 differ .* read is 6, not 3"),
        ({**metrics.counters_of(TOTAL), "url.dead": 1}, "url.dead is 1, not 0"),
        ({}, "counters this engine gave none at the end"),
    ],
)
def test_what_is_said_of_counters(counters, said):
    out = io.StringIO()
    print_counters({"total": TOTAL}, counters, file=out)
    assert len(out.getvalue().splitlines()) == 1
    assert re.search(said, out.getvalue())


def test_counting_outside_of_a_job_is_no_error():
    metrics.batch(Batch("k", 0, 0, 3, [], seconds={"url": 0.1}), 2)
    metrics.account(TOTAL)
