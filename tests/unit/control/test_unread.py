# SPDX-License-Identifier: MIT
"""Of those who do not read, the worst go first, and no more of them than have to."""

from __future__ import annotations

from operatord.control.unread import Unread


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


def test_the_worst_reader_goes_and_nobody_else_if_that_is_enough() -> None:
    """A5"""
    small, large, late = noted(Unread(lambda: 100), 30, 60, 20)
    assert (small.aborted, large.aborted, late.aborted) == (False, True, False)


def test_so_many_go_that_it_is_not_done_again_at_once() -> None:
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
