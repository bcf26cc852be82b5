# SPDX-License-Identifier: Apache-2.0
"""Runs a command line in a VM of its own, by libera and nothing but the standard library.

    python3 run.py python 'python -V'

ERA_LIBRARY names the library where the loader does not find libera.so.0.
"""

import ctypes
import os
import pathlib
import sys


class Error(ctypes.Structure):
    """struct era_error of era/error.h."""

    _fields_ = [
        ("errnum", ctypes.c_int),
        ("code", ctypes.c_char * 40),
        ("field", ctypes.c_char * 32),
        ("message", ctypes.c_char * 512),
    ]


era = ctypes.CDLL(os.environ.get("ERA_LIBRARY", "libera.so.0"))
for name in ("era_vm_id", "era_result_verdict", "era_result_stdout_path"):
    getattr(era, name).restype = ctypes.c_char_p
Handle = ctypes.c_void_p


def call(function: str, *args: object) -> Handle:
    """Calls a function that hands out a handle; an error becomes an exception."""
    handle, error = Handle(), Error()
    if getattr(era, function)(*args, ctypes.byref(handle), ctypes.byref(error)) < 0:
        raise RuntimeError(f"{error.code.decode()}: {error.message.decode()}")
    return handle


def main(language: str, command: str) -> int:
    """Creates, runs, shows, cleans."""
    state_dir = os.environ.get("AGENT_STATE_DIR")
    session = call("era_open", state_dir.encode() if state_dir else None)
    spec = call("era_vm_spec_new", language.encode())
    vm = call("era_vm_create", session, spec)
    vm_id = era.era_vm_id(vm)
    try:
        run = call("era_run_spec_new_shell", command.encode())
        result = call("era_vm_run", session, vm_id, run)
        print(pathlib.Path(era.era_result_stdout_path(result).decode()).read_text(), end="")
        print(era.era_result_verdict(result).decode(), era.era_result_exit_code(result))
        return int(era.era_result_exit_code(result))
    finally:
        era.era_vm_clean(session, vm_id, ctypes.c_bool(False), None)
        era.era_close(session)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
