"""A local server that speaks OpenAI's chat protocol: deterministic replies, counted calls, and the ways in which such servers fail."""

import json
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[[str, dict[str, Any]], str | int]  # (system prompt, facts) -> the content, or an HTTP status


@dataclass
class Served:
    """Where it listens, and every facts it was asked about, in order."""

    url: str
    asked: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


@contextmanager
def chat_server(reply: Reply) -> Generator[Served]:
    """Serve until the block ends."""
    served = Served("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            facts = json.loads(body["messages"][1]["content"])
            served.asked.append(facts)
            made = reply(body["messages"][0]["content"], facts)
            self._send(made, {"error": {"message": "as asked"}}) if isinstance(made, int) else self._send(200, completion(made))

        def _send(self, status: int, value: dict[str, Any]) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_address[1]}/v1#tiny"
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def completion(content: str) -> dict[str, Any]:
    """Return a chat completion as the protocol has it."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
    usage = {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10}
    return {"id": "x", "object": "chat.completion", "created": 0, "model": "tiny", "choices": [choice], "usage": usage}
