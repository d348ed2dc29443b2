"""A pool of Python workers on one address: ``python -m pipelines.worker_pool ADDRESS PORT``.

It speaks the protocol of Beam's own pool (``worker_pool_main``) and differs from it where that one
hurt: it listens on the address it is given and not on all interfaces, where anybody may start
processes through it; it reads what workers print, who would otherwise wait once a pipe is full; and
it stops the worker that was meant. Flink gives the same id to a worker of a context that it closes
and to one of the context that follows, and the order to stop the first can come after the start of
the second. One order is one worker here, the oldest of that id. And it starts a worker again that a
signal ended: an engine waits without end for one that was killed before it had connected.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Any

import grpc  # type: ignore[import-untyped]
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc
from apache_beam.utils import thread_pool_executor

HARNESS = (
    "import sys; from apache_beam.runners.worker.sdk_worker import SdkHarness; "
    "SdkHarness(sys.argv[1], worker_id=sys.argv[2], state_cache_size=0, "
    "data_buffer_time_limit_ms=-1).run()"
)
STOP_SECONDS = 5.0
LOOK_SECONDS = 0.5
MAX_RESTARTS = 3
"""Of one worker. An engine that loses one it was connected to has it stopped, and orders anew."""


@dataclass
class _Worker:
    """A process that an engine has ordered."""

    name: str
    command: list[str]
    process: subprocess.Popen[bytes] = field(init=False)
    restarts: int = 0

    def start(self) -> None:
        """Start the process; what it prints goes to the log of the pool."""
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=sys.stderr)

    def was_killed(self) -> bool:
        """Whether a signal has ended it. One whose engine is gone ends by itself."""
        code = self.process.poll()
        return code is not None and code < 0


class Pool(beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolServicer):  # type: ignore[misc]
    """Starts and stops worker processes when an engine asks for it."""

    def __init__(self) -> None:
        self._workers: dict[str, deque[_Worker]] = defaultdict(deque)
        self._lock = threading.Lock()
        threading.Thread(target=self._watch, name="watch", daemon=True).start()

    def StartWorker(self, request: Any, _context: Any) -> Any:
        """Start a worker process that connects to the engine's control endpoint."""
        command = [sys.executable, "-c", HARNESS, request.control_endpoint.url, request.worker_id]
        logging.info("starting worker %s for %s", request.worker_id, command[3])
        worker = _Worker(request.worker_id, command)
        try:
            worker.start()
        except OSError as error:
            return beam_fn_api_pb2.StartWorkerResponse(error=str(error))
        with self._lock:
            self._workers[request.worker_id].append(worker)
        return beam_fn_api_pb2.StartWorkerResponse()

    def _watch(self) -> None:
        """Look after the workers, for as long as this process lives."""
        while True:
            time.sleep(LOOK_SECONDS)
            self._look()

    def _look(self) -> None:
        """Start again what was killed; the look also takes the dead from the table of processes."""
        with self._lock:
            for worker in [one for workers in self._workers.values() for one in workers]:
                if worker.was_killed() and worker.restarts < MAX_RESTARTS:
                    self._restart(worker)

    def _restart(self, worker: _Worker) -> None:
        logging.info("worker %s ended by signal %d", worker.name, -worker.process.returncode)
        try:
            worker.start()
        except OSError as error:
            logging.error("worker %s cannot be started again: %s", worker.name, error)
        worker.restarts += 1

    def StopWorker(self, request: Any, _context: Any) -> Any:
        """Stop the worker that was started first of those with this id."""
        with self._lock:
            workers = self._workers[request.worker_id]
            worker = workers.popleft() if workers else None
        if worker is not None:
            logging.info("stopping worker %s", request.worker_id)
            _stop(worker.process)
        return beam_fn_api_pb2.StopWorkerResponse()


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def serve(address: str, port: int) -> grpc.Server:
    """Start a pool; it ends with the server that is given back."""
    pings = [("grpc.http2.max_pings_without_data", 0), ("grpc.http2.max_ping_strikes", 0)]
    # Without reuse a second pool on the port is an error, and not one that gets half of the calls.
    options = [*pings, ("grpc.so_reuseport", 0)]
    server = grpc.server(thread_pool_executor.shared_unbounded_instance(), options=options)
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(Pool(), server)
    server.add_insecure_port(f"{address}:{port}")
    server.start()
    return server


def main() -> None:
    """Serve until a signal."""
    address, port = sys.argv[1:]
    # Beam has set up the root logger already when it was imported.
    logging.basicConfig(level=logging.INFO, force=True)
    server = serve(address, int(port))
    logging.info("pool of workers at %s:%s", address, port)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
