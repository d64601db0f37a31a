"""What the lab's own Prometheus knows, asked on the host that runs it."""

from __future__ import annotations

import json
import shlex
import time
from typing import Any

from lab import Lab
from tests.lab.conftest import HOSTS

PROMETHEUS = "http://10.20.0.1:9090/api/v1"


def ask(lab: Lab, what: str, **parameters: str) -> Any:
    """The data that Prometheus answers."""
    words = " ".join(f"--data-urlencode {shlex.quote(f'{key}={value}')}" for key, value in parameters.items())
    answer = json.loads(lab["dock-dash"].succeed(f"curl -sS --max-time 60 {words} {PROMETHEUS}/{what}", timeout_s=90))
    assert answer["status"] == "success", answer
    return answer["data"]


def wait_until_all_are_scraped(lab: Lab) -> None:
    """After a way back what Prometheus knows is as old as the checkpoint, so that rules over minutes see nothing."""
    deadline = time.monotonic() + 180
    while len(ask(lab, "query", query='up{job="node"} == 1')["result"]) < len(HOSTS):
        assert time.monotonic() < deadline, ask(lab, "query", query="up")
        time.sleep(2)


def wait_until_quiet(lab: Lab) -> None:
    """Every host has told anew how it is, and for a minute nothing but the sign of life fired or was about to."""
    for host in HOSTS:
        lab[host].succeed("systemctl start dockyard-metrics.service", sudo=True)
    wait_until_all_are_scraped(lab)
    deadline, since = time.monotonic() + 400, time.monotonic()
    while time.monotonic() - since < 60:
        alerts = ask(lab, "alerts")["alerts"]
        if {alert["labels"]["alertname"] for alert in alerts} != {"Watchdog"}:
            since = time.monotonic()
            assert since < deadline, alerts
        time.sleep(2)
