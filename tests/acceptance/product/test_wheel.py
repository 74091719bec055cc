# SPDX-License-Identifier: MIT
"""The wheel is whole: installed into an empty environment, it runs from anywhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
README = (ROOT / "README.md").read_text("utf-8")
ALLOWED = {"operatord", "operatord_protocol", "operatord_client", "operatord_stage"}

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path) -> str:
    # What pip would compile is hundreds of modules, and few of them are loaded here.
    env = {**os.environ, "PIP_COMPILE": "0"}
    env = {key: value for key, value in env.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(part) for part in command],
        check=False,
        cwd=cwd,
        env=env,
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # Built from a copy: setuptools leaves a build folder, and what lies in an old one, in the wheel.
    source = folder / "source"
    tracked = run("git", "ls-files", "-co", "--exclude-standard", cwd=ROOT).splitlines()
    for name in filter(lambda name: (ROOT / name).is_file(), tracked):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name)
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, source, cwd=folder)
    return next(folder.glob("operatord-*.whl"))


def test_the_wheel_has_no_generic_names_and_everything_that_runs(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == ALLOWED
    for folder, script in (
        ("probe", "probe.py"),
        ("streaming", "streaming.py"),
        ("segmentation", "segmentation.py"),
    ):
        assert f"operatord/emulators/{folder}/Dockerfile" in names
        assert f"operatord/emulators/{folder}/{script}" in names
    for file in ("Dockerfile", "operatord_stage/stage.py", "operatord_stage/serving/entry.py"):
        assert f"operatord/stage/{file}" in names
    for file in ("openigtlink-in/scanner.py", "openigtlink-out/igtl/messages.py"):
        assert f"operatord/adapters/{file}" in names


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("installed")
    # A pip of its own takes longer to install than all the rest.
    run(sys.executable, "-m", "venv", "--without-pip", home / "env", cwd=home)
    into = ("--python", home / "env/bin/python")
    run(sys.executable, "-m", "pip", *into, "install", "-q", wheel, cwd=home)
    return home


def test_the_demo_runs_from_another_folder(installed: Path) -> None:
    out = run(
        installed / "env/bin/operatord",
        "demo",
        "--engine",
        "process",
        "--count",
        "30",
        cwd=installed,
    )
    assert "30 of 30 frames" in out
    assert "it works" in out


def test_example_of_the_settings_is_the_commented_file_and_is_good(
    installed: Path, tmp_path: Path
) -> None:
    """N5: there is no checkout to look at once it is installed."""
    operatord = installed / "env/bin/operatord"
    example = run(operatord, "config", "--example", cwd=tmp_path)
    assert example == (ROOT / "operatord.yaml").read_text("utf-8")
    (tmp_path / "my.yaml").write_text(example, "utf-8")
    mine = run(operatord, "config", "--config", "my.yaml", cwd=tmp_path)
    assert mine == run(operatord, "config", cwd=tmp_path)


def test_installing_works_as_the_readme_says(wheel: Path, tmp_path: Path) -> None:
    """N5: its commands, in a copy of the checkout, by somebody who has no environment yet."""
    blocks = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    [block] = [body for body in blocks if " -m venv " in body]
    lines = [line.removeprefix("$ ") for line in block.splitlines()]
    program = "\n".join([*lines, 'python -c "import rich"', "operatord --version"])
    source = wheel.parent / "source"
    said = run("env", f"HOME={tmp_path}", "bash", "-euc", program, cwd=source)
    assert said.splitlines()[-1].startswith("operatord ")


def test_operatorctl_runs_from_another_folder(installed: Path) -> None:
    assert "usage: operatorctl" in run(installed / "env/bin/operatorctl", "--help", cwd=installed)
    assert "complete" in run(installed / "env/bin/operatorctl", "completion", "bash", cwd=installed)


@pytest.mark.engine
def test_the_images_are_built_from_another_folder(installed: Path) -> None:
    run(installed / "env/bin/operatord", "build-images", cwd=installed)
