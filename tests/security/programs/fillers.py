# SPDX-License-Identifier: Apache-2.0
"""python3 - NAME FOLDER: fills a folder in one way until the kernel says no; prints errno and how far it came.

What it made lies in FOLDER/fill and is left there, but for what has no name any more.
"""

import errno
import itertools
import json
import os
import sys

MIB = 1 << 20
name, folder = sys.argv[1], sys.argv[2] + "/fill"
os.mkdir(folder)


def one_file_by_fallocate(step):
    with open(f"{folder}/file", "ab") as file:
        os.posix_fallocate(file.fileno(), 0, (step + 1) * MIB)


def one_file_by_steps(step):
    with open(f"{folder}/file", "ab", buffering=0) as file:
        if file.write(b"x" * MIB) < MIB:
            file.write(b"x")


def sparse_files(step):
    """Each says that it is huge, and holds one block in the middle of it."""
    with open(f"{folder}/{step}", "wb", buffering=0) as file:
        file.truncate(1 << 30)
        for offset in range(0, 1 << 30, 64 * MIB):
            os.pwrite(file.fileno(), b"x" * 4096, offset)


kept = []


def deleted_files(step):
    kept.append(open(f"{folder}/{step}", "wb", buffering=0))
    os.unlink(f"{folder}/{step}")
    written = kept[-1].write(b"x" * MIB)
    if written < MIB:
        kept[-1].write(b"x")


def names(step):
    os.close(os.open(f"{folder}/{step:0100d}", os.O_CREAT))


def folders(step):
    os.mkdir(f"{folder}/{step}")


def links_to_one(step):
    """Names of one file: they take room in their folder, and no inode."""
    if step % 60000 == 0:
        os.close(os.open(f"{folder}/file-{step // 60000}", os.O_CREAT))
    os.link(f"{folder}/file-{step // 60000}", f"{folder}/{'x' * 200}{step}")


def symbolic_links(step):
    os.symlink("x" * 1000, f"{folder}/{step}")


def attributes(step):
    """As many and as large as a file may have, of one file after the other."""
    path = f"{folder}/{step // 16}"
    if step % 16 == 0:
        os.close(os.open(path, os.O_CREAT))
    try:
        os.setxattr(path, f"user.{step}", b"x" * 700)
    except OSError as error:
        if error.errno != errno.ENOSPC or step % 16 == 0:
            raise  # in the middle of a file it is the file that is full


for step in itertools.count():
    try:
        globals()[name](step)
    except OSError as error:
        print(json.dumps({"errno": error.errno, "steps": step}))
        break
    if step >= 2_000_000:
        sys.exit("there is no end")
