"""A proxy before an object store that fails in the ways stores fail, by count and not by chance."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REFUSED, ANSWERED_WRONG, SLOW = "refused", "done, but answered with an error", "slow"
SLOW_SECONDS = 0.3


class FaultyStore:
    """Of every so many writing requests one gets a fault; ``faults`` counts them by kind."""

    def __init__(self, port: int, every: int) -> None:
        self.port = port
        self.faults: Counter[str] = Counter()
        self._every = every
        self._lock = threading.Lock()
        self._kinds = itertools.cycle([REFUSED, ANSWERED_WRONG, SLOW])
        self._requests = itertools.count(1)

    def fault(self, method: str) -> str:
        """The fault that this request gets, or nothing."""
        if method not in ("PUT", "POST", "DELETE"):
            return ""
        with self._lock:
            if next(self._requests) % self._every:
                return ""
            kind = next(self._kinds)
            self.faults[kind] += 1
            return kind


def handler(store: FaultyStore) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = store.fault(self.command)
            if fault == REFUSED:
                self.answer(503, [], b"")
                return
            if fault == SLOW:
                time.sleep(SLOW_SECONDS)
            upstream = http.client.HTTPConnection("127.0.0.1", store.port, timeout=60)
            # With the host that the client signed.
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                upstream.putheader(name, value)
            upstream.endheaders(body)
            answer = upstream.getresponse()
            content = answer.read()
            upstream.close()
            if fault == ANSWERED_WRONG:
                self.answer(500, [], b"")
                return
            self.answer(answer.status, answer.getheaders(), content)

        def answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
            self.send_response(status)
            length = str(len(content))
            for name, value in headers:
                if name.lower() == "content-length" and self.command == "HEAD":
                    length = value
                elif name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", length)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = forward

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


@contextlib.contextmanager
def before(port: int, every: int) -> Iterator[tuple[str, FaultyStore]]:
    """A faulty store before that on ``port``; gives its address and what counts its faults."""
    store = FaultyStore(port, every)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(store))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", store
    finally:
        server.shutdown()
        server.server_close()
