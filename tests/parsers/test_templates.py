"""The rules that every template, its samples and its reader keep."""

from __future__ import annotations

import re

import pytest

from dockyard.parsing import TEMPLATES
from tests.parsers.readers import Reader, all_readers
from tests.parsers.samples import MACHINE_FORMS, SAMPLES, Sample

PROBES = {
    "backup_facts",
    "bounds",
    "dns_answers",
    "drbd_blocks",
    "drbd_drill",
    "drbd_facts",
    "k3s_facts",
    "drbd_line",
    "drbd_parted",
    "drbd_witness",
    "getent_names",
    "machine",
    "monitoring_facts",
    "ollama_facts",
    "wireguard_files",
    "wireguard_reach",
}
"""Templates for what our own probe scripts print; their tests stand beside the domain's."""

TOOLS = sorted(path.stem for path in TEMPLATES.glob("*.textfsm") if path.stem not in PROBES)
FOLDERS = sorted(path.name for path in SAMPLES.iterdir() if path.is_dir())
ENDINGS = {".txt", ".stderr", ".rc", ".facts.json", *MACHINE_FORMS}
STEM = re.compile(r"[a-z0-9-]+-[\d.]+[a-z0-9.-]*__[\w.+-]+__[\w-]+")


def template(name: str) -> str:
    return (TEMPLATES / f"{name}.textfsm").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", TOOLS)
def test_every_template_has_a_reader_and_samples(name: str) -> None:
    readers = [reader for reader in all_readers() if reader.template == name]
    assert len(readers) == 1
    assert readers[0].samples


@pytest.mark.parametrize("name", FOLDERS)
def test_every_folder_of_samples_has_a_reader(name: str) -> None:
    assert name in {reader.template for reader in all_readers()}


@pytest.mark.parametrize("name", sorted(path.stem for path in TEMPLATES.glob("*.textfsm")))
def test_every_value_of_a_template_is_used(name: str) -> None:
    text = template(name)
    values = re.findall(r"^Value (?:[\w,]+ )?([A-Z0-9_]+) \(", text, flags=re.MULTILINE)
    assert values
    assert {value for value in values if f"${{{value}}}" not in text} == set()


@pytest.mark.parametrize("reader", [pytest.param(reader, id=reader.template) for reader in all_readers()])
def test_every_file_among_the_samples_belongs_to_one_that_is_complete(reader: Reader) -> None:
    for path in (SAMPLES / reader.template).iterdir():
        stem, dot, ending = path.name.rpartition("__")[2].partition(".")
        stem = path.name.removesuffix(dot + ending)
        assert f".{ending}" in ENDINGS, path
        assert STEM.fullmatch(stem), path
        sample = Sample(path.with_name(f"{stem}.txt"))
        assert sample.path.exists(), path
        assert sample.facts is not None, f"{sample} has no .facts.json"
