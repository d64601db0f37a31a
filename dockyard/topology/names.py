"""What a name, an address or an interface may look like, and which of them are examples out of documentation.

Each check takes a text and raises ValueError with the reason when it does not fit.
"""

from __future__ import annotations

import base64
import re
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
# wg-quick(8) takes nothing else as an interface's name; the kernel's IFNAMSIZ leaves 15 characters.
_INTERFACE = re.compile(r"[a-zA-Z0-9_=+.-]{1,15}")
_PATH = re.compile(r"(/[A-Za-z0-9_.+:@-]+)+")
_SYSTEM_FOLDERS = {"bin", "boot", "dev", "etc", "lib", "lib64", "proc", "run", "sbin", "sys", "tmp", "usr"}
_RESOURCE = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_LOGIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_MAIL = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9.-]{1,253}")
_MAIL_LOGIN = re.compile(r"[A-Za-z0-9._%+@-]{1,128}")
_HOST_KEY = re.compile(r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/]{60,}={0,2}")
_TIME = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
_UNIT = re.compile(r"[A-Za-z0-9:_.@-]{1,200}\.(service|target|socket|timer)")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(\*|[A-Za-z0-9.-]+)(:[0-9]{1,5})?")
_K3S_VERSION = re.compile(r"v1\.[0-9]{1,3}\.[0-9]{1,3}(-[a-z0-9.]+)?\+[a-z0-9-]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# github.com/distribution/reference: [domain/]path[:tag][@digest]; a tag or a digest is wanted here.
_IMAGE = re.compile(r"[a-z0-9][a-z0-9.:/_-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}|@sha256:[0-9a-f]{64})")
_EXAMPLE_NAME = re.compile(r"(^|\.)example(\.(com|net|org))?$|change-?me", re.IGNORECASE)
# RFC 5737 and RFC 3849: networks that only documentation may use.
_EXAMPLE_NETWORKS = tuple(
    map(ip_network, ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")),
)


# RFC 1918, 6598 (carriers' NAT), 4193, 3927, 4291. Not `is_private`: it also has networks that documentation uses.
_PRIVATE_NETWORKS = (
    *map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16")),
    *map(ip_network, ("127.0.0.0/8", "fc00::/7", "fe80::/10", "::1/128")),
)
# RFC 2606, 6761, 6762 and 8375, ICANN's .internal, and what routers call their LAN: no public DNS has them.
_PRIVATE_NAMES = re.compile(
    r"(^[^.]+|\.(test|invalid|localhost|local|internal|home\.arpa|lan|home|intranet|corp))$", re.IGNORECASE
)


def dns_label(text: str) -> None:
    """One label of a DNS name (RFC 1123, section 2.1), in lower case as Kubernetes wants node names."""
    if not _LABEL.fullmatch(text):
        raise ValueError(f"{text!r} is not a DNS label: 1 to 63 of a-z, 0-9 and '-', with no '-' at the ends")


def dns_name(text: str) -> None:
    """Labels with dots between them, 253 characters at the most (RFC 1035, section 2.3.4)."""
    labels = text.lower().split(".")
    if len(text) > 253 or not all(_LABEL.fullmatch(label) for label in labels) or labels[-1].isdecimal():
        raise ValueError(f"{text!r} is neither a DNS name nor an IP address")


def address_of(text: str) -> IPv4Address | IPv6Address | None:
    """The IP address that ``text`` is, or None for a name."""
    try:
        return ip_address(text)
    except ValueError:
        return None


def canonical(text: str) -> str:
    """An address as the kernel prints it (RFC 5952); a name as it is."""
    address = address_of(text)
    return text if address is None else str(address)


def name_or_address(text: str) -> None:
    """Something that a resolver or a socket takes."""
    if address_of(text) is None:
        dns_name(text)


def split_endpoint(text: str, default_port: int) -> tuple[str, int]:
    """Host (`canonical`, no brackets) and port of ``host``, ``host:port``, ``[v6]:port`` or a bare IPv6 address."""
    if isinstance(address_of(text), IPv6Address):
        return canonical(text), default_port
    host, colon, port = text.rpartition(":") if re.search(r":[^]]*$", text) else (text, "", "")
    if colon and not (port.isascii() and port.isdecimal() and 1 <= int(port) <= 65535):
        raise ValueError(f"{text!r}: the port is not a number from 1 to 65535")
    bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if bracketed else host
    if bracketed != isinstance(address_of(bare), IPv6Address):
        raise ValueError(f"{text!r} is no endpoint: write name:port, 192.168.1.2:port or [fd00::2]:port")
    name_or_address(bare)
    return canonical(bare), int(port) if colon else default_port


def endpoint(text: str) -> None:
    """A public name or address, with or without a port."""
    split_endpoint(text, 1)


def smarthost(text: str) -> None:
    """A mail server as Alertmanager takes it: with its port."""
    if not split_endpoint(text, 0)[1]:
        raise ValueError(f"{text!r} names no port: write name:587")


def interface(text: str) -> None:
    """A name that both wg-quick(8) and the kernel take for an interface."""
    if not _INTERFACE.fullmatch(text) or text in {".", ".."}:
        raise ValueError(f"{text!r} is no interface name: 1 to 15 of a-z, A-Z, 0-9 and _=+.-")


def public_key(text: str) -> None:
    """32 bytes in base64, as ``wg pubkey`` prints them; wg(8) refuses bits in the last letter that mean nothing."""
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:
        key = b""
    if len(key) != 32 or base64.b64encode(key).decode() != text:
        raise ValueError(f"{text!r} is no public key of WireGuard: 44 letters as wg pubkey prints them")


def path(text: str) -> None:
    """A full path without the characters that configuration files and shells would read differently."""
    if not _PATH.fullmatch(text) or "//" in text or {".", ".."} & set(text.split("/")) or text.endswith("/"):
        raise ValueError(f"{text!r} is not a full path of letters, digits and _.+:@- such as /dev/vdb")


def mount_point(text: str) -> None:
    """A folder of its own, at least two levels deep: nothing that the system itself lives in."""
    path(text)
    if text.count("/") < 2 or text.split("/")[1] in _SYSTEM_FOLDERS:
        raise ValueError(f"{text!r} cannot be the mount point: take a folder of its own such as /srv/data")


def resource(text: str) -> None:
    """A name that drbdadm(8) takes for a resource; ``all`` has a meaning of its own there."""
    if not _RESOURCE.fullmatch(text) or text == "all":
        raise ValueError(f"{text!r} is no name for a DRBD resource: 1 to 32 of a-z, 0-9, _ and -, not 'all'")


def unit(text: str) -> None:
    """A unit of systemd(1) that can be stopped and started: a service, a target, a socket or a timer."""
    if not _UNIT.fullmatch(text):
        raise ValueError(f"{text!r} is no unit name such as k3s-agent.service")


def login(text: str) -> None:
    """A user's name, as ssh(1) and a URL take it without quotes."""
    if not _LOGIN.fullmatch(text):
        raise ValueError(f"{text!r} is no login name: up to 32 of letters, digits, _ . and -")


def mail_address(text: str) -> None:
    """One address as a mail server takes it, without a name before it."""
    if not _MAIL.fullmatch(text):
        raise ValueError(f"{text!r} is no mail address such as me@mail.lan")


def mail_login(text: str) -> None:
    """A user of a mail server, often its address."""
    if not _MAIL_LOGIN.fullmatch(text):
        raise ValueError(f"{text!r} is no login of a mail server: letters, digits, . _ % + - and @")


def host_key(text: str) -> None:
    """Type and key as ``ssh-keyscan`` prints them after the name, in one line."""
    if not _HOST_KEY.fullmatch(text):
        raise ValueError(f"{text!r} is no host key such as 'ssh-ed25519 AAAA...' (not a fingerprint)")


def time_of_day(text: str) -> None:
    """Hours and minutes, in the time zone of the host."""
    if not _TIME.fullmatch(text):
        raise ValueError(f"{text!r} is no time of day such as '02:30' (in quotes)")


def rest_url(text: str) -> None:
    """Where a REST server of restic answers; a password in it would be a secret in the inventory."""
    parts = urlsplit(text)
    if "@" in parts.netloc:
        raise ValueError("no user and no password in the URL: see `user:` and docs/backup.md")
    if parts.scheme not in {"http", "https"} or not parts.hostname or set(text) & set(" '\"\\$`%"):
        raise ValueError(f"{text!r} is no URL such as https://nas.lan:8000/homelab/")
    name_or_address(parts.hostname)


def origin(text: str) -> None:
    """Scheme and host of a web page, as a browser sends them in ``Origin``, without a path (RFC 6454, section 6.2)."""
    if not _ORIGIN.fullmatch(text):
        raise ValueError(f"{text!r} is no origin such as https://chat.dock.internal")
    if "*" in text:
        raise ValueError(f"{text!r} lets every web page in; name the pages that may")


def reason(text: str) -> None:
    """One line that says why, for who reads it in a year."""
    if len(text.strip()) < 3 or not text.isprintable():
        raise ValueError(f"{text!r} does not say why, in one line")


def k3s_version(text: str) -> None:
    """A release of K3s, with its own part after the plus sign."""
    if not _K3S_VERSION.fullmatch(text):
        raise ValueError(f"{text!r} is no release of K3s such as v1.33.5+k3s1")


def sha256(text: str) -> None:
    """A checksum as sha256sum(1) prints it."""
    if not _SHA256.fullmatch(text):
        raise ValueError(f"{text!r} is no SHA-256 checksum: 64 of 0-9 and a-f")


def image(text: str) -> None:
    """A container image that stays the same: with a tag that is not ``latest``, or with a digest."""
    if not _IMAGE.fullmatch(text) or text.endswith(":latest"):
        raise ValueError(f"{text!r} is no pinned image such as docker.io/opencloudeu/opencloud-rolling:8.0.1")


def quantity(mib: int) -> str:
    """Mebibytes in the form that Kubernetes itself gives back: the largest unit that leaves a whole number."""
    for unit in ("Mi", "Gi", "Ti"):
        if unit == "Ti" or mib % 1024:
            return f"{mib}{unit}"
        mib //= 1024
    raise AssertionError("Ti is the last unit")


def is_example(text: str) -> bool:
    """Whether ``text`` (a name, an address or an endpoint) is one that only documentation uses."""
    try:
        host, _ = split_endpoint(text, 1)
    except ValueError:
        host = text
    address = address_of(host)
    if address is None:
        return bool(_EXAMPLE_NAME.search(host))
    return any(address in network for network in _EXAMPLE_NETWORKS)


def is_private(text: str) -> bool:
    """Whether ``text`` is an address that the internet does not carry."""
    address = address_of(text)
    return address is not None and any(address in network for network in _PRIVATE_NETWORKS)


def is_public(text: str) -> bool:
    """Whether ``text`` is an address or a name for the whole internet, as far as one can see; an example is none."""
    if not text or is_example(text):
        return False
    return not (_PRIVATE_NAMES.search(text) if address_of(text) is None else is_private(text))
