"""Tables in bytes: what is read back, and on which threads."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines import tables

TABLE = pa.table({"id": ["a", "b"], "text": ["one", "two"], "length": [3, 4]})

# A process of its own: in this one Arrow's threads may run already.
COUNTED = """
import os
import pyarrow as pa
from pipelines import tables
content = tables.to_bytes(pa.table({"id": list(range(10_000)), "text": ["a"] * 10_000}))
before = len(os.listdir("/proc/self/task"))
tables.from_bytes(content)
print(len(os.listdir("/proc/self/task")) - before)
"""


def test_what_was_written_is_read_back():
    assert tables.from_bytes(tables.to_bytes(TABLE)).equals(TABLE)


def test_some_columns_are_read_in_the_order_asked_for():
    found = tables.from_bytes(tables.to_bytes(TABLE), ["length", "id"])
    assert found.equals(TABLE.select(["length", "id"]))


def test_one_column_can_be_left_out():
    found = tables.read(io.BytesIO(tables.to_bytes(TABLE)), without="text")
    assert found.equals(TABLE.select(["id", "length"]))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no list of threads")
def test_reading_leaves_nothing_to_threads_that_may_outlive_the_process():
    done = subprocess.run(
        [sys.executable, "-c", COUNTED], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["0"]
