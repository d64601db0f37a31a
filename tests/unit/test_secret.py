"""A secret does not show."""

from __future__ import annotations

import copy
import json
import pickle

import pytest

from dockyard.secret import Secret


def test_it_shows_only_when_asked() -> None:
    secret = Secret("p4ss")
    assert secret.reveal() == "p4ss"
    shown = [repr(secret), str(secret), f"{secret}", f"{secret:>12}", f"{secret!r}", "%s" % secret, str([secret])]  # noqa: UP031
    assert not any("p4ss" in text for text in shown)


def test_it_is_written_nowhere() -> None:
    for write in (pickle.dumps, copy.copy, json.dumps):
        with pytest.raises(TypeError):
            write(Secret("p4ss"))


def test_equal_values_are_equal_secrets() -> None:
    assert Secret("a") == Secret("a") != Secret("b")
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert Secret("a") != "a"


def test_an_empty_one_is_false() -> None:
    assert not Secret("")
    assert Secret("a")
