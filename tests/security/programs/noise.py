# SPDX-License-Identifier: Apache-2.0
"""python3 - KIND MIB: that much on stdout and as much on stderr, both at once."""

import os
import random
import sys
import threading

MIB = 1 << 20
kind, mib = sys.argv[1], int(sys.argv[2])
block = {
    "lines": (b"a line of text\n" * (MIB // 15 + 1))[:MIB],
    "without_newline": b"x" * MIB,
    "binary": random.Random(1).randbytes(MIB),
    "escapes": (b"\x1b[31m\0\xff\r" * (MIB // 8 + 1))[:MIB],
}[kind]


def pour(fd):
    for _ in range(mib):
        rest = memoryview(block)
        while rest:
            rest = rest[os.write(fd, rest) :]


other = threading.Thread(target=pour, args=(2,))
other.start()
pour(1)
other.join()
