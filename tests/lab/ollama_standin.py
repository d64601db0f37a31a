"""A stand-in for Ollama, which is not in Debian: it listens where OLLAMA_HOST says and knows its version and no model.

The unit is Ollama's own as its installer writes it, but for the user.
"""

from __future__ import annotations

from lab.driver import Machine

UNIT = "ollama.service"
VERSION = "0.0.0-standin"
_FILES = {
    f"/etc/systemd/system/{UNIT}": """\
[Unit]
Description=A stand-in for Ollama
After=network-online.target
[Service]
ExecStart=/usr/local/bin/ollama serve
Restart=always
RestartSec=3
[Install]
WantedBy=default.target
""",
    "/usr/local/bin/ollama": f"""\
#!/usr/bin/python3
import os, socket
host, _, port = os.environ.get("OLLAMA_HOST", "127.0.0.1:11434").partition(":")
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind((host, int(port or 11434)))
server.listen()
bodies = {{"/api/version": '{{"version":"{VERSION}"}}', "/api/tags": '{{"models":[]}}'}}
while True:
    client, _ = server.accept()
    with client:
        asked = client.recv(4096).decode().split()
        body = bodies.get(asked[1] if len(asked) > 1 else "", "")
        status = "200 OK" if body else "404 Not Found"
        client.sendall(f"HTTP/1.0 {{status}}\\r\\nContent-Length: {{len(body)}}\\r\\n\\r\\n{{body}}".encode())
""",
}


def install(machine: Machine, host: str = "") -> None:
    """Install and start it as a person would who followed its guide, with ``OLLAMA_HOST`` when ``host`` is given."""
    files = dict(_FILES)
    if host:
        files[f"/etc/systemd/system/{UNIT}.d/override.conf"] = f"[Service]\nEnvironment=OLLAMA_HOST={host}\n"
    lines = [f"mkdir -p /etc/systemd/system/{UNIT}.d"]
    lines += [f"cat >{path} <<'END'\n{text}END" for path, text in files.items()]
    lines.append(f"chmod 755 /usr/local/bin/ollama && systemctl daemon-reload && systemctl -q enable --now {UNIT}")
    machine.succeed("\n".join(lines), sudo=True)


def remove(machine: Machine) -> None:
    """Take it away with all its files and drop-ins."""
    folder = f"/etc/systemd/system/{UNIT}"
    files = f"rm -rf {folder} {folder}.d /usr/local/bin/ollama"
    stop = f"systemctl revert {UNIT}; systemctl disable --now {UNIT}"
    machine.succeed(f"{stop}; {files}; systemctl daemon-reload", sudo=True)
