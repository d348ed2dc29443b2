"""Processes killed at random moments: the same bytes in the end, nothing lost, nothing double.

``CIDERMILL_KILLS`` sets how many moments each test takes; `make test-chaos` takes ten. What a kill
hits depends on the clock, which is why these tests are no part of the gate.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable, Sequence

import pytest
from chaos import kill_one, run_with_kills, stop_group
from conftest import digests
from engine_runs import command, curate, no_leftovers
from poisoned import environment

from engines import flink
from engines.processes import children, descendants

KILLS = int(os.environ.get("CIDERMILL_KILLS", "1"))


def assert_same(output, samples_run) -> None:
    assert digests(output) == digests(samples_run)
    assert no_leftovers(output)


def survives(options: Sequence[str], kill: Callable[[], bool], kills: int, samples_run, tmp_path):
    """Runs in which ``kill`` strikes up to ``kills`` times each, until there were enough."""
    made = number = 0
    while made < KILLS:
        output = tmp_path / str(number)
        code, struck, said = run_with_kills(output, options, kill, kills, number)
        assert code == 0, said
        assert_same(output, samples_run)
        made += struck
        number += 1
        assert number <= 4 * KILLS, f"only {made} of {KILLS} kills met a run that still went on"


@pytest.mark.needs("flink")
def test_taskmanagers_killed(samples_run, tmp_path):
    with flink.cluster(2) as cluster:

        def kill() -> bool:
            victim = cluster.taskmanagers.pop(0)
            victim.kill()
            cluster.start_taskmanager()
            return True

        survives(cluster.options(), kill, KILLS, samples_run, tmp_path)


@pytest.mark.needs("flink")
def test_python_workers_killed(samples_run, tmp_path):
    with flink.cluster(2) as cluster:
        survives(
            cluster.options(), lambda: kill_one(cluster.workers()), KILLS, samples_run, tmp_path
        )


@pytest.mark.needs("flink")
def test_the_submitting_process_killed_and_the_same_command_again(samples_run, tmp_path):
    chance = random.Random(5)
    output = tmp_path / "out"
    struck = 0
    with flink.cluster(2) as cluster:
        words = command(str(output), *cluster.options())
        for _ in range(KILLS):
            process = subprocess.Popen(
                words, env=environment("none"), start_new_session=True,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            time.sleep(chance.uniform(3, 20))
            struck += process.poll() is None
            stop_group(process)
        done = curate(str(output), *cluster.options())
    assert done.returncode == 0, done.stderr
    assert struck
    assert_same(output, samples_run)


@pytest.mark.needs("flink")
def test_the_jobmanager_killed_and_the_same_command_again(samples_run, tmp_path):
    struck = number = 0
    with flink.cluster(2) as cluster:

        def kill() -> bool:
            assert cluster.jobmanager is not None
            cluster.jobmanager.kill()
            return True

        while struck < KILLS:
            output = tmp_path / str(number)
            for _ in range(3):
                code, kills, said = run_with_kills(output, cluster.options(), kill, 1, number)
                struck += kills
                number += 1
                if not kills:
                    break
                assert code == 1, said
                assert said.strip().splitlines()[-1].startswith("cidermill: flink ")
                cluster.start_jobmanager()
                cluster.wait_for_slots(2)
            done = curate(str(output), *cluster.options())
            assert done.returncode == 0, done.stderr
            assert_same(output, samples_run)


def test_workers_of_the_local_supervisor_killed(samples_run, tmp_path):
    own = os.getpid()

    def kill() -> bool:
        return kill_one([pid for child in children(own) for pid in descendants(child)])

    survives(["--workers", "2"], kill, 3, samples_run, tmp_path)
