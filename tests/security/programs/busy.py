# SPDX-License-Identifier: Apache-2.0
"""python3 - processes|threads COUNT SECONDS: that many busy loops for that long."""

import hashlib
import os
import sys
import threading
import time

shape, count, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
end = time.monotonic() + seconds
block = b"x" * (1 << 16)


def loop():
    while time.monotonic() < end:
        hashlib.sha256(block)  # without the interpreter's lock, so that threads are as busy as processes


if shape == "threads":
    threads = [threading.Thread(target=loop) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
else:
    for _ in range(count):
        if os.fork() == 0:
            loop()
            os._exit(0)
    for _ in range(count):
        os.wait()
