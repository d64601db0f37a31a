"""The inventory's three YAML files, read as Nornir's SimpleInventory does, every mistake said by file and line.

SimpleInventory itself ends in a KeyError, AttributeError or RecursionError when a file is not what it expects.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nornir.core import inventory as nornir
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from dockyard.errors import InventoryError, Problem
from dockyard.topology.reading import examine, read_topology
from dockyard.topology.shape import Found, Reader

PROJECT = Path(__file__).parents[2]
FILES = {"hosts": "hosts.yaml", "groups": "groups.yaml", "defaults": "defaults.yaml"}
_CONNECTION = ("hostname", "port", "username", "platform")
_KEYS = {
    "hosts": (*_CONNECTION, "groups", "data", "connection_options"),
    "groups": (*_CONNECTION, "groups", "data", "connection_options"),
    "defaults": (*_CONNECTION, "data", "connection_options"),
}


def folder_of(name: str | None = None) -> Path:
    """The folder that ``--inventory`` means: ``lab`` or a path; None: $DOCKYARD_INVENTORY, else the project's own."""
    wanted = name or os.environ.get("DOCKYARD_INVENTORY")
    if not wanted:
        return PROJECT / "inventory"
    return PROJECT / "lab" / "inventory" if wanted == "lab" else Path(wanted).expanduser()


def load_inventory(folder: Path) -> nornir.Inventory:
    """Read ``hosts.yaml``, ``groups.yaml`` and ``defaults.yaml`` in ``folder`` into Nornir's inventory.

    Raises:
        InventoryError: the files cannot be read or do not have the shape that Nornir needs. Whatever else is wrong
            with the cluster is then reported along with it.
    """
    reader = Reader()
    tops = {kind: _file(reader, folder / name) for kind, name in FILES.items()}
    inventory = _Builder(reader, tops).inventory()
    if not reader.problems:
        return inventory
    raise InventoryError(
        [*reader.problems, *_more(inventory, tops, reader.problems)], advice=f"The files are in {folder.resolve()}"
    )


@dataclass(frozen=True, slots=True)
class FolderInventory:
    """Nornir inventory plugin ``dockyard``, for ``InitNornir``, too; its option is ``folder``."""

    folder: str

    def load(self) -> nornir.Inventory:
        """The checked inventory, with the typed cluster in ``defaults.data["topology"]``. Called by Nornir.

        Raises:
            InventoryError: with every mistake that there is.
        """
        inventory = load_inventory(Path(self.folder))
        inventory.defaults.data["topology"] = read_topology(inventory)
        return inventory


def _more(inventory: nornir.Inventory, tops: Mapping[str, Any], known: list[Problem]) -> list[Problem]:
    """Problems of the cluster itself, without those that only follow from a file or a part that could not be read."""
    if None in tops.values():
        return []
    broken = {problem.path.partition("[")[0] for problem in known}
    orphans = {path.removesuffix(".groups") + ".site" for path in broken if path.endswith(".groups")}
    return [problem for problem in examine(inventory)[1] if problem.path not in orphans | broken]


