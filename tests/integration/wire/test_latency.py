# SPDX-License-Identifier: MIT
"""What the kernel is asked for so that the daemon answers soon, and what it says of it afterwards."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from operatord.machine import latency
from operatord.machine.latency import SLICE, ask_for_short_slices

T = TypeVar("T")

GET = {"x86_64": 315, "aarch64": 275, "riscv64": 275}
KNOWS_SLICES = tuple(map(int, re.findall(r"\d+", platform.release())[:2])) >= (6, 12)
pytestmark = pytest.mark.skipif(
    platform.machine() not in GET, reason="the daemon asks for nothing on this processor"
)


def in_thread(work: Callable[[], T]) -> T:
    """Do it in a thread that ends with it, and return what it returns."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def attributes() -> tuple[int, int, int]:
    """Return the calling thread's policy, nice value and slice, as the kernel has them."""
    found = ctypes.create_string_buffer(48)
    assert ctypes.CDLL(None).syscall(GET[platform.machine()], 0, found, len(found), 0) == 0
    _, policy, _, nice, _, runtime, _, _ = struct.unpack("=IIQiIQQQ", found.raw)
    return policy, nice, runtime


def test_thread_gets_short_slices_and_those_that_it_starts_do_not() -> None:
    def work() -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        assert ask_for_short_slices()
        return attributes(), in_thread(attributes)

    usual = in_thread(attributes)
    mine, child = in_thread(work)
    assert mine == (*usual[:2], SLICE if KNOWS_SLICES else usual[2])
    assert child == usual


def test_lower_precedence_is_kept() -> None:
    def work() -> int:
        os.setpriority(os.PRIO_PROCESS, 0, 5)
        assert ask_for_short_slices()
        return attributes()[1]

    assert in_thread(work) == 5


def test_policy_that_somebody_chose_is_kept() -> None:
    def work() -> tuple[bool, int]:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        return ask_for_short_slices(), attributes()[0]

    assert in_thread(work) == (False, os.SCHED_BATCH)


def test_unknown_processor_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "_SET", {})
    assert not in_thread(ask_for_short_slices)
