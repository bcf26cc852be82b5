# SPDX-License-Identifier: Apache-2.0
"""System calls that lead out of a VM, or to parts of the kernel that nobody in one needs."""

from __future__ import annotations

import errno

from tests.security.conftest import Arena, needs_x86_64

pytestmark = needs_x86_64

PERM = {errno.EPERM}
ABSENT = {errno.ENOSYS}


def answers(arena: Arena, theme: str) -> set[int]:
    """What all attempts of a theme were answered with; see syscalls.c."""
    got = arena.attempts("/workspace/syscalls", theme)
    assert got
    return set(got.values())


def test_io_uring(arena: Arena) -> None:
    """ENOSYS, so that programs take epoll or threads."""
    assert answers(arena, "io_uring") == ABSENT


def test_the_kernel_s_own_affairs(arena: Arena) -> None:
    """bpf, perf, userfaultfd, modules, kexec, reboot, syslog, swap, ports, pages of others, fanotify."""
    assert answers(arena, "kernel") == PERM


def test_calls_that_nobody_named(arena: Arena) -> None:
    """Old ones, new ones, and numbers that are none yet."""
    assert answers(arena, "unknown") == ABSENT


def test_setting_the_clock(arena: Arena) -> None:
    """By any of the four."""
    assert answers(arena, "clocks") == PERM


def test_keyrings(arena: Arena) -> None:
    """Not divided by namespaces in every kernel."""
    assert answers(arena, "keys") == PERM


def test_reaching_into_other_processes(arena: Arena) -> None:
    """ptrace, process_vm_readv and _writev, kcmp, pidfd_getfd."""
    assert answers(arena, "others") == PERM


def test_file_handles(arena: Arena) -> None:
    """open_by_handle_at opens what no path leads to."""
    assert answers(arena, "handles") == PERM


def test_mounting(arena: Arena) -> None:
    """By the old calls and by the new ones."""
    assert answers(arena, "mounts") == PERM


def test_making_or_entering_namespaces_by_unshare_and_setns(arena: Arena) -> None:
    """Each flag."""
    assert answers(arena, "namespaces") == PERM


def test_making_namespaces_by_clone(arena: Arena) -> None:
    """Each flag, also with bits that the kernel cuts off."""
    assert answers(arena, "clone") == PERM


def test_clone3(arena: Arena) -> None:
    """A filter cannot read its flags: ENOSYS, so that the C library takes clone."""
    assert answers(arena, "clone3") == ABSENT


def test_the_x32_entry(arena: Arena) -> None:
    """The same numbers with bit 30 set."""
    assert answers(arena, "x32") == ABSENT


def test_the_32_bit_entry(arena: Arena) -> None:
    """int 0x80 with the number of getpid: an answer would be a pid."""
    program = """
        import ctypes, mmap
        code = bytes.fromhex("53b814000000cd805bc3")
        page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        page.write(code)
        print(ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))())
    """
    result = arena.python(program, check=False)
    assert result.text.strip() == f"{-errno.ENOSYS}" or result.code == 128 + 11, result


def test_sockets_of_other_families(arena: Arena) -> None:
    """AF_VSOCK, AF_PACKET, AF_ALG, AF_KEY, AF_XDP and more, raw ones, and pairs of them."""
    assert answers(arena, "sockets") == PERM


def test_netlink_other_than_routing(arena: Arena) -> None:
    """Firewall, audit, connector, generic, crypto."""
    assert answers(arena, "netlink") == PERM


def test_typing_into_a_terminal(arena: Arena) -> None:
    """TIOCSTI and TIOCLINUX, also with bits that the kernel cuts off; and TIOCSETD, which loads modules."""
    assert answers(arena, "terminals") == PERM


def test_personality(arena: Arena) -> None:
    """None other than the plain one."""
    assert answers(arena, "personality") == ABSENT


def test_the_resource_limits_of_init(arena: Arena) -> None:
    """Whoever sets them to nothing stops the VM from starting commands."""
    assert answers(arena, "init's limits") == PERM
