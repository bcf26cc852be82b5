# SPDX-License-Identifier: Apache-2.0
"""python3 - terminals: opens all that can be had; prints how many, and holds them until its input ends."""

import ctypes
import resource
import sys

libc = ctypes.CDLL(None, use_errno=True)
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
take = {"terminals": libc.getpt}[sys.argv[1]]
count = 0
while take() >= 0:
    count += 1
print(count, flush=True)
sys.stdin.read()
