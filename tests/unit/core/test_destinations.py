# SPDX-License-Identifier: MIT
"""Where registered probes may be, and where never."""

from __future__ import annotations

import pytest

from operatord.core.destinations import PRIVATE, Destinations, never, number, parse
from operatord.settings.config import Config, ConfigError
from operatord.settings.loading import from_dict

METADATA = [
    "169.254.169.254",
    "fe80::1",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fec0::1",
]
DISGUISED = [
    "::ffff:169.254.169.254",
    "::ffff:a9fe:a9fe",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "::ffff:0.0.0.0",
]
IPV4_WITHIN = [
    ("compatible", "::{hex}"),
    ("mapped", "::ffff:{hex}"),
    ("translated", "::ffff:0:{hex}"),
    ("NAT64", "64:ff9b::{hex}"),
    ("NAT64 of one's own, /48", "64:ff9b:1:{high}:{low_high}:{low_low}00::"),
    ("NAT64 of one's own, /56", "64:ff9b:1:00{first}:{second}:{low}::"),
    ("NAT64 of one's own, /64", "64:ff9b:1:0:{first}:{second}{third}:{fourth}00::"),
    ("NAT64 of one's own, /96", "64:ff9b:1::{hex}"),
    ("6to4", "2002:{hex}::1"),
    ("Teredo, its server", "2001:0:{hex}:0:0:fefd:fefd"),
    ("Teredo, its client", "2001:0:c000:201:0:0:{inverted}"),
    ("ISATAP", "2001:db8::5efe:{hex}"),
    ("ISATAP, unique", "2001:db8::200:5efe:{hex}"),
]
"""How an address of IPv6 says which of IPv4 is meant."""
NO_MACHINE = ["0.0.0.0", "0.1.2.3", "::", "224.0.0.1", "239.1.1.1", "255.255.255.255", "ff02::1"]
EVERYWHERE = Destinations([parse("0.0.0.0/0"), parse("::/0")])


def allows(entries: Destinations, address: str, port: int = 12345) -> bool:
    return entries.allows(number(address), port)


@pytest.mark.parametrize("address", METADATA + DISGUISED + NO_MACHINE)
def test_what_is_never_connected_to(address: str) -> None:
    assert not allows(EVERYWHERE, address)


def within(notation: str, ipv4: str) -> str:
    """Return an address of IPv6 that has one of IPv4 in it."""
    a, b, c, d = (f"{int(each):02x}" for each in ipv4.split("."))
    inverted = "".join(f"{255 - int(each):02x}" for each in ipv4.split("."))
    return notation.format(
        hex=f"{a}{b}:{c}{d}", high=f"{a}{b}", low=f"{c}{d}", low_high=c, low_low=d,
        first=a, second=b, third=c, fourth=d, inverted=f"{inverted[:4]}:{inverted[4:]}",
    )  # fmt: skip


@pytest.mark.parametrize(("name", "notation"), IPV4_WITHIN)
def test_link_local_ipv4_is_reached_in_no_notation_of_ipv6(name: str, notation: str) -> None:
    for ipv4 in ("169.254.169.254", "169.254.0.1", "224.0.0.1"):
        address = within(notation, ipv4)
        assert not EVERYWHERE.allows(number(address), 12345), (name, address)
        assert never(number(address)), (name, address)


@pytest.mark.parametrize(("name", "notation"), IPV4_WITHIN)
def test_what_else_stands_for_ipv4_is_allowed_where_its_network_is(
    name: str, notation: str
) -> None:
    address = within(notation, "10.1.2.3")
    assert EVERYWHERE.allows(number(address), 12345), (name, address)


def test_default_is_this_machine_and_private_networks() -> None:
    default = Config().probes.destinations
    inside = ["127.0.0.1", "127.9.9.9", "::1", "10.1.2.3", "172.31.0.1", "192.168.9.9", "fd12::1"]
    outside = ["8.8.8.8", "172.32.0.1", "100.64.0.1", "2001:db8::1", "192.169.0.1", "11.0.0.1"]
    assert all(allows(default, each) for each in inside)
    assert not any(allows(default, each) for each in outside)
    assert tuple(Config().probes.allow) == PRIVATE


def test_ipv4_in_the_notation_of_ipv6_is_ipv4() -> None:
    assert allows(Destinations([parse("10.0.0.0/8")]), "::ffff:10.1.2.3")
    assert str(number("::ffff:a01:203")) == "10.1.2.3"
    assert not allows(Destinations([parse("::/0")]), "::ffff:10.1.2.3")


@pytest.mark.parametrize(
    ("entry", "inside", "outside"),
    [
        ("10.0.0.0/8", ("10.255.0.1", 65535), ("11.0.0.1", 1)),
        ("192.168.0.0/16:12345-12399", ("192.168.1.1", 12399), ("192.168.1.1", 12400)),
        ("192.0.2.7:80", ("192.0.2.7", 80), ("192.0.2.8", 80)),
        ("[fd00::/8]:12345", ("fd00::1", 12345), ("fd00::1", 12346)),
        ("[fd00::/8]", ("fd00::1", 9), ("fc00::1", 9)),
        ("fd00::/8", ("fd00::1", 9), ("fc00::1", 9)),
        ("::1", ("::1", 1), ("::2", 1)),
    ],
)
def test_entry(entry: str, inside: tuple[str, int], outside: tuple[str, int]) -> None:
    found = Destinations([parse(entry)])
    assert allows(found, *inside)
    assert not allows(found, *outside)


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ("lab-7", "expected a network, with ports or without"),
        ("", "expected a network"),
        ("2130706433", "expected a network"),
        ("0177.0.0.1", "expected a network"),
        ("10.0.0.0/33", "expected a network"),
        (
            "10.0.0.1/8",
            "is an address within 10.0.0.0/8; write 10.0.0.1, or 10.0.0.0/8 for all of them",
        ),
        ("[fd00::/8", "expected a network"),
        ("[fd00::/8]12345", "expected a network"),
        ("10.0.0.0/8:", "expected a port from 1 to 65535, or a range"),
        ("10.0.0.0/8:0", "expected a port from 1 to 65535, or a range"),
        ("10.0.0.0/8:65536", "expected a port from 1 to 65535, or a range"),
        ("10.0.0.0/8:\u0661", "expected a port from 1 to 65535, or a range"),
        ("10.0.0.0/8:9-1", "ends before it begins"),
        ("169.254.0.0/16", "is link-local, where no probe is allowed"),
        ("169.254.169.254:80", "is link-local"),
        ("fe80::/64", "is link-local"),
        ("224.0.0.0/4", "is not a single machine"),
        ("::ffff:10.0.0.0/104", "write it as IPv4: 10.0.0.0/8"),
        (
            "::ffff:169.254.1.1",
            "::ffff:169.254.1.1 is link-local, where no probe is allowed; leave it out",
        ),
        ("http://10.0.0.1/x", "got 'http://10.0.0.1/x'"),
    ],
)
def test_entry_that_is_none_is_told_with_its_place(entry: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        from_dict({"probes": {"allow": ["10.0.0.0/8", entry]}})
    [problem] = refused.value.problems
    assert problem.startswith("probes.allow[1]: ")
    assert sentence in problem
