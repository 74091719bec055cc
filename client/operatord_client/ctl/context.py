# SPDX-License-Identifier: MIT
"""What a command works with: the client, printed answers, and shortened ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from operatord_protocol.visible import tidied

from . import terminal
from .exits import NOT_FOUND, USAGE, Refused

TYPE_CHECKING = False  # as typing's; importing typing would cost more than all of this
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

    from operatord_client.address import Address
    from operatord_client.client import Client
    from operatord_client.notices import Progress

ID_LENGTH = 16


class Context:
    """One run of operatorctl."""

    def __init__(
        self,
        address: str | None,
        token: str | None,
        tls: Mapping[str, str] | None = None,
        *,
        as_json: bool,
    ) -> None:
        """``tls`` has the files that were named for an address of TLS."""
        self._address = address
        self._token = token
        self._tls = tls or {}
        self._client: Client | None = None
        self.as_json = as_json

    @property
    def client(self) -> Client:
        """The client, loaded and connected when it is first asked for."""
        if self._client is None:
            from operatord_client.client import Client  # noqa: PLC0415 - not for --help

            self._client = Client(_parse(self._address, self._tls), token=self._token)
        return self._client

    def close(self) -> None:
        """Disconnect, if there is a connection."""
        if self._client is not None:
            self._client.close()

    # --- talking ---------------------------------------------------------------------------------

    def call(self, method: str, **params: Any) -> Any:
        """Return a result as builtins; params that are None are left out."""
        return _codec().decode(self.request(method, params))

    def answer(self, method: str, params: Mapping[str, Any], render: Callable[[Any], str]) -> Any:
        """Call, print the result (the wire's own JSON, or as ``render`` has it), and return it."""
        return self.print_result(self.request(method, params), render)

    def answer_list(
        self, method: str, member: str, params: Mapping[str, Any], render: Callable[[Any], str]
    ) -> None:
        """Print a list, all its pages in one; at most ``params["limit"]`` items if that is given."""
        self.print_items(member, self.all_of(method, member, params), render)

    def print_items(self, member: str, items: list[Any], render: Callable[[Any], str]) -> None:
        """Print a list as if it had come in one answer."""
        self.print_result(_codec().encode({member: items}), render)

    def all_of(self, method: str, member: str, params: Mapping[str, Any]) -> list[Any]:
        """Return the items of a list, which come in pieces."""
        from operatord_client.pages import Pages  # noqa: PLC0415 - not for --help

        pages: Pages[Any] = Pages(params.get("limit"))
        while pages.more:
            result = self.call(method, **{**params, **pages.params()})
            pages.take(result[member], result.get("next"))
        return pages.items

    def request(
        self,
        method: str,
        params: Mapping[str, Any],
        on_progress: Callable[[Progress], None] | None = None,
    ) -> bytes:
        """Return a result as JSON; params that are None are left out."""
        given = {name: value for name, value in params.items() if value is not None}
        return self.client.request(method, given, on_progress=on_progress)

    def print_result(self, raw: bytes, render: Callable[[Any], str]) -> Any:
        """Print a result, and return it as builtins."""
        result = _codec().decode(raw)
        if self.as_json:
            terminal.out_json(raw)
        elif text := render(tidied(result)):
            terminal.out(text)
        return result

    def session_id(self, start: str) -> str:
        """Return the one session's id that begins with ``start``. Raises `Refused`."""
        if len(start) == ID_LENGTH:
            return start
        sessions = self.all_of("session.list", "sessions", {})
        ids = [s["session_id"] for s in sessions if s["session_id"].startswith(start)]
        if not ids:
            raise Refused(f"there is no session {start}…", NOT_FOUND)
        if len(ids) > 1:
            raise Refused(f"{start} is the beginning of {len(ids)} sessions: {', '.join(ids)}")
        return str(ids[0])

    def show(self, item: Mapping[str, Any], render: Callable[[Any], str]) -> None:
        """Print one item of many: a line of JSON, or as ``render`` has it."""
        if self.as_json:
            terminal.out_json(_codec().encode(item))
        else:
            terminal.out(render(tidied(item)))


def _codec() -> ModuleType:
    from operatord_protocol import codec  # noqa: PLC0415 - not for --help

    return codec


def _parse(address: str | None, tls: Mapping[str, str]) -> Address:
    from operatord_client.address import Tls, parse_address  # noqa: PLC0415 - not for --help

    try:
        found = parse_address(address)
        if not isinstance(found, Tls):
            return found
        ca, cert, key = (tls.get(name) for name in ("ca", "cert", "key"))
        return Tls(found.host, found.port, ca or found.ca, cert or found.cert, key or found.key)
    except ValueError as exc:
        raise Refused(str(exc), USAGE) from exc
