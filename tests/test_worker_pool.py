"""Our pool of workers: which process an order to stop means, and what is started again."""

from __future__ import annotations

import os
import signal
import time
from types import SimpleNamespace

import pytest

from pipelines import worker_pool
from pipelines.worker_pool import MAX_RESTARTS, Pool

SLEEPER = "import time; time.sleep(600)"


@pytest.fixture
def pool(monkeypatch):
    monkeypatch.setattr(worker_pool, "HARNESS", SLEEPER)
    monkeypatch.setattr(worker_pool, "LOOK_SECONDS", 0.01)
    pool = Pool()
    yield pool
    for name in list(pool._workers):
        for _ in list(pool._workers[name]):
            stop(pool, name)


def start(pool: Pool, name: str = "1-1") -> int:
    endpoint = SimpleNamespace(url="localhost:1")
    answer = pool.StartWorker(SimpleNamespace(worker_id=name, control_endpoint=endpoint), None)
    assert not answer.error
    return pool._workers[name][-1].process.pid


def stop(pool: Pool, name: str = "1-1") -> None:
    pool.StopWorker(SimpleNamespace(worker_id=name), None)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def eventually(what) -> bool:
    """Whether something comes to be, however slow the machine."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if what():
            return True
        time.sleep(0.01)
    return False


def test_of_two_workers_of_one_id_the_older_is_stopped(pool):
    first, second = start(pool), start(pool)
    stop(pool)
    assert not is_alive(first)
    assert is_alive(second)


def test_a_worker_that_was_killed_is_started_again(pool):
    first = start(pool)
    os.kill(first, signal.SIGKILL)
    assert eventually(lambda: pool._workers["1-1"][0].process.pid != first)
    assert is_alive(pool._workers["1-1"][0].process.pid)
    assert not is_alive(first)


def test_the_one_that_was_started_again_is_stopped_by_the_same_order(pool):
    first = start(pool)
    os.kill(first, signal.SIGKILL)
    assert eventually(lambda: pool._workers["1-1"][0].process.pid != first)
    second = pool._workers["1-1"][0].process.pid
    stop(pool)
    assert not is_alive(second)
    assert not pool._workers["1-1"]


def test_there_is_an_end_to_starting_again(pool):
    start(pool)
    worker = pool._workers["1-1"][0]
    for number in range(MAX_RESTARTS):
        os.kill(worker.process.pid, signal.SIGKILL)
        assert eventually(lambda number=number: worker.restarts == number + 1)
    os.kill(worker.process.pid, signal.SIGKILL)
    assert eventually(worker.was_killed)
    pool._look()
    assert worker.restarts == MAX_RESTARTS
    assert worker.was_killed()


def test_a_worker_that_ends_by_itself_is_not_started_again(pool, monkeypatch):
    monkeypatch.setattr(worker_pool, "HARNESS", "import sys; sys.exit(1)")
    start(pool)
    worker = pool._workers["1-1"][0]
    assert eventually(lambda: worker.process.poll() is not None)
    pool._look()
    assert worker.process.returncode == 1
    assert worker.restarts == 0


def test_a_worker_that_cannot_be_started_is_told(pool, monkeypatch):
    monkeypatch.setattr(worker_pool.sys, "executable", "/none/python")
    endpoint = SimpleNamespace(url="localhost:1")
    answer = pool.StartWorker(SimpleNamespace(worker_id="1-2", control_endpoint=endpoint), None)
    assert "/none/python" in answer.error
    assert not pool._workers["1-2"]


def test_an_order_to_stop_what_is_not_there_is_no_error(pool):
    stop(pool, "9-9")
