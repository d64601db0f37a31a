"""The command line of the stand-in: `k3s --version|server|agent|kubectl|token rotate`."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence

from lab.standin.k3s import VERSION


def main(arguments: Sequence[str]) -> int:
    """Do what the first word says; the parts are imported only then, as each start costs time under emulation."""
    verb, *rest = arguments or ("--help",)
    if verb in {"--version", "-v"}:
        print(f"k3s version {VERSION} (a stand-in of the lab, not K3s)")
        return 0
    if verb == "kubectl":
        from lab.standin.k3s.kubectl import main as kubectl

        return kubectl(rest)
    if verb in {"server", "agent"}:
        return _run(verb)
    if verb == "token" and rest[:1] == ["rotate"]:
        return _rotate(rest[1:])
    if verb == "standin-serve":
        from lab.standin.k3s.files import serve

        serve(rest[0], rest[1], int(rest[2]))
        return 0
    print("this is a stand-in for K3s: server, agent, kubectl, token rotate, --version", file=sys.stderr)
    return 2


def _run(role: str) -> int:
    from lab.standin.k3s import agent
    from lab.standin.k3s.options import WrongOption, read_options
    from lab.standin.k3s.server import Server, password_of
    from lab.standin.k3s.wire import Refused

    try:
        options = read_options(role)
        if role == "server":
            Server(options).run(_ready)
        elif options.token_file:
            file = options.token_file
            agent.run(options, lambda: password_of(file.read_text()), _ready)
    except (WrongOption, Refused, OSError) as error:
        agent.say(str(error))
    return 1


def _rotate(arguments: Sequence[str]) -> int:
    """`k3s token rotate`: the old token may come from $K3S_TOKEN, a new one is made when none is given."""
    from lab.standin.k3s.kubectl import ask
    from lab.standin.k3s.wire import Refused, Silent

    given = dict(zip(arguments[::2], arguments[1::2], strict=True))
    old = given.get("--token") or os.environ.get("K3S_TOKEN", "")
    try:
        ask({"verb": "rotate", "old": old, "new": given.get("--new-token", "")})
    except (Refused, Silent) as error:
        print(error, file=sys.stderr)
        return 1
    print("Token rotated, restart k3s nodes with new token")
    return 0


def _ready() -> None:
    """Tell systemd that the start is done (sd_notify(3))."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.connect(f"\0{path[1:]}" if path.startswith("@") else path)
            notify.sendall(b"READY=1")
