# SPDX-License-Identifier: Apache-2.0
"""At every marked point somebody is killed: what is left on the host has an owner, and no record lies."""

from __future__ import annotations

import contextlib
import os
import signal

import pytest

from tests.conftest import eventually
from tests.crash.host import Host, Process, read
from tests.crash.ways import Passage, all_places, places_to_stop_at


def stand(host: Host, place: str) -> tuple[Passage, Process]:
    """Leads a command to a point, at which it stops; the point is really passed."""
    passage = Passage(host.agent, place, "stop")
    found: list[Process] = []

    def there() -> bool:
        own = Process(passage.command.pid)
        stopped = own if own.name == "era-fault" else host.stopped(passage.command.pid)
        found.extend([stopped] if stopped else [])
        assert passage.command.poll() != 99, (place, passage.end())
        return stopped is not None

    eventually(there)
    return passage, found[0]


def came_to_rest(pid: int) -> bool:
    """Who went on alone has ended, or has a living child: a shim that started its VM all the same."""
    process = Process(pid)
    children = [Process(int(name)) for name in read(f"/proc/{pid}/task/{pid}/children").split()]
    return not process.alive or (process.name != "era-fault" and any(child.alive for child in children))


def recovers(host: Host) -> None:
    """One list, nothing without an owner, the next command works, and all can be cleaned."""
    host.check()
    host.works()
    host.cleans_up()


@pytest.mark.parametrize("place", all_places())
def test_killed_at(host: Host, place: str) -> None:
    """The process ends there, at once."""
    Passage(host.agent, place, "kill").end()
    recovers(host)


@pytest.mark.parametrize("place", places_to_stop_at())
def test_stopped_and_then_killed_at(host: Host, place: str) -> None:
    """Others can look meanwhile, and are neither held up for ever nor lied to."""
    passage, stopped = stand(host, place)
    host.agent.run("vm", "list", "--all", check=True, timeout=60)
    os.kill(stopped.pid, signal.SIGKILL)
    passage.end()
    recovers(host)


# Without build.begun: nobody else is there, and to go on from it is to build an image.
@pytest.mark.parametrize("place", [place for place in places_to_stop_at() if place != "build.begun"])
def test_everybody_else_killed_while_at(host: Host, place: str) -> None:
    """It goes on into a world that is not the one that it left."""
    passage, stopped = stand(host, place)
    own = passage.command.pid
    if stopped.pid != own:
        passage.command.kill()
    host.kill_others(stopped.pid)
    with contextlib.suppress(ProcessLookupError):  # a process of the guest goes with its shim
        os.kill(stopped.pid, signal.SIGCONT)
    passage.end()
    if stopped.pid != own:
        eventually(lambda: came_to_rest(stopped.pid))
    recovers(host)
