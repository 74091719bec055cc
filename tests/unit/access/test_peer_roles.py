# SPDX-License-Identifier: MIT
"""Which role the groups of this machine give to who is in several of them."""

from __future__ import annotations

import grp
import pwd
from pathlib import Path

import pytest

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
