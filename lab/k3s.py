"""The `k3s` that phase 1 finds: the stand-in packed into one program, or a real binary that was given.

It lies in the lab's cache folder with its checksum beside it, where `lab/inventory` looks for it.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

from lab.errors import LabError
from lab.standin.k3s import VERSION

STANDIN = Path(__file__).parent / "standin" / "k3s"
_ELF = b"\x7fELF"
_START = "#!/usr/bin/python3\n"
_MAIN = "import sys\nfrom lab.standin.k3s.cli import main\nsys.exit(main(sys.argv[1:]))\n"
_MOMENT = (2020, 1, 1, 0, 0, 0)


def standin(version: str = VERSION) -> bytes:
    """The stand-in as one program; the same sources and ``version`` give the same bytes."""
    files = {"__main__.py": _MAIN, "lab/__init__.py": "", "lab/standin/__init__.py": ""}
    for path in sorted(STANDIN.glob("*.py")):
        files[f"lab/standin/k3s/{path.name}"] = path.read_text(encoding="utf-8")
    marked = files["lab/standin/k3s/__init__.py"]
    files["lab/standin/k3s/__init__.py"] = marked.replace(f'"{VERSION}"', f'"{version}"')
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name, _MOMENT), text, zipfile.ZIP_DEFLATED)
    return _START.encode() + buffer.getvalue()


def provide(path: Path, given: Path | None = None) -> None:
    """Put the binary to ``path`` and its checksum to ``path.sha256``, both whole at any moment.

    Raises:
        LabError: ``given`` cannot be read, or is no program.
    """
    content = _read(given) if given else standin()
    checksum = f"{hashlib.sha256(content).hexdigest()}  {path.name}\n"
    for target, data, mode in (
        (path, content, 0o755),
        (path.with_name(f"{path.name}.sha256"), checksum.encode(), 0o644),
    ):
        if target.exists() and target.read_bytes() == data:
            continue
        new = target.with_name(f"{target.name}.new")
        new.write_bytes(data)
        new.chmod(mode)
        new.replace(target)


def ensure(path: Path) -> None:
    """Let there be a binary: today's stand-in, unless a real one was given."""
    if not is_real(path):
        provide(path)


def is_real(path: Path) -> bool:
    """Whether a real binary lies there, and not the stand-in."""
    try:
        with path.open("rb") as file:
            return file.read(4) == _ELF
    except FileNotFoundError:
        return False


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise LabError(f"the binary of K3s cannot be read: {error}") from error
    if not content.startswith(_ELF):
        raise LabError(f"{path} is no program", advice="it needs the file `k3s` of a release for amd64")
    return content
