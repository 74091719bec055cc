# SPDX-License-Identifier: MIT
"""Run a stage that a test has written, between an upstream and consumers that the test plays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from emulator_stages import HOST, PATIENCE, PICTURE, Stage, frame, hello

ALONE = {name: value for name, value in os.environ.items() if not name.endswith("_ip")}


class OwnStage(Stage):
    """A running script of a test's."""

    def __init__(self, path: Path, *words: str, **env: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(path), *words],
            env=ALONE | {name: str(value) for name, value in env.items()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._port = None

    def reason(self) -> str:
        """Wait for it to end as its own work has failed; return its last sentence."""
        ended = self.ended()
        assert ended.code == 1, ended
        return ended.sentence.splitlines()[-1]

    def lines(self) -> list[dict[str, Any]]:
        """Wait for it to end; return the lines that it printed since those that were read."""
        assert self.process.stdout is not None
        found = [json.loads(line) for line in self.process.stdout]  # of which some are read already
        self.process.wait(PATIENCE)
        return found

    def last_words(self) -> list[str]:
        """Wait for it to end; return the types of the lines that it printed since those that were read."""
        return [line["type"] for line in self.lines()]


class Runner:
    """Writes scripts and runs them as stages on ports of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._stages = folder, list[OwnStage]()

    def __call__(self, script: str, upstream: int | None = None, **env: object) -> OwnStage:
        """Run a script, which has `stage` for operatord_stage; it is called own, and its upstream before."""
        wiring: dict[str, object] = {"OPERATORD_STAGE": "own", "own_ip": HOST, "own_port": 0}
        if upstream is not None:
            wiring |= {"OPERATORD_UPSTREAM": "before", "before_ip": HOST, "before_port": upstream}
        stage = OwnStage(self.written(script), **(wiring | env))
        self._stages.append(stage)
        return stage

    def written(self, script: str) -> Path:
        path = self._folder / f"own{len(self._stages)}.py"
        path.write_text("import operatord_stage as stage\n" + textwrap.dedent(script))
        return path

    def close(self) -> None:
        for stage in self._stages:
            stage.process.kill()
            stage.process.communicate()


def stream(count: int, /, **changed: object) -> list[bytes]:
    """Return a foreign upstream's stream of so many equal pictures of 16 x 16, to be played."""
    frames = [piece for seq in range(count) for piece in (frame(seq), PICTURE)]
    return [hello(**{"count": count, **changed}), *frames, b'{"type":"end","frames":%d}\n' % count]
