"""The image that all machines start from: Debian 13 packages, built once without root and without loop devices.

mmdebstrap unpacks the packages (in a user namespace when it is not run by root), `mke2fs -d` turns the folder into a
disk image. The image is keyed by a hash of everything that goes into it, so a changed package list makes a new one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError
from lab.initrd import DRIVERS, build_initrd, load_order
from lab.paths import LabPaths

SUITE = "trixie"
DEFAULT_MIRROR = "https://deb.debian.org/debian"
ROOT_DISK_MIB = 4096
NEEDED_FREE_MIB = 5000
ROOTFS = Path(__file__).parent / "rootfs"
_INPUTS = ("packages.txt", "customize.sh", "init", "make-disk.sh")
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


@dataclass(frozen=True, slots=True)
class Image:
    """A built image: ext4 root disk (raw), kernel and initrd."""

    key: str
    folder: Path

    @property
    def disk(self) -> Path:
        """Root file system, never written to by a machine."""
        return self.folder / "root.raw"

    @property
    def kernel(self) -> Path:
        """Kernel out of the image."""
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """The lab's own small initrd."""
        return self.folder / "initrd"


def image_key(inputs: dict[str, bytes]) -> str:
    """Return a hash over names and contents of what the image is made from."""
    digest = hashlib.sha256(f"{SUITE} {ROOT_DISK_MIB}".encode())
    for name in sorted(inputs):
        digest.update(f"\0{name}\0{len(inputs[name])}\0".encode() + inputs[name])
    return digest.hexdigest()[:16]


def package_names(listing: str) -> list[str]:
    """Package names in `packages.txt`: one a line, `#` starts a comment."""
    lines = (line.partition("#")[0].strip() for line in listing.splitlines())
    return [line for line in lines if line]


def debian_mirror(sources: str) -> str:
    """Return the Debian mirror that apt's own `sources` name, otherwise the default one."""
    for word in sources.replace("URIs:", " ").split():
        if (
            word.startswith(("http://deb.debian.org/debian", "https://deb.debian.org/debian"))
            and "security" not in word
        ):
            return word.rstrip("/")
    return DEFAULT_MIRROR


def current_image(paths: LabPaths) -> Image:
    """Return the image that today's inputs lead to, built or not."""
    inputs = {name: (ROOTFS / name).read_bytes() for name in _INPUTS}
    inputs["initrd"] = build_initrd(b"", b"", dict.fromkeys(DRIVERS, b""))
    inputs["mmdebstrap"] = "\0".join(_mmdebstrap(Path("root.tar"), mirror="")).encode()
    key = image_key(inputs)
    return Image(key, paths.images / key)


def ensure_image(paths: LabPaths, say: Callable[[str], None]) -> Image:
    """Return the image, building it first when there is none (one build at a time on this cache folder)."""
    image = current_image(paths)
    with _build_lock(paths, say):
        if not image.folder.exists():
            say(f"building the image {image.key} (once; takes two to four minutes) ...")
            _require_tools()
            paths.require_space(NEEDED_FREE_MIB, "building the image")
            _build(image)
        for old in paths.images.iterdir():
            if old.is_dir() and old != image.folder:
                shutil.rmtree(old, ignore_errors=True)
    return image


@contextmanager
def _build_lock(paths: LabPaths, say: Callable[[str], None]) -> Iterator[None]:
    with (paths.root / "build.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another process that is building the image ...")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _require_tools() -> None:
    packages = {"mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs", "tar": "tar", "unshare": "util-linux"}
    missing = [package for tool, package in packages.items() if not _which(tool)]
    if os.geteuid() != 0 and not _which("newuidmap"):
        missing.append("uidmap")
    if not _KEYRING.exists():
        missing.append("debian-archive-keyring")
    if missing:
        raise LabError(
            "building the image needs programs that are not installed",
            advice="sudo apt-get install " + " ".join(missing),
        )


def _which(tool: str) -> str | None:
    return shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def _build(image: Image) -> None:
    with tempfile.TemporaryDirectory(prefix="building-", dir=image.folder.parent) as name:
        work = Path(name)
        log = image.folder.parent / "build.log"
        log.unlink(missing_ok=True)
        _run(_mmdebstrap(work / "root.tar", mirror=debian_mirror(_apt_sources())), log)
        _run(_make_disk(work), log)
        result = work / "image"
        result.mkdir()
        (work / "root.raw").rename(result / "root.raw")
        (work / "vmlinuz").rename(result / "vmlinuz")
        (result / "initrd").write_bytes(_initrd(work))
        result.rename(image.folder)


def _mmdebstrap(target: Path, *, mirror: str) -> list[str]:
    packages = package_names((ROOTFS / "packages.txt").read_text())
    return [
        "mmdebstrap",
        "--mode=auto",
        "--variant=minbase",
        "--components=main",
        '--aptopt=Apt::Install-Recommends "false"',
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--include=" + ",".join(packages),
        "--customize-hook=" + (ROOTFS / "customize.sh").read_text(),
        SUITE,
        str(target),
        f"deb [signed-by={_KEYRING}] {mirror} {SUITE} main",
    ]


def _apt_sources() -> str:
    folder = Path("/etc/apt")
    files = [folder / "sources.list", *folder.glob("sources.list.d/*.list"), *folder.glob("sources.list.d/*.sources")]
    return "\n".join(file.read_text() for file in files if file.is_file())


def _make_disk(work: Path) -> list[str]:
    script = ["sh", "-eu", str(ROOTFS / "make-disk.sh"), str(work), f"{ROOT_DISK_MIB}M"]
    return script if os.geteuid() == 0 else ["unshare", "--map-root-user", "--map-auto", *script]


def _initrd(work: Path) -> bytes:
    modules = work / "boot" / "modules"
    order = load_order((modules / "modules.dep").read_text(), DRIVERS, (modules / "modules.builtin").read_text())
    return build_initrd(
        (ROOTFS / "init").read_bytes(),
        (work / "boot" / "busybox").read_bytes(),
        {path: (modules / path).read_bytes() for path in order},
    )


def _run(argv: list[str], log: Path) -> None:
    environment = os.environ | {"PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"}
    with log.open("ab") as out:
        result = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment, check=False)
    if result.returncode != 0:
        tail = "\n    ".join(log.read_text(errors="replace").splitlines()[-8:])
        raise LabError(
            f"building the image failed: {argv[0]} ended with {result.returncode}\n    {tail}",
            advice=f"the whole log is {log}",
        )
