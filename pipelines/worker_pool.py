"""A pool of Python workers on one address: ``python -m pipelines.worker_pool ADDRESS PORT``.

It speaks the protocol of Beam's own pool (``worker_pool_main``) and differs from it where that one
hurt: it listens on the address it is given and not on all interfaces, where anybody may start
processes through it; it reads what workers print, who would otherwise wait once a pipe is full; and
it stops the worker that was meant. Flink gives the same id to a worker of a context that it closes
and to one of the context that follows, and the order to stop the first can come after the start of
the second. One order is one worker here, the oldest of that id.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections import defaultdict, deque
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


class Pool(beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolServicer):  # type: ignore[misc]
    """Starts and stops worker processes when an engine asks for it."""

    def __init__(self) -> None:
        self._workers: dict[str, deque[subprocess.Popen[bytes]]] = defaultdict(deque)
        self._lock = threading.Lock()

    def StartWorker(self, request: Any, _context: Any) -> Any:
        """Start a worker process that connects to the engine's control endpoint."""
        command = [sys.executable, "-c", HARNESS, request.control_endpoint.url, request.worker_id]
        logging.info("starting worker %s for %s", request.worker_id, command[3])
        try:
            worker = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr)
        except OSError as error:
            return beam_fn_api_pb2.StartWorkerResponse(error=str(error))
        with self._lock:
            self._workers[request.worker_id].append(worker)
            for others in self._workers.values():
                # Without a look at them, workers that died would stay as zombies.
                for other in others:
                    other.poll()
        return beam_fn_api_pb2.StartWorkerResponse()

    def StopWorker(self, request: Any, _context: Any) -> Any:
        """Stop the worker that was started first of those with this id."""
        with self._lock:
            workers = self._workers[request.worker_id]
            worker = workers.popleft() if workers else None
        if worker is not None:
            logging.info("stopping worker %s", request.worker_id)
            _stop(worker)
        return beam_fn_api_pb2.StopWorkerResponse()


def _stop(worker: subprocess.Popen[bytes]) -> None:
    worker.terminate()
    try:
        worker.wait(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()


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
