# SPDX-License-Identifier: Apache-2.0
"""Counts the words of /workspace/in and adds them to what the volume remembers."""

import collections
import json
import pathlib

memory = pathlib.Path("/workspace/persist/words.json")
counts = collections.Counter(json.loads(memory.read_text()) if memory.exists() else {})
for path in pathlib.Path("/workspace/in").glob("*.txt"):
    counts.update(path.read_text().lower().split())
memory.write_text(json.dumps(counts))
pathlib.Path("/workspace/out/top.json").write_text(json.dumps(counts.most_common(3)))
