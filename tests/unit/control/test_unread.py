# SPDX-License-Identifier: MIT
"""Of those who do not read, the worst go first, and no more of them than have to."""

from __future__ import annotations

import asyncio

import pytest

from operatord.control.wire.unread import AT_ONCE, LEAST, Unread


class Peer:
    """A way out that really has so many bytes that were not read."""

    def __init__(self, unread: int) -> None:
        self.unread = unread
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


def noted(unread: Unread, *sizes: int) -> list[Peer]:
    """Return peers that all have so much that they have not read."""
    peers = [Peer(size) for size in sizes]
    for peer in peers:
        unread.note(peer, peer.unread)
    return peers


async def test_the_worst_reader_goes_and_nobody_else_if_that_is_enough() -> None:
    """A5"""
    small, large, late = noted(Unread(lambda: 100), 30, 60, 20)
    assert (small.aborted, large.aborted, late.aborted) == (False, True, False)


async def test_so_many_go_that_it_is_not_done_again_at_once() -> None:
    """A5: each of them costs a look at all others."""
    peers = noted(Unread(lambda: 100), *[10] * 11)
    assert sum(peer.aborted for peer in peers) == 4


def test_who_has_read_meanwhile_stays() -> None:
    """A5: peers read without a word, so that what was noted is more than what there is."""
    unread = Unread(lambda: 100)
    [reader] = noted(unread, 90)
    reader.unread = 0
    others = noted(unread, 30, 30)
    assert not any(peer.aborted for peer in (reader, *others))


def test_what_one_had_who_has_gone_counts_no_more() -> None:
    """A5: nor does what was read, or is noted anew."""
    unread = Unread(lambda: 100)
    [gone] = noted(unread, 90)
    unread.forget(gone)
    unread.forget(gone)
    [reader] = noted(unread, 90)
    unread.note(reader, 0)
    [other] = noted(unread, 90)
    unread.note(other, 95)
    assert not any(peer.aborted for peer in (gone, reader, other))


async def test_of_hundreds_who_do_not_read_a_few_go_until_the_loop_has_its_turn() -> None:
    """A5: each end takes a while, and all of them in one moment would hold up everybody."""
    unread = Unread(lambda: 1000)
    peers = noted(unread, *[10] * 101)
    gone = sum(peer.aborted for peer in peers)
    assert gone == AT_ONCE // LEAST
    reader = next(peer for peer in peers if not peer.aborted)
    unread.note(reader, 9)  # which is no reason to begin once more
    while gone < 26:
        await asyncio.sleep(0)
        before, gone = gone, sum(peer.aborted for peer in peers)
        assert 0 < gone - before <= AT_ONCE // LEAST
    for _ in range(3):
        await asyncio.sleep(0)
    assert sum(peer.aborted for peer in peers) == gone


async def test_of_those_who_have_megabytes_so_many_go_at_once_that_others_cannot_be_sent_as_much() -> (
    None
):
    mebibyte = 1024**2
    peers = noted(Unread(lambda: 100 * mebibyte), *[mebibyte] * 101)
    assert sum(peer.aborted for peer in peers) == AT_ONCE // mebibyte


async def test_those_who_fill_up_while_others_are_let_go_of_are_seen_though_they_say_no_more() -> (
    None
):
    """A5: with their own bound reached, nothing is written to them, and so nothing is noted."""
    unread = Unread(lambda: 1000)
    peers = noted(unread, *[10] * 101) + noted(unread, *[10] * 300)
    for _ in range(200):
        await asyncio.sleep(0)
    assert sum(peer.unread for peer in peers if not peer.aborted) == 750


async def test_those_who_go_one_after_the_other_are_one_line_in_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A5: thirty who do not read had to go in eleven turns within 80 ms."""
    told = asyncio.Event()
    tell = Unread._tell

    def note(unread: Unread) -> None:
        tell(unread)
        told.set()

    monkeypatch.setattr(Unread, "_tell", note)
    monkeypatch.setattr("operatord.control.wire.unread.TOLD_AFTER", 0.02)
    unread = Unread(lambda: 100)
    first = [noted(unread, 60, 60), noted(unread, 60)]
    await told.wait()
    told.clear()
    then = noted(unread, 120)
    await told.wait()
    gone = sum(peer.aborted for peers in first for peer in peers)
    assert gone == 2
    assert then[0].aborted
    said = [record.getMessage().partition(":")[0] for record in caplog.records]
    assert said == ["2 connections are ended", "1 connections are ended"]


async def test_who_has_gone_by_itself_is_not_ended_once_more() -> None:
    """A5: some go while others are let go of."""
    unread = Unread(lambda: 1000)
    peers = noted(unread, *[10] * 101)
    by_itself = [peer for peer in peers if not peer.aborted][-4:]
    for peer in by_itself:
        unread.forget(peer)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not any(peer.aborted for peer in by_itself)
    assert sum(peer.aborted for peer in peers) == 26 - 4
