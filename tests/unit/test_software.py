"""What an engine says about itself names no folder of a user, and nothing else is taken for one."""

from __future__ import annotations

import pytest

from workers.engines.software import configuration

TOLD = {"model": "acme/small", "cache": "/home/zoe/.cache/hub"}


def test_a_home_folder_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/zoe")
    told = configuration(TOLD, replace={"hub": "H"})
    assert told == {"model": "acme/small", "cache": "~/.cache/H"}


@pytest.mark.parametrize("home", ["/", None])
def test_the_root_and_none_are_no_home_folder(
    home: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in containers: every slash of every text was taken for the home folder."""
    if home is None:
        monkeypatch.delenv("HOME", raising=False)
        monkeypatch.setattr("os.getuid", lambda: 54321)
    else:
        monkeypatch.setenv("HOME", home)
    assert configuration(TOLD, replace={}) == TOLD
