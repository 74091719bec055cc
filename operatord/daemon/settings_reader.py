# SPDX-License-Identifier: MIT
"""What the settings mean on this machine, and the same of settings that are read anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from operatord.access.logins import Credentials, Logins
from operatord.machine.latency import without_collections
from operatord.settings import credentials
from operatord.settings.advertised import Advertised, advertised
from operatord.settings.config import Config, ConfigError
from operatord.settings.current import CurrentSettings
from operatord.settings.reloading import changed
from operatord_protocol.errors import Conflict


class Fresh(NamedTuple):
    """Settings that were read anew."""

    config: Config
    advertised: Advertised
    known: Credentials
    changed: list[str]
    """Their names."""


class SettingsReader:
    """Reads the settings anew, and what they mean: the address that clients are told, who may log in."""

    def __init__(
        self,
        current: CurrentSettings,
        reread: Callable[[], Config],
        engine_host: str | None,
        logins: Logins,
    ) -> None:
        """``reread``, called in a thread, returns the settings anew. Raises `ConfigError`."""
        self._current = current
        self._reread = reread
        self._engine_host = engine_host
        self.advertised = advertised(current.config, engine_host)
        self._logins = logins

    def read(self) -> Fresh:
        """Read them, and what they mean, in a thread. Raises `Conflict`."""
        try:
            with without_collections():
                config = self._reread()
            same = config.advertise_host == self._current.config.advertise_host
            new = self.advertised if same else advertised(config, self._engine_host)
            known = credentials.load(config)
            credentials.check_not_emptied(self._logins.known, known)
        except ConfigError as exc:
            raise Conflict(f"nothing was changed: {'; '.join(exc.problems)}") from exc
        found = changed(self._current.config, config)
        if known.tokens != self._logins.known.tokens and "auth" not in found:
            found = sorted([*found, "auth"])
        return Fresh(config, new, known, found)

    def use(self, fresh: Fresh) -> None:
        """Have everybody who goes by the settings go by these."""
        self._current.replace(fresh.config)
        self.advertised = fresh.advertised
        self._logins.known = fresh.known