def _file(reader: Reader, path: Path) -> Mapping[Any, Any] | None:
    """The mapping in a YAML file; None, and a problem, when there is none."""
    try:
        text = path.read_text(encoding="utf-8")
        content = YAML(typ="safe").load(text)
    except OSError as error:
        return _unreadable(reader, str(path), f"cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        return _unreadable(reader, str(path), f"is not UTF-8: {error.reason} at byte {error.start}")
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        return _unreadable(reader, f"{path}:{mark.line + 1 if mark else 1}", _first_line(error.problem or str(error)))
    except (YAMLError, ValueError, RecursionError, TypeError, AttributeError, LookupError) as error:
        return _unreadable(reader, str(path), f"is not YAML that can be read: {_first_line(str(error))}")
    if content is None or isinstance(content, Mapping):
        return content or {}
    return _unreadable(reader, f"{path}:{_first_content(text)}", "expected a mapping (key: value) at the top level")


def _unreadable(reader: Reader, path: str, message: str) -> Mapping[Any, Any] | None:
    reader.report(path, message)
    return None


def _first_line(message: str) -> str:
    return message.strip().partition("\n")[0] or "unknown mistake"


def _first_content(text: str) -> int:
    """Number of the first line that is neither empty nor a comment nor a document marker."""
    lines = enumerate(text.splitlines(), 1)
    return next((number for number, line in lines if line.strip() and not line.lstrip().startswith(("#", "---"))), 1)


@dataclass(frozen=True, slots=True)
class _Builder:
    """Makes Nornir's objects out of what the files hold, leaving out (and reporting) what does not fit."""

    reader: Reader
    tops: Mapping[str, Mapping[Any, Any] | None]

    def inventory(self) -> nornir.Inventory:
        defaults = nornir.Defaults(**self._element("defaults", "defaults", self.tops["defaults"]))
        groups = nornir.Groups(
            {name: nornir.Group(name, defaults=defaults, **parts) for name, parts in self._elements("groups").items()}
        )
        hosts = nornir.Hosts(
            {name: nornir.Host(name, defaults=defaults, **parts) for name, parts in self._elements("hosts").items()}
        )
        for kind, elements in (("groups", groups), ("hosts", hosts)):
            for name, element in elements.items():
                element.groups = self._parents(f"{kind}.{name}", element.groups, groups)
        self._break_circles(groups)
        return nornir.Inventory(hosts=hosts, groups=groups, defaults=defaults)

    def _elements(self, kind: str) -> dict[str, dict[str, Any]]:
        named: dict[str, dict[str, Any]] = {}
        for name, content in (self.tops[kind] or {}).items():
            if isinstance(name, str) and name:
                named[name] = self._element(kind, f"{kind}.{name}", content)
            else:
                self.reader.report(f"{kind}.{name}", "a name must be text; put it into quotes")
        return named

    def _element(self, kind: str, path: str, content: object) -> dict[str, Any]:
        """Arguments of a Host, Group or Defaults."""
        values = dict(self.reader.mapping(Found(path, content)) or {})
        if values.pop("password", None) is not None:
            self.reader.report(f"{path}.password", "no passwords here: use an ssh key, and ssh.sudo_password_file")
        self.reader.unknown(path, values, _KEYS[kind])
        parts: dict[str, Any] = {key: values[key] for key in _CONNECTION if key in values}
        parts["data"] = dict(self.reader.mapping(Found(f"{path}.data", values.get("data"))) or {})
        parts["connection_options"] = self._options(f"{path}.connection_options", values.get("connection_options"))
        return parts | ({"groups": values.get("groups")} if kind != "defaults" else {})

    def _options(self, path: str, content: object) -> dict[str, nornir.ConnectionOptions]:
        options: dict[str, nornir.ConnectionOptions] = {}
        for name, given in (self.reader.mapping(Found(path, content)) or {}).items():
            values = self.reader.mapping(Found(f"{path}.{name}", given)) or {}
            known = (*_CONNECTION, "extras")
            self.reader.unknown(f"{path}.{name}", values, known)
            options[str(name)] = nornir.ConnectionOptions(**{key: values[key] for key in known if key in values})
        return options

    def _parents(self, path: str, given: object, groups: nornir.Groups) -> nornir.ParentGroups:
        parents = nornir.ParentGroups()
        if given and not isinstance(given, list):
            self.reader.report(f"{path}.groups", "expected a list of groups, such as [home]")
        for name in given if isinstance(given, list) else ():
            if isinstance(name, str) and name in groups:
                parents.add(groups[name])
            else:
                known = ", ".join(groups) or "none"
                self.reader.report(f"{path}.groups", f"there is no group {name!r} in groups.yaml (there: {known})")
        return parents

    def _break_circles(self, groups: nornir.Groups) -> None:
        """Nornir would follow a group that contains itself for ever."""
        for name, group in groups.items():
            if _contains(group, group, set()):
                self.reader.report(f"groups.{name}.groups", "the group is a member of itself")
                group.groups = nornir.ParentGroups()


def _contains(group: nornir.Group, wanted: nornir.Group, seen: set[str]) -> bool:
    for parent in group.groups:
        if parent is wanted:
            return True
        if parent.name not in seen:
            seen.add(parent.name)
            if _contains(parent, wanted, seen):
                return True
    return False
