# SPDX-License-Identifier: MIT
"""What is checked: an image as one stage of a pipeline. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import msgspec

from operatord.core.pipelines import ADDRESS, Pipeline, Stage, env_text
from operatord.core.sources.adapters import URL, Adapter

Kind = Literal["probe", "filter", "sink"]
KINDS: tuple[Kind, ...] = ("probe", "filter", "sink")

USUAL: Mapping[Kind, tuple[str, str, int]] = {
    "probe": ("probe", "", 12345),
    "filter": ("segmentation", "stream", 12347),
    "sink": ("segmentation", "stream", 12347),
}
"""By kind: a stage's name, its upstream's, and its port, where nothing else is known."""
OURS = {
    "count", "checked", "attached", "visitors", "format", "policy", "unread", "connect_timeout",
    "OPERATORD_SESSION", "OPERATORD_LATE_BIND", "OPERATORD_STAGE", "OPERATORD_UPSTREAM",
}  # fmt: skip
"""Variables that the check sets itself."""


class Address(NamedTuple):
    """Where a stage of the trial listens, as the stage that is checked knows it."""

    host: str
    port: int


class Subject(msgspec.Struct, frozen=True):
    """An image, the kind of stage that it is, and what it is given."""

    kind: Kind
    name: str
    """Of the stage: its own address is in the variables ``name_ip`` and ``name_port``."""
    stage: Stage
    """Image, port, command, limits and options."""
    before: tuple[str, ...] = ()
    """The stages before it, the last of which it connects to; all stand for the one upstream here."""
    env: Mapping[str, str] = {}
    """Variables that were given for this check."""
    pictures: str = "gray8"
    """The format of its upstream's pictures."""
    configured: str = ""
    """The setting that its name, limits and options are from; empty if there is none."""

    @property
    def has_upstream(self) -> bool:
        """Whether it connects to a stage before it."""
        return self.kind != "probe"

    def environment(
        self, own: Address, upstream: Address, more: Mapping[str, str]
    ) -> dict[str, str]:
        """Return the whole environment; ``more`` is what a trial sets."""
        places = dict.fromkeys(self.before, upstream) | {self.name: own}
        env: dict[str, str] = {}
        for name, (host, port) in places.items():
            env[f"{name}_ip"], env[f"{name}_port"] = host, str(port)
        env |= {"OPERATORD_SESSION": "check-stage", "OPERATORD_STAGE": self.name}
        if self.has_upstream:
            env["OPERATORD_UPSTREAM"] = self.before[-1]
        env |= {key: _filled(env_text(value), places) for key, value in self.stage.env.items()}
        return env | {**more, **self.env}


def _filled(value: str, places: Mapping[str, Address]) -> str:
    """Return a configured value with the addresses that its placeholders stand for."""
    return ADDRESS.sub(
        lambda match: str(getattr(places[match[1]], match[2])) if match[1] in places else match[0],
        value,
    )


class Asked(NamedTuple):
    """What was asked for on the command line."""

    image: str
    kind: Kind | None = None
    name: str | None = None
    upstream: str | None = None
    env: Mapping[str, str] = {}
    command: tuple[str, ...] = ()
    pictures: str = "gray8"


def configured_as(
    asked: Asked, pipelines: Mapping[str, Pipeline], sources: Mapping[str, Adapter]
) -> Subject | None:
    """Return the image as the first configured stage that runs it; None if there is none."""
    return _in_pipelines(asked, pipelines) or _in_sources(asked, sources)


def _in_sources(asked: Asked, sources: Mapping[str, Adapter]) -> Subject | None:
    """Return the image as the adapter that it is, of the scheme of its URL if that is given."""
    found = {
        scheme: each for scheme, each in sources.items() if _same_image(each.image, asked.image)
    }
    wanted = asked.env.get(URL, "").partition(":")[0]
    scheme = wanted if wanted in found else next(iter(found), None)
    if scheme is None:
        return None
    stage = found[scheme].stage
    return _as_asked(Subject("probe", "probe", stage, configured=f"sources.{scheme}"), asked)


def _in_pipelines(asked: Asked, pipelines: Mapping[str, Pipeline]) -> Subject | None:
    for pipeline_name, pipeline in pipelines.items():
        for at, (name, stage) in enumerate(pipeline.stages.items()):
            if _same_image(stage.image, asked.image):
                before = tuple(pipeline.stages)[:at]
                kind = asked.kind or _kind(stage, before)
                where = f"pipelines.{pipeline_name}.stages.{name}"
                return _as_asked(Subject(kind, name, stage, before, configured=where), asked)
    return None


def _kind(stage: Stage, before: tuple[str, ...]) -> Kind:
    """Return the kind of a configured stage: one that serves another protocol is the end of the stream."""
    if not before:
        return "probe"
    return "filter" if stage.serves == "stream" else "sink"


def _same_image(one: str, other: str) -> bool:
    return one.removesuffix(":latest") == other.removesuffix(":latest")


def usual(asked: Asked, kind: Kind) -> Subject:
    """Return the image as a stage of a kind, with the defaults of every stage."""
    name, upstream, port = USUAL[kind]
    return _as_asked(Subject(kind, name, Stage(image=asked.image, port=port), (upstream,)), asked)


def _as_asked(subject: Subject, asked: Asked) -> Subject:
    """Return a subject with all that was asked for."""
    before = subject.before or (USUAL[subject.kind][1],)
    if subject.kind == "probe":
        before = ()
    elif asked.upstream is not None:
        before = (asked.upstream,)
    command = list(asked.command) or subject.stage.command
    stage = msgspec.structs.replace(subject.stage, image=asked.image, command=command)
    name = asked.name or subject.name
    return msgspec.structs.replace(
        subject, name=name, stage=stage, before=before, env=asked.env, pictures=asked.pictures
    )


def problems(asked: Asked) -> list[str]:
    """Return a sentence for each thing that contradicts the check."""
    found = [
        f"--env {key}: the check sets this variable itself" for key in asked.env if key in OURS
    ]
    if asked.kind == "probe" and asked.upstream is not None:
        found.append("--upstream: a probe has none; give --kind filter, or leave it out")
    return found
