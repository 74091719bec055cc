# SPDX-License-Identifier: MIT
"""What the settings name of secrets, read from its files."""

from __future__ import annotations

from pathlib import Path

from operatord.access.tokens import Tokens, TokensUnusable, read

from .config import Config, ConfigError


def tokens(config: Config) -> Tokens | None:
    """Return the tokens that are known; None where nobody has to log in. Raises `ConfigError`."""
    if config.auth.tokens is None:
        return None
    try:
        return Tokens(read(Path(config.auth.tokens).expanduser()))
    except TokensUnusable as exc:
        raise ConfigError([f"auth.tokens: {exc}"]) from exc
