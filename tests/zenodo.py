"""A server on this computer that stands in for Zenodo, and can be as unreliable as any."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from napari_teramind.published.record import RECORD

TINY = Path(__file__).parent / "data" / "parity" / "tiny.last.ckpt"
NETWORK = "638850_64_12_all_4_ours"
DOI = "10.0000/stand-in"


def zipped(members: Mapping[str, bytes]) -> bytes:
    """Return a zip file with members of any names."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return content.getvalue()


def published() -> bytes:
    """Return a zip file as the published ones are: a checkpoint in a folder, among other files."""
    return zipped(
        {
            f"main/{NETWORK}/last.ckpt": TINY.read_bytes(),
            f"main/{NETWORK}/args.txt": b"--patch 64",
        }
    )


@dataclass(frozen=True)
class Asked:
    """A request, and how many bytes of a file were sent for it."""

    path: str
    range: str | None
    sent: int


@dataclass
class Zenodo:
    """What the server has and how it behaves; changed by a test at any time.

    Attributes
    ----------
    files
        Contents by name; the record lists them.
    others
        Contents by path, which the record does not list.
    md5
        Hashes that the record gives in place of the true ones.
    cuts
        For each of the next large answers, after how many bytes the connection is cut.
    ranges
        Whether parts can be asked for.
    pause
        Seconds between two pieces, of which there are 64 in a file.
    busy
        How many requests are still turned away for now.
    asked
        What was asked for.
    """

    files: dict[str, bytes] = field(default_factory=lambda: {"main.zip": published()})
    others: dict[str, bytes] = field(default_factory=dict)
    md5: dict[str, str] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    ranges: bool = True
    pause: float = 0.0
    busy: int = 0
    asked: list[Asked] = field(default_factory=list)
    port: int = 0

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def api(self) -> str:
        return f"{self.root}/api"

    def downloads(self) -> list[Asked]:
        """Requests for files that go to the end, and so are no looks into a zip file."""
        found = (asked for asked in self.asked if asked.path.endswith("/content"))
        return [asked for asked in found if asked.range is None or asked.range.endswith("-")]

    def record(self) -> bytes:
        files = [
            {
                "key": name,
                "size": len(content),
                "checksum": "md5:" + self.md5.get(name, _md5(content)),
                "links": {"self": f"{self.api}/records/{RECORD}/files/{name}/content"},
            }
            for name, content in self.files.items()
        ]
        return json.dumps({"id": int(RECORD), "doi": DOI, "files": files}).encode()


@contextmanager
def serving(zenodo: Zenodo | None = None) -> Iterator[Zenodo]:
    """Serve until the end of a ``with`` block."""
    zenodo = zenodo or Zenodo()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(zenodo))
    server.daemon_threads = True
    zenodo.port = server.server_port
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield zenodo
    finally:
        server.shutdown()
        server.server_close()


def _handler(zenodo: Zenodo) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with suppress(ConnectionError):  # the other side may go at any instant
                self._answer(self.headers.get("Range"))

        def _answer(self, asked: str | None) -> None:
            name = self.path.removeprefix(f"/api/records/{RECORD}/files/").removesuffix("/content")
            content = zenodo.files.get(name)
            if self.path == f"/api/records/{RECORD}":
                self._send(200, zenodo.record(), {"Content-Type": "application/json"})
            elif self.path in zenodo.others:
                self._send(200, zenodo.others[self.path], {})
            elif content is None:
                self._send(404, b"", {})
            elif zenodo.busy:
                zenodo.busy -= 1
                self._send(503, b"", {})
            elif asked is None or not zenodo.ranges:
                self._send(200, content, {}, large=True)
            else:
                first, _, last = asked.removeprefix("bytes=").partition("-")
                start, stop = int(first), min(int(last) + 1 if last else len(content), len(content))
                told = {"Content-Range": f"bytes {start}-{stop - 1}/{len(content)}"}
                self._send(206, content[start:stop], told, large=not last)

        def _send(
            self, status: int, content: bytes, headers: dict[str, str], large: bool = False
        ) -> None:
            sent = content[: zenodo.cuts.pop(0)] if large and zenodo.cuts else content
            # Noted first: whoever asked may look as soon as the last byte has come.
            zenodo.asked.append(Asked(self.path, self.headers.get("Range"), len(sent)))
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            piece = max(1, len(sent) // 64)
            for start in range(0, len(sent), piece):
                self.wfile.write(sent[start : start + piece])
                if large:
                    time.sleep(zenodo.pause)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()
