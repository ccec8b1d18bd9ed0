"""A small server on loopback that speaks Kaggle's protocol, so that the real command line can be driven without Kaggle.

The command line asks http://localhost when KAGGLE_API_ENVIRONMENT is LOCALHOST, and reaches this server, on any port, as
its proxy. What the server does wrong is set per test in ``trouble``.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

KEY = "0123456789abcdef-very-secret-key"
"""The key of the account; no test may ever see it in an output."""
TOKEN = "KGAT_secret-token-of-the-tests"


@dataclass
class Entry:
    """A submission as the server keeps it."""

    ref: int
    file: str
    description: str
    content: bytes
    looks: int = 0


@dataclass
class Kaggle:
    """The server's state. limit: submissions a day. trouble: method name (or ``PUT``) → what it answers instead, called with
    how often it was asked before; None goes on as usual. scored_after: how often the list is asked for before a submission has
    its score. error: why none is ever scored."""

    slug: str = "tiny-competition"
    limit: int = 5
    public: str = "0.5125"
    private: str = ""
    scored_after: int = 1
    error: str = ""
    hidden: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    trouble: dict[str, Callable[[int], Any]] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    uploads: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    port: int = 0

    def __enter__(self) -> Kaggle:
        kaggle = self

        class Handler(_Handler):
            state = kaggle

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def environment(self) -> dict[str, str]:
        """What the command line needs to find this server and to log in."""
        proxy = f"http://127.0.0.1:{self.port}"
        names = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy")
        return dict.fromkeys(names, proxy) | {
            "NO_PROXY": "",
            "no_proxy": "",
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "KAGGLE_USERNAME": "tester",
            "KAGGLE_KEY": KEY,
        }

    def count(self, name: str) -> int:
        """How often something was asked for."""
        return self.asked.count(name)

    # ------------------------------------------------------------ what is answered

    def start_submission_upload(self, body: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            token = f"token-{len(self.uploads)}-{body['fileName']}"
            self.uploads[token] = b""
        return {"token": token, "createUrl": f"http://localhost/upload/{token}"}

    def create_submission(self, body: dict[str, Any]) -> dict[str, Any] | tuple[int, str]:
        with self.lock:
            if len(self.entries) >= self.limit:
                return 400, "You have reached the daily submission limit of this competition"
            token = body["blobFileTokens"]
            name = token.split("-", 2)[2]
            entry = Entry(1000 + len(self.entries), name, body.get("submissionDescription", ""), self.uploads[token])
            self.entries.append(entry)
            return {"message": "Successfully submitted to Tiny", "ref": entry.ref}

    def list_submissions(self, body: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            shown = self.entries[: len(self.entries) - self.hidden] if self.hidden else self.entries
            self.hidden = max(0, self.hidden - 1)
            return {"submissions": [self._told(entry) for entry in reversed(shown)]}

    def get_submission_limits(self, body: dict[str, Any]) -> dict[str, Any]:
        made = len(self.entries)
        return {"numToday": made, "numTotal": made, "numAllowedNow": self.limit - made, "limitedByTotal": False}

    def introspect_token(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"active": True, "username": "tester"}

    def list_data_files(self, body: dict[str, Any]) -> dict[str, Any]:
        date = datetime(2026, 1, 1, tzinfo=UTC).isoformat().replace("+00:00", "Z")
        files = [{"name": n, "totalBytes": len(c), "creationDate": date, "ref": n} for n, c in self.files.items()]
        return {"files": files}

    def _told(self, entry: Entry) -> dict[str, Any]:
        entry.looks += 1
        done = entry.looks > self.scored_after
        status = ("ERROR" if self.error else "COMPLETE") if done else "PENDING"
        date = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=entry.ref)
        return {
            "ref": entry.ref,
            "fileName": entry.file,
            "date": date.isoformat().replace("+00:00", "Z"),
            "description": entry.description,
            "status": status,
            "publicScore": self.public if done and not self.error else "",
            "privateScore": self.private if done and not self.error else "",
            "errorDescription": self.error if done else "",
        }


class Cut(Exception):
    """The connection is to be cut without an answer."""


def cut(times: int) -> Callable[[int], None]:
    """Trouble that cuts the connection so many times, and then goes on as usual."""

    def answer(before: int) -> None:
        if before < times:
            raise Cut

    return answer


def refuse(status: int, message: str = "", times: int = 1 << 30) -> Callable[[int], tuple[int, str] | None]:
    """Trouble that answers with a status so many times."""
    return lambda before: (status, message or f"trouble {status}") if before < times else None


class _Handler(BaseHTTPRequestHandler):
    state: Kaggle
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self._body()
        path = urlsplit(self.path).path
        if not path.startswith("/api/v1/"):
            self._send(404, b"{}")
            return
        method = path.rsplit("/", 1)[1]
        name = "".join(f"_{c.lower()}" if c.isupper() else c for c in method).strip("_")
        if (answer := self._troubled(method)) is None:
            known = self.headers.get("Authorization", "")
            if not known:
                answer = (401, "Unauthenticated")
            else:
                asked = json.loads(body or b"{}")
                wrong = asked.get("competitionName") not in (None, self.state.slug)
                answer = (404, "Not found") if wrong else self._answered(name, asked)
        if answer is Cut:
            return
        if isinstance(answer, bytes):
            self._send(200, answer, "application/zip")
        elif isinstance(answer, tuple):
            self._send(answer[0], json.dumps({"code": answer[0], "message": answer[1]}).encode())
        else:
            self._send(200, json.dumps(answer).encode())

    def do_PUT(self) -> None:
        path = urlsplit(self.path).path
        trouble = self._troubled("PUT")
        if trouble is Cut:
            return
        body = self._body()
        if trouble is not None:
            self._send(trouble[0], trouble[1].encode())
            return
        self.state.uploads[path.rsplit("/", 1)[1]] = body
        self._send(200, b"")

    def do_GET(self) -> None:
        name = urlsplit(self.path).path.rsplit("/", 1)[1]
        content = self.state.files.get(name)
        if content is None:
            self._send(404, b"{}")
            return
        start = 0
        if (wanted := self.headers.get("Range", "")).startswith("bytes="):
            start = int(wanted[6:].split("-")[0])
        trouble = self._troubled("GET")
        self.send_response(206 if start else 200)
        for key, value in (
            ("Content-Length", str(len(content) - start)),
            ("Content-Type", "application/octet-stream"),
            ("Accept-Ranges", "bytes"),
            ("ETag", '"v1"'),
            ("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT"),
        ):
            self.send_header(key, value)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        self.state.asked.append(f"GET from {start}")
        self.wfile.write(content[start : start + len(content) // 2] if trouble is Cut else content[start:])
        if trouble is Cut:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""

    def _answered(self, name: str, asked: dict[str, Any]) -> Any:
        if name == "download_data_files":
            return self._redirect(f"{self.state.slug}.zip")
        if name == "download_data_file":
            return self._redirect(asked["fileName"])
        return getattr(self.state, name)(asked)

    def _redirect(self, name: str) -> Any:
        self.send_response(302)
        self.send_header("Location", f"http://localhost/files/{name}")
        self.send_header("Content-Length", "0")
        self.end_headers()
        return Cut

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _troubled(self, name: str) -> Any:
        before = self.state.count(name)
        self.state.asked.append(name)
        make = self.state.trouble.get(name)
        if make is None:
            return None
        try:
            return make(before)
        except Cut:
            self.close_connection = True
            return Cut

    def _send(self, status: int, content: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
