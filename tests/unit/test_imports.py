# SPDX-License-Identifier: MIT
"""Who may import whom, read from the sources. ARCHITECTURE.md says why."""

from __future__ import annotations

import ast
import functools
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = {
    "operatord": ROOT / "operatord",
    "operatord_protocol": ROOT / "protocol" / "operatord_protocol",
    "operatord_client": ROOT / "client" / "operatord_client",
}

_BELOW_STORE = {
    "operatord.machine",
    "operatord.metering",
    "operatord.core",
    "operatord_protocol",
    "msgspec",
}
_BELOW_STREAMS = {
    *_BELOW_STORE,
    "operatord.store",
    "operatord.settings.config",
    "operatord.settings.current",
    "operatord.engines.base",
}
_BELOW_SESSION = {*_BELOW_STREAMS, "operatord.streams", "operatord.gate", "operatord.waking"}
_ON_SESSION = {*_BELOW_SESSION, "operatord.session"}
_BELOW_LIFECYCLE = {
    *_ON_SESSION, "operatord.monitors", "operatord.scheduling", "operatord.provision",
    "operatord.engine_link",
}  # fmt: skip

# The longest prefix of a module's name decides what it may import; prefixes allow all below them.
RULES: dict[str, set[str]] = {
    "operatord_protocol": {"operatord_protocol", "msgspec"},
    "operatord_protocol.stream": {"operatord_protocol", "msgspec", "numpy"},
    "operatord_client": {"operatord_client", "operatord_protocol", "msgspec"},
    "operatord_client._transport": {
        "operatord_client._transport", "operatord_client.address", "operatord_client.errors",
        "operatord_client.notices", "operatord_protocol", "msgspec",
    },
    "operatord_client._recording": {
        "operatord_client._recording", "operatord_client.options", "operatord_protocol", "msgspec",
    },
    "operatord_client.ctl.verbs.drawing": {"operatord_client.ctl", "operatord_client.options", "rich"},
    "operatord.core": {"operatord.core", "operatord_protocol", "msgspec"},
    "operatord.engines": {"operatord.engines", "operatord", "psutil", "msgspec"},
    "operatord.engines.docker": {"operatord.engines", "msgspec", "docker", "requests", "urllib3"},
    # From the machine up; nobody imports what stands above it.
    "operatord.machine": {
        "operatord.machine", "operatord.core", "operatord.engines.base", "operatord_protocol", "psutil",
        "msgspec",
    },
    "operatord.metering": {"operatord.metering", "operatord.engines.base", "operatord_protocol"},
    "operatord.store": {"operatord.store", *_BELOW_STORE},
    "operatord.streams": {"operatord.streams", *_BELOW_STREAMS},
    "operatord.gate": {"operatord.gate", "operatord.machine", "operatord_protocol", "msgspec", "psutil"},
    "operatord.gate.program": {"operatord.gate.program"},
    "operatord.gateway.pictures": {"operatord.gateway.pictures", "operatord_protocol", "msgspec"},
    "operatord.gateway": {
        "operatord.gateway", "operatord_client", "operatord_protocol", "msgspec", "aiohttp", "multidict",
        "yarl", "prometheus_client",
    },
    "operatord.gateway.process": {
        "operatord.gateway", "operatord.alerts", "operatord.tls_memory", "operatord_protocol", "aiohttp",
    },
    "operatord.alerts": set(),
    "operatord.tls_memory": set(),
    "operatord.session": {"operatord.session", *_BELOW_SESSION},
    "operatord.monitors": {"operatord.monitors", *_ON_SESSION},
    "operatord.scheduling": {"operatord.scheduling", *_ON_SESSION},
    "operatord.provision": {"operatord.provision", "operatord.engines.options", *_ON_SESSION},
    "operatord.engine_link": {"operatord.engine_link", *_ON_SESSION},
    "operatord.lifecycle": {"operatord.lifecycle", *_BELOW_LIFECYCLE},
    "operatord.access": {"operatord.access", "operatord_protocol", "msgspec"},
    "operatord.systemd": {
        "operatord.systemd", "operatord.settings.listeners", "operatord.core.phases",
        "operatord.store.events",
    },
    "operatord.settings.credentials": {
        "operatord.settings.config", "operatord.settings.listeners", "operatord.access", "operatord_protocol",
    },
    "operatord.settings.listeners": {"operatord.core", "operatord_protocol", "msgspec"},
    "operatord.settings.http": {"operatord.settings.listeners", "operatord_protocol", "msgspec"},
    "operatord.settings.probes": {"operatord.core", "msgspec"},
    "operatord.control": {
        "operatord.control", "operatord.access", "operatord.alerts", "operatord.tls_memory",
        "operatord.lifecycle",
        *_BELOW_LIFECYCLE - {"operatord.engines.base"},
    },
    "operatord.simulation": {"operatord.simulation", "operatord.core", "operatord_protocol"},
    "operatord.conformance": {
        "operatord.conformance", "operatord.core", "operatord.engines.base", "operatord.engines.options",
        "operatord.provision.stage_options", "operatord.provision.subnet_count", "operatord.streams.relay",
        "operatord_protocol", "msgspec",
    },
    "operatord.conformance.judging": {
        "operatord.conformance.judging", "operatord.conformance.pictures", "operatord.conformance.seen",
        "operatord.conformance.trials.faults", "operatord.conformance.trials.flows",
        "operatord.conformance.verdict",
    },
    "operatord.conformance.command": {
        "operatord.conformance", "operatord.core", "operatord.engines.base", "operatord.settings", "msgspec",
    },
    "operatord.settings.config": {
        "operatord.core", "operatord.settings.http", "operatord.settings.listeners",
        "operatord.settings.probes", "operatord_protocol", "msgspec",
    },
    "operatord.settings.checks": {
        "operatord.settings.config", "operatord.settings.http", "operatord.settings.listeners",
        "operatord.settings.probes", "operatord.core", "operatord_protocol", "msgspec",
    },
    "operatord.settings.type_errors": {
        "operatord.settings.config", "operatord.core", "operatord_protocol", "msgspec",
    },
    "operatord.settings.variables": {
        "operatord.settings.config", "operatord.settings.file", "operatord.settings.yaml_text",
    },
    "operatord.settings.loading": {
        "operatord.settings.checks", "operatord.settings.config", "operatord.settings.file",
        "operatord.settings.type_errors", "operatord.settings.variables", "operatord.settings.yaml_text",
        "operatord.core", "operatord_protocol", "msgspec",
    },
    "operatord.settings.current": {"operatord.settings.config"},
    "operatord.settings.file": {
        "operatord.settings.yaml_text", "operatord.core.stage_forms", "operatord_protocol.encodings",
    },
    "operatord.settings.yaml_text": {"operatord.core", "yaml"},
    "operatord.settings": {
        "operatord.settings", "operatord.core", "operatord.engines", "operatord_protocol", "msgspec",
        "operatord.machine.latency",
    },
    "operatord.logs": {
        "operatord.settings.config", "operatord.machine.clock", "operatord.stderr", "operatord_protocol",
    },
    "operatord.commands": {"operatord", "operatord_protocol", "yaml"},
    "operatord.commands.gateway": {"operatord", "operatord_client", "operatord_protocol", "aiohttp"},
    "operatord.demo": {"operatord", "operatord_client", "operatord_protocol", "rich"},
    "operatord": {"operatord", "operatord_protocol", "msgspec", "yaml", "docker"},
}  # fmt: skip
NEVER = {
    # Broad rules above, and what they do not mean.
    "operatord.engines": {
        f"operatord.{each}"
        for each in (
            "core", "machine", "metering", "store", "streams", "session", "monitors", "scheduling",
            "provision", "engine_link", "lifecycle", "control", "config", "daemon",
        )
    },
    "operatord": {"operatord_client"},
    "operatord.commands": {"operatord.cli"},
    "operatord.commands.gateway": {"operatord.cli", "operatord.daemon"},
    "operatord.gateway": {"operatord_client._transport", "operatord_client.ctl"},
    "operatord_client": {"operatord_client.ctl"},
    "operatord_client.operatorctl": set(),
    "operatord_client.ctl": {
        "operatord_client._recording", "operatord_client._transport", "operatord_client.ctl.verbs",
    },
    "operatord_client.ctl.parser": {"operatord_client._transport"},
    "operatord_client.ctl.verbs": {"operatord_client._recording", "operatord_client._transport"},
}  # fmt: skip


