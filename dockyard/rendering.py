"""Texts from ``templates/config/*.j2`` and ``templates/document/*.j2``, through nornir-jinja2, offline.

Plans must be pure, so rendering opens no connection: nornir-jinja2's task runs against a host that has only a name.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dockyard.errors import RenderError

if TYPE_CHECKING:
    from jinja2 import Environment
    from nornir.core.task import Task

TEMPLATES = Path(__file__).parent.parent / "templates"


def render(template: str, **values: Any) -> str:
    """The text of ``templates/config/<template>.j2``, with a final newline.

    Raises:
        RenderError: no such template, a mistake in it, or a value that it needs and nobody gave.
    """
    return _render("config", template, values)


def render_document(template: str, **values: Any) -> str:
    """The same from ``templates/document``."""
    return _render("document", template, values)


def _render(folder: str, template: str, values: Mapping[str, Any]) -> str:
    from jinja2 import TemplateError
    from nornir_jinja2.plugins.tasks import template_file

    try:
        result = template_file(_offline_task(), template=f"{template}.j2", jinja_env=_environment(folder), **values)
    except TemplateError as error:
        raise RenderError(f"templates/{folder}/{template}.j2: {type(error).__name__}: {error}") from error
    return str(result.result)


@functools.cache
def _environment(folder: str) -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(TEMPLATES / folder),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - configuration files and Markdown; HTML is made by dockyard/web_page.py
    )


@functools.cache
def _offline_task() -> Task:
    from nornir.core import Nornir
    from nornir.core.inventory import Host, Hosts, Inventory
    from nornir.core.processor import Processors
    from nornir.core.task import Task
    from nornir_jinja2.plugins.tasks import template_file

    task = Task(template_file, Nornir(inventory=Inventory(hosts=Hosts())), True, Processors())
    task.host = Host(name="offline")
    return task
