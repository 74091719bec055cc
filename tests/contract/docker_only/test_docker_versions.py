# SPDX-License-Identifier: MIT
"""The version of its interface that is spoken with an engine, and what is said where there is none."""

from __future__ import annotations

from typing import Any

import pytest

from operatord.engines.base import EngineUnavailable
from operatord.engines.docker_host.versions import NEWEST, OLDEST, negotiate, refused


@pytest.mark.parametrize(
    ("oldest", "newest", "spoken"),
    [
        ("1.12", "1.41", "1.41"),  # Docker 20.10
        ("1.24", "1.45", "1.45"),  # Docker 26.1
        ("1.44", "1.52", NEWEST),  # Docker 29
        ("1.24", "1.41", "1.41"),  # Podman
        (NEWEST, "2.0", NEWEST),
        ("1.9", OLDEST, OLDEST),
        (None, "1.43", "1.43"),
    ],
)
def test_newest_that_both_know_is_spoken(oldest: str | None, newest: str, spoken: str) -> None:
    """E8"""
    assert negotiate({"MinAPIVersion": oldest, "ApiVersion": newest}) == spoken


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            {"Version": "19.03.15", "MinAPIVersion": "1.12", "ApiVersion": "1.40"},
            f"(version 19.03.15) is too old: it speaks Docker's API up to version 1.40, and "
            f"operatord speaks it from {OLDEST} (Docker 20.10) on",
        ),
        (
            {"Version": "40.0", "MinAPIVersion": "1.90", "ApiVersion": "1.99"},
            f"(version 40.0) is too new: it speaks Docker's API from version 1.90 on, and "
            f"operatord speaks it up to {NEWEST}",
        ),
        ({"message": "hello"}, "is not a container engine"),
        ({"ApiVersion": "latest"}, "is not a container engine"),
        ({"ApiVersion": 1.41}, "is not a container engine"),
    ],
)
def test_both_ends_are_named_where_there_is_none(answer: dict[str, Any], said: str) -> None:
    """E8"""
    with pytest.raises(EngineUnavailable) as caught:
        negotiate(answer)
    assert said in str(caught.value)


def test_engine_that_was_replaced_by_a_newer_one_is_asked_anew() -> None:
    """E8: as Engine 29 says it."""
    error = refused(
        "client version 1.41 is too old. Minimum supported API version is 1.44, please upgrade your client "
        "to a newer version"
    )
    assert "no longer speaks version 1.41 of Docker's API" in str(error)
    assert "it needs 1.44" in str(error)
    assert refused("client sent an HTTP request to an HTTPS server") is None
