"""Beam's pool of Python workers on one address: ``worker_pool.py ADDRESS PORT``.

Beam's own ``worker_pool_main`` listens on all interfaces of a machine, where anybody may start
processes through it. The pool is the same, and so is what it does with its workers.
"""

from __future__ import annotations

import logging
import signal
import sys

import grpc
from apache_beam.portability.api import beam_fn_api_pb2_grpc
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer
from apache_beam.utils import thread_pool_executor


def main() -> None:
    """Serve until a signal."""
    address, port = sys.argv[1:]
    logging.basicConfig(level=logging.INFO)
    pings = [("grpc.http2.max_pings_without_data", 0), ("grpc.http2.max_ping_strikes", 0)]
    # Without reuse a second pool on the port is an error, and not one that gets half of the calls.
    options = [*pings, ("grpc.so_reuseport", 0)]
    server = grpc.server(thread_pool_executor.shared_unbounded_instance(), options=options)
    servicer = BeamFnExternalWorkerPoolServicer(use_process=True, data_buffer_time_limit_ms=-1)
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(servicer, server)
    server.add_insecure_port(f"{address}:{port}")
    server.start()
    logging.info("pool of workers at %s:%s", address, port)
    signal.pause()


if __name__ == "__main__":
    main()
