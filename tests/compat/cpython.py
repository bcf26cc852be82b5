# SPDX-License-Identifier: Apache-2.0
"""Runs modules of CPython's own regression tests in a VM, and in a plain chroot of the same image beside it.

The chroot is what an equal user has without us: root, with namespaces of pids, mounts, IPC, names and networks of its
own, the same files, and no filter, no user namespace, no control group.
"""

from __future__ import annotations

import pathlib
import re
import shlex
import subprocess
import xml.etree.ElementTree as ElementTree

from tests.conftest import ROOT, Agent

SUITE = pathlib.Path("/usr/lib/python3.11/test")  # of Debian's libpython3.11-testsuite
TABLE = ROOT / "docs" / "compatibility.md"

# The sockets of AF_VSOCK wait for ever outside, where nobody answers; inside there are none.
COMMAND = (
    "cd /tmp && ulimit -n 1024 && rm -f result.xml;"
    " python3 -m test -u subprocess,cpu -i '*VSOCK*' {match} --junit-xml /tmp/result.xml {module} >&2; cat result.xml"
)

CHROOT = r"""
set -e
mount -t tmpfs -o size=2g era "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"
cd "$1/root"
rm -rf ".$3"
cp -r "$3" ".$3"
mount --rbind /dev dev
mount -t tmpfs -o size=512m era dev/shm
mount -t proc proc proc
ip link set lo up
hostname vm
exec chroot . env -i PATH="$PATH" HOME=/root USER=root LANG=C.UTF-8 sh -c "$4"
"""


def command(module: str, names: set[str]) -> str:
    """The command line for a module, or for some tests of it."""
    return COMMAND.format(module=module, match=" ".join(f"-m {shlex.quote(name)}" for name in sorted(names)))


def outcomes(report: bytes) -> dict[str, str]:
    """Each test with ok, skipped, failure or error."""
    found = {}
    for case in ElementTree.fromstring(report).iter("testcase"):
        kinds = [child.tag for child in case if child.tag in ("skipped", "failure", "error")]
        found[case.attrib["name"]] = kinds[0] if kinds else "ok"
    return found


def run_inside(agent: Agent, vm: str, module: str, names: set[str]) -> dict[str, str]:
    """What comes of a module's tests in a VM that holds the suite."""
    result = agent.sh(vm, command(module, names), "--timeout", "900", timeout=1000)
    assert result.stdout, result.stderr.decode()
    return outcomes(result.stdout)


def run_outside(rootfs: pathlib.Path, scratch: pathlib.Path, module: str, names: set[str]) -> dict[str, str]:
    """What comes of them in the chroot."""
    unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--ipc", "--uts", "--net"]
    words = [str(scratch), str(rootfs), str(SUITE), command(module, names)]
    done = subprocess.run(
        [*unshare, "sh", "-c", CHROOT, "sh", *words], stdin=subprocess.DEVNULL, capture_output=True, timeout=1000
    )
    assert done.stdout, done.stderr.decode()
    return outcomes(done.stdout)


def known_differences() -> dict[str, tuple[str, str]]:
    """The table of docs/compatibility.md: test, what comes of it inside, and outside."""
    rows = re.findall(r"^\| `(test\.[\w.]+)` \| (\w+) \| (\w+) \| .+ \|$", TABLE.read_text(), re.MULTILINE)
    return {name: (inside, outside) for name, inside, outside in rows}
