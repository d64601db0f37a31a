"""The process of a pod: serves the folder of its volume over HTTPS, with a certificate that it makes for itself."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import tempfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_REQUEST = (
    *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-batch"),
    *("-subj", "/CN=stand-in", "-days", "3650"),
)


class _Handler(SimpleHTTPRequestHandler):
    server_version = "standin"

    def do_GET(self) -> None:
        """``/status.php`` as OpenCloud has it; everything else is a file of the volume."""
        if self.path != "/status.php":
            super().do_GET()
            return
        there = Path(self.directory).is_dir()
        body = json.dumps({"installed": there, "maintenance": False, "productname": "stand-in"}).encode()
        self.send_response(200 if there else 503)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: every probe would be a line in the journal."""


def serve(path: str, host: str, port: int) -> None:
    """Serve ``path`` for ever. Without a port the process only lives."""
    if not port:
        sys.stdin.read()
        return
    server = ThreadingHTTPServer((host, port), partial(_Handler, directory=path))
    server.socket = _context().wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.serve_forever()


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        key, certificate = Path(folder, "key"), Path(folder, "certificate")
        subprocess.run([*_REQUEST, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
        context.load_cert_chain(certificate, key)
    return context
