# SPDX-License-Identifier: Apache-2.0
"""sqlite3 in the folder of argv: write-ahead log in shared memory, many processes, backup; prints the sum."""

import multiprocessing
import os
import sqlite3
import sys

path = os.path.join(sys.argv[1], "data.db")


def add(number):
    with sqlite3.connect(path, timeout=30) as database:
        for _ in range(20):
            database.execute("INSERT INTO numbers VALUES (?)", (number,))
            database.commit()


if __name__ == "__main__":
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
    database.execute("CREATE TABLE numbers (value INTEGER)")
    with multiprocessing.Pool(8) as pool:
        pool.map(add, range(16))
    copy = sqlite3.connect(":memory:")
    database.backup(copy)
    database.execute("VACUUM")
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    print(copy.execute("SELECT sum(value), count(*) FROM numbers").fetchone())
    database.close()
    for suffix in ("", "-wal", "-shm"):
        if os.path.exists(path + suffix):
            os.remove(path + suffix)
