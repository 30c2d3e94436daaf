"""A proxy in front of an S3 server that breaks requests on purpose: errors, time-outs, dropped connections, and lost answers."""

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self
from urllib.parse import urlsplit

type Fault = Literal["500", "503", "hang", "drop", "lost"]
HANG_S = 1.5
_BODY = b'<?xml version="1.0"?><Error><Code>InternalError</Code><Message>broken on purpose</Message></Error>'


class FaultyS3:
    """Forwards every request, except where `plan(method, path)` names a fault. `lost` forwards, then hangs up."""

    def __init__(self, upstream: str) -> None:
        self._upstream = urlsplit(upstream)
        self.plan: Callable[[str, str], Fault | None] = lambda *_: None
        self._lock = threading.Lock()

    @contextmanager
    def running(self) -> Iterator[Self]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()

    def once_each(self, *faults: tuple[str, str, Fault]) -> list[tuple[str, str, Fault]]:
        """Break the first request of each `(method, part of the path)`; return those still to come, which empties itself."""
        waiting = list(faults)

        def plan(method: str, path: str) -> Fault | None:
            for fault in waiting:
                if method == fault[0] and fault[1] in path:
                    waiting.remove(fault)
                    return fault[2]
            return None

        self.plan = plan
        return waiting

    def _next(self, method: str, path: str) -> Fault | None:
        with self._lock:
            return self.plan(method, path)

    def _forward(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        link = http.client.HTTPConnection(self._upstream.hostname or "", self._upstream.port, timeout=30)
        try:
            link.request(handler.command, handler.path, body or None, dict(handler.headers.items()))
            answer = link.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            link.close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fault = proxy._next(self.command, self.path)
                if fault == "hang":
                    time.sleep(HANG_S)
                if fault in ("hang", "drop"):
                    self.close_connection = True
                    return
                if fault in ("500", "503"):
                    self._answer(int(fault), [("Content-Type", "application/xml")], b"" if self.command == "HEAD" else _BODY)
                    return
                status, headers, data = proxy._forward(self, body)
                if fault == "lost":
                    self.close_connection = True
                    return
                self._answer(status, headers, data)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any

            def _answer(self, status: int, headers: list[tuple[str, str]], data: bytes) -> None:
                self.send_response_only(status)
                for name, value in headers:
                    if name.lower() not in ("transfer-encoding", "connection", "content-length") or (
                        name.lower() == "content-length" and self.command == "HEAD"
                    ):
                        self.send_header(name, value)
                if self.command != "HEAD":
                    self.send_header("Content-Length", str(len(data)))
                with suppress(ConnectionError):  # the client may have given up
                    self.end_headers()
                    self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler
