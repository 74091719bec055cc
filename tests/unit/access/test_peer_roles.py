# SPDX-License-Identifier: MIT
"""Which role the groups of this machine give to who is in several of them."""

from __future__ import annotations

import grp
import pwd
from pathlib import Path

import pytest

from operatord.access.identity import identity
from operatord.settings.config import Config
from operatord.settings.credentials import load
from operatord.settings.listeners import Auth, PeerRoles
from operatord_protocol.messages import Role

MEMBER = next(
    each for each in pwd.getpwall() if each.pw_uid not in (0, Path("/proc/self").stat().st_uid)
)
NUMBERS = {"admins": 900001, "staff": 900002}


@pytest.mark.parametrize("order", [("admins", "staff"), ("staff", "admins")])
def test_highest_role_of_several_groups_holds(
    monkeypatch: pytest.MonkeyPatch, order: tuple[str, str]
) -> None:
    def group(name: str) -> grp.struct_group:
        return grp.struct_group((name, "x", NUMBERS[name], [MEMBER.pw_name]))

    monkeypatch.setattr(grp, "getgrnam", group)
    roles: dict[str, Role] = {"admins": "operator", "staff": "viewer"}
    groups = {name: roles[name] for name in order}
    peers = load(Config(auth=Auth(peers=PeerRoles(groups=groups)))).peers
    assert peers.who(MEMBER.pw_uid, MEMBER.pw_gid).role == "operator"


@pytest.mark.parametrize(("listed", "primary"), [("staff", "admins"), ("admins", "staff")])
def test_primary_group_counts_among_them(
    monkeypatch: pytest.MonkeyPatch, listed: str, primary: str
) -> None:
    """A group does not list those whose primary group it is: a process runs in that."""

    def group(name: str) -> grp.struct_group:
        return grp.struct_group(
            (name, "x", NUMBERS[name], [MEMBER.pw_name] if name == listed else [])
        )

    monkeypatch.setattr(grp, "getgrnam", group)
    roles: dict[str, Role] = {"admins": "operator", "staff": "viewer"}
    own = PeerRoles(groups=roles)
    peers = load(Config(auth=Auth(peers=own))).peers
    assert peers.who(MEMBER.pw_uid, NUMBERS[primary]) == identity(MEMBER.pw_name, "operator")
    own = PeerRoles(groups=roles, users={MEMBER.pw_name: "viewer"})
    peers = load(Config(auth=Auth(peers=own))).peers
    assert peers.who(MEMBER.pw_uid, NUMBERS[primary]).role == "viewer", "one's own comes first"
