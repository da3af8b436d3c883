"""A schema registry in a thread, with as much of Confluent's HTTP interface as its own clients use."""

from __future__ import annotations

import json
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import unquote, urlsplit


class SchemaRegistryServer:
    """`requests` are those that came; while `away` is true each is answered with 503."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.away = False
        self._schemas: list[dict[str, Any]] = []  # the number of each is its place, from 1 on
        self._versions: dict[str, list[int]] = {}
        self._lock = threading.Lock()
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                registry._answer(self, None)

            def do_POST(self) -> None:
                registry._answer(self, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler, body: Any) -> None:
        with self._lock:
            self.requests.append(f"{request.command} {urlsplit(request.path).path}")
            parts = [unquote(part) for part in urlsplit(request.path).path.strip("/").split("/")]
            status, said = (503, {"message": "away"}) if self.away else self._find(request.command, parts, body)
        text = json.dumps(said).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        request.send_header("Content-Length", str(len(text)))
        request.end_headers()
        request.wfile.write(text)

    def _find(self, method: str, parts: list[str], body: Any) -> tuple[int, Any]:
        match method, parts:
            case "GET", ["schemas", "ids", number]:
                return self._schema(int(number))
            case "GET", ["schemas", "guids", guid]:
                return self._schema(next((n for n, s in enumerate(self._schemas, 1) if s["guid"] == guid), 0))
            case "POST", ["subjects", subject, "versions"]:
                return 200, self._describe(subject, self._register(subject, body))
            case "POST", ["subjects", subject]:
                number = self._number(body)
                there = number in self._versions.get(subject, [])
                return (200, self._describe(subject, number)) if there else (404, {"error_code": 40403})
            case "GET", ["subjects", subject, "versions", version]:
                versions = self._versions.get(subject, [])
                at = len(versions) if version == "latest" else int(version)
                return (200, self._describe(subject, versions[at - 1])) if versions else (404, {"error_code": 40401})
        return 404, {"error_code": 404}

    def _schema(self, number: int) -> tuple[int, Any]:
        if not 0 < number <= len(self._schemas):
            return 404, {"error_code": 40403, "message": "Schema not found"}
        return 200, self._schemas[number - 1]

    def _describe(self, subject: str, number: int) -> Any:
        version = self._versions[subject].index(number) + 1
        return {"subject": subject, "id": number, "version": version, **self._schemas[number - 1]}

    def _number(self, body: Any) -> int:
        same = (n for n, each in enumerate(self._schemas, 1) if _same(each, body))
        return next(same, 0)

    def _register(self, subject: str, body: Any) -> int:
        number = self._number(body)
        if not number:
            kept = {key: body[key] for key in ("schema", "schemaType", "references") if body.get(key)}
            self._schemas.append({**kept, "guid": str(uuid.uuid4())})
            number = len(self._schemas)
        versions = self._versions.setdefault(subject, [])
        if number not in versions:
            versions.append(number)
        return number


def _same(one: Any, other: Any) -> bool:
    return all((one.get(key) or None) == (other.get(key) or None) for key in ("schema", "references"))