def modules() -> Iterator[tuple[str, Path]]:
    for package, folder in FOLDERS.items():
        for file in sorted(folder.rglob("*.py")):
            parts = file.relative_to(folder).with_suffix("").parts
            yield ".".join((package, *(part for part in parts if part != "__init__"))), file


def at_import(tree: ast.Module) -> list[ast.AST]:
    """Return the statements that run when the module is imported."""
    found: list[ast.AST] = []
    todo: list[ast.AST] = [tree]
    while todo:
        found.append(node := todo.pop())
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            todo += ast.iter_child_nodes(node)
    return found


@functools.cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text("utf-8"))


def imported(name: str, file: Path, *, late: bool = True) -> set[str]:
    """Return the full names that a module imports; without ``late``, before it can be used."""
    found: set[str] = set()
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    tree = parsed(file)
    for node in ast.walk(tree) if late else at_import(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1]
            source = ".".join([*base, node.module] if node.module else base)
            source = source if node.level else node.module or ""
            found |= {f"{source}.{alias.name}" for alias in node.names}
    return {each for each in found if each.split(".")[0] not in sys.stdlib_module_names}


def below(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith((f"{prefix}.", f"{prefix}_"))


def rule_for(name: str, rules: dict[str, set[str]]) -> set[str]:
    prefixes = [p for p in rules if below(name, p) and (p != "operatord" or "_" not in name[:10])]
    return rules[max(prefixes, key=len)] if prefixes else set()


MODULES = dict(modules())


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_one_way(name: str) -> None:
    allowed, never = rule_for(name, RULES), rule_for(name, NEVER)
    if name == "operatord.demo":
        never = set()
    for each in imported(name, MODULES[name]):
        known = [p for p in allowed if each == p or each.startswith(f"{p}.")]
        assert known, f"{name} imports {each}"
        banned = [p for p in never if each == p or each.startswith(f"{p}.")]
        assert not banned, f"{name} imports {each}"


def test_only_the_edge_imports_docker() -> None:
    users = [
        name
        for name, file in MODULES.items()
        if any(each.split(".")[0] == "docker" for each in imported(name, file))
    ]
    assert users
    assert all(name.startswith("operatord.engines.docker") for name in users), users


def test_only_the_store_speaks_sql() -> None:
    """What the journal's tables are is known in one place, which looks at its version first."""
    speaks = {"execute", "executemany", "executescript", "connect"}
    for name, file in MODULES.items():
        for node in ast.walk(parsed(file)):
            if isinstance(node, ast.Attribute) and node.attr in speaks:
                said = ast.unparse(node)
                is_sql = node.attr != "connect" or said == "sqlite3.connect"
                assert not is_sql or below(name, "operatord.store"), f"{name}: {said}"


def test_there_are_no_circles() -> None:
    graph = {
        name: {
            target
            for each in imported(name, file, late=False)
            if (target := each if each in MODULES else each.rpartition(".")[0]) in MODULES
            and target != name
        }
        for name, file in MODULES.items()
    }
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " → ".join((*path, name))
        if name not in done:
            for target in graph[name]:
                visit(target, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_every_source_says_its_licence() -> None:
    folders = [*FOLDERS.values(), ROOT / "tests", ROOT / "emulators", ROOT / "adapters"]
    for file in (file for folder in folders for file in folder.rglob("*.py")):
        head = file.read_text("utf-8").splitlines()[:2]
        assert "# SPDX-License-Identifier: MIT" in head, file


@pytest.mark.parametrize("name", [name for name in MODULES if "__" not in name])
def test_each_module_is_in_the_table_of_rooms(name: str) -> None:
    """By its name, or its name in words; of twins, one name does for both."""
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    table = text.partition("## The rooms")[2].partition("## ")[0]
    module = name.rpartition(".")[2].removeprefix("async_")
    spellings = {module, f"{module}s", module.removesuffix("s"), module.replace("_", " ")}
    assert any(re.search(rf"\b{each}\b", table) for each in spellings), name


def test_nothing_but_their_table_tells_engines_apart_by_name() -> None:
    kinds = MODULES["operatord.core.engine_kinds"]
    names = {"docker", "podman", "process"}
    found = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for name, file in MODULES.items()
        if name.startswith("operatord.") and file != kinds
        for node in ast.walk(parsed(file))
        if isinstance(node, (ast.Compare, ast.MatchValue))
        for part in ast.walk(node)
        if isinstance(part, ast.Constant) and part.value in names
    ]
    assert found == []
