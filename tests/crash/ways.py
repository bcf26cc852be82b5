# SPDX-License-Identifier: Apache-2.0
"""Which commands lead to a marked point: a way for each word before the dot, and a few points with one of their own."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import select
import shutil
import signal
import subprocess
from collections.abc import Callable

from tests.conftest import LEAST_MEM, Agent, shim_of
from tests.crash import points
from tests.image.ocilib import simple_layout

CREATE = ("vm", "create", "--language", "python", "--mem", LEAST_MEM)
PERSIST = (*CREATE, "--persist", "--disk", "16")

# Points on another way than their word says.
OTHER = {
    "guest.volume": "volume", "guest.network": "network", "init.stopping": "stopping",
    "image.assembled": "image", "worker.begun": "worker", "stop.asked": "stop", "stop.answered": "stop",
}


@dataclasses.dataclass
class Way:
    """What is done before, and the command that comes by."""

    words: Callable[[Agent, str], tuple[str, ...]]
    before: Callable[[Agent, dict[str, str]], str] = lambda agent, env: ""
    early: bool = False  # the plan is for what `before` creates, and not for the command
    plan: str = ""  # what must go wrong as well


def make(*words: str) -> Callable[[Agent, dict[str, str]], str]:
    """Creates a VM."""
    return lambda agent, env: str(agent.run(*words, check=True, env=env).json()["id"])


def make_stopped(agent: Agent, env: dict[str, str]) -> str:
    """A VM that is down."""
    vm = make(*CREATE)(agent, env)
    agent.run("vm", "stop", "--vm", vm, check=True)
    return vm


def make_volume(agent: Agent, env: dict[str, str]) -> str:
    """A volume that its VM left."""
    vm = make(*PERSIST)(agent, env)
    agent.run("vm", "clean", "--vm", vm, "--keep-persist", check=True)
    return vm


def make_half(agent: Agent, env: dict[str, str]) -> str:
    """A record whose creator was killed."""
    assert agent.run(*PERSIST, env={"ERA_FAULT": "volume.named=kill"}).code == -signal.SIGKILL
    return ""


def make_lost(agent: Agent, env: dict[str, str]) -> str:
    """A VM whose shim was killed."""
    vm = make(*CREATE)(agent, env)
    pid = os.pidfd_open(shim_of(agent, vm))
    signal.pidfd_send_signal(pid, signal.SIGKILL)
    select.select([pid], [], [])
    os.close(pid)
    return vm


def remove_templates(agent: Agent, env: dict[str, str]) -> str:
    """So that one is made; what is known of KVM stays."""
    for path in (agent.state / "templates").iterdir():
        if path.is_dir():
            shutil.rmtree(path)
    return ""


def make_alone(agent: Agent, env: dict[str, str]) -> str:
    """A VM, and no snapshots."""
    for snapshot in agent.run("snapshot", "list", "--output", "json", check=True).lines():
        agent.run("snapshot", "remove", snapshot["name"], check=True)
    return make(*CREATE)(agent, env)


def archive(agent: Agent) -> pathlib.Path:
    """A small image to import."""
    path = agent.state.parent / "image.tar"
    return path if path.exists() else simple_layout({"etc/motd": "hello"}).tar(path)


def make_image(agent: Agent, env: dict[str, str]) -> str:
    """An image to remove."""
    agent.run("image", "import", str(archive(agent)), check=True)
    return ""


def on(*words: str) -> Callable[[Agent, str], tuple[str, ...]]:
    """A command on the VM."""
    return lambda agent, vm: (*words[:2], "--vm", vm, *words[2:])


def always(*words: str) -> Callable[[Agent, str], tuple[str, ...]]:
    """A command without a VM."""
    return lambda agent, vm: words


RUN = on("vm", "run", "--cmd", "echo here")
COPY = on("vm", "run", "--file", "/etc/passwd", "--cmd", "true")
CREATING = Way(always(*CREATE))

WAYS = {
    **dict.fromkeys(["create", "launch", "shim", "guest", "child", "init"], CREATING),
    "undo": Way(always(*PERSIST), plan="launch.sent=EIO,"),
    "start": Way(RUN, make_stopped),
    "volume": Way(always(*PERSIST)),
    "network": Way(always(*CREATE, "--network", "allow_all")),
    "discard": Way(lambda agent, name: ("volume", "remove", name), make_volume),
    "run": Way(RUN, make(*CREATE)),
    "copy": Way(COPY, make(*CREATE)),
    "worker": Way(COPY, make(*CREATE), early=True),
    "stop": Way(on("vm", "stop"), make(*CREATE)),
    "clean": Way(on("vm", "clean"), make(*CREATE)),
    "abandon": Way(always("vm", "list"), make_half),
    "reconcile": Way(always("vm", "list"), make_lost),
    "keep": Way(RUN, make(*CREATE), early=True),
    "inside": Way(RUN, make(*CREATE), early=True),
    "end": Way(on("vm", "stop"), make(*CREATE), early=True),
    "stopping": Way(on("vm", "stop"), make(*CREATE), early=True),
    "image": Way(lambda agent, vm: ("image", "import", str(archive(agent)))),
    "unpack": Way(lambda agent, vm: ("image", "import", str(archive(agent)))),
    "remove": Way(always("image", "remove", "made/by-hand:1"), make_image),
    "build": Way(always("image", "build", "python", "--rebuild")),
    "machine": CREATING,
    "jail": CREATING,
    "template": Way(always(*CREATE), remove_templates),
    "snapshot": Way(on("vm", "snapshot", "--name", "saved"), make_alone),
    "still": Way(on("vm", "snapshot", "--name", "saved"), make_alone, early=True),
    "fork": Way(on("vm", "fork", "--count", "2"), make(*CREATE)),
    "pause": Way(on("vm", "pause"), make(*CREATE)),
}

# Those that the launcher microvm alone comes by.
MACHINE = {"machine", "jail", "template", "snapshot", "still", "fork", "pause"}

# Needs a registry, or minutes; those have tests of their own.
APART = {"pull.fetched", "build.root"}


# Where a process cannot stop itself: the sandbox of era-unpack denies it signals.
UNSTOPPABLE = {"unpack.sandboxed", "unpack.done"}


def way_of(point: str) -> Way:
    """The way that leads to a point."""
    return WAYS[OTHER.get(point, point.split(".")[0])]


def of_machine(name: str) -> bool:
    """Whether a guest with a kernel of its own is needed to come by."""
    return name.split(".")[0] in MACHINE


def machine_places() -> list[str]:
    """Every point of such a guest, and the point of each step of QEMU's jail."""
    steps = points.steps("microvm", "jail")
    return [name for name in points.table() if of_machine(name)] + [f"jail.step@{n}" for n in range(2, steps + 1)]


def all_places() -> list[str]:
    """Every point, and the point of each step of the launcher's child."""
    places = [name for name in points.table() if name not in APART and not of_machine(name)]
    return places + [f"child.step@{n}" for n in range(2, points.steps("namespace", "child") + 1)]


def places_to_stop_at() -> list[str]:
    """All of them, as far as a process can stop there."""
    return [place for place in all_places() if place not in UNSTOPPABLE]


class Passage:
    """A command on its way to a point."""

    def __init__(self, agent: Agent, place: str, action: str) -> None:
        way = way_of(place.split("@")[0])
        env = {"ERA_FAULT": f"{way.plan}{place}={action}"}
        self.vm = way.before(agent, env if way.early else {})
        self.command = agent.start(
            *way.words(agent, self.vm),
            env={**agent.env, **({} if way.early else env)},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )

    def end(self, seconds: float = 60) -> tuple[int, bytes]:
        """Waits for the command: its status, and its error."""
        _, error = self.command.communicate(timeout=seconds)
        return self.command.returncode, error
