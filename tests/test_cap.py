"""The time cap: it ends what hangs, in any thread, and never strikes anything else."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import pytest

from filters.cap import TimeCapExceeded, time_cap


def spin(seconds=20.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def test_a_spinning_block_is_cut_off_in_the_main_thread():
    began = time.monotonic()
    with pytest.raises(TimeCapExceeded, match=r"ran longer than 0\.05 seconds"), time_cap(0.05):
        spin()
    assert time.monotonic() - began < 10


def test_a_spinning_block_is_cut_off_in_another_thread():
    ends = []

    def work():
        try:
            with time_cap(0.05):
                spin()
        except TimeCapExceeded as error:
            ends.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(15)
    assert ends == ["ran longer than 0.05 seconds"]


def test_code_that_catches_every_exception_is_cut_off_too():
    with pytest.raises(TimeCapExceeded), time_cap(0.05):
        while True:
            try:
                spin(0.01)
            except Exception:
                continue


def test_quick_blocks_are_left_alone_and_nothing_leaks():
    for _ in range(5000):
        with time_cap(30):
            pass
    time.sleep(0.01)


def test_a_cap_that_fires_as_the_block_ends_never_strikes_later():
    """Blocks about as long as their cap: each either passes or raises inside its own ``with``."""
    passed = 0
    for _ in range(300):
        try:
            with time_cap(0.001):
                spin(0.001)
        except TimeCapExceeded:
            continue
        passed += 1
    spin(0.05)
    assert 0 <= passed <= 300


def test_the_inner_of_nested_caps_fires_alone():
    with time_cap(30):
        with pytest.raises(TimeCapExceeded, match=r"0\.05"), time_cap(0.05):
            spin()
        spin(0.01)


def test_the_outer_of_nested_caps_ends_the_inner_block():
    with pytest.raises(TimeCapExceeded, match=r"0\.05"), time_cap(0.05), time_cap(30):
        spin()
    spin(0.01)


def test_errors_of_the_block_pass_through():
    with pytest.raises(KeyError), time_cap(30):
        raise KeyError("x")


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_cap_must_be_positive(seconds):
    with pytest.raises(ValueError, match="must be above 0"):
        time_cap(seconds)


# --- hanging ------------------------------------------------------------------------------------

IN_PYTHON_SLEEP = "import time; time.sleep(60)"
WITHOUT_PYTHON = "import re; re.match('(a+)+$', 'a' * 64 + 'b')"


def run_under_a_hang_limit(block: str, before: str = "pass") -> int:
    """The exit code of a process that runs a block in a thread, under a cap and a hang limit."""
    script = f"""
import threading
from filters.cap import end_when_hanging, time_cap
end_when_hanging(1.0)
def work():
    with time_cap(5):
        {before}
    with time_cap(0.2):
        {block}
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""
    return subprocess.run(
        [sys.executable, "-c", script], check=False, stderr=subprocess.DEVNULL, timeout=60
    ).returncode


@pytest.mark.parametrize("block", [IN_PYTHON_SLEEP, WITHOUT_PYTHON])
@pytest.mark.parametrize("before", ["pass", "import time; time.sleep(0.5)"])
def test_native_code_that_does_not_come_back_ends_the_process(block, before):
    assert run_under_a_hang_limit(block, before) == -signal.SIGALRM


def test_blocks_in_time_never_end_the_process():
    loop = "\n        ".join(["import time", "for _ in range(8): time.sleep(0.02)"])
    assert run_under_a_hang_limit("pass", loop) == 0


def test_an_idle_process_is_not_ended():
    script = """
import time
from filters.cap import end_when_hanging, time_cap
end_when_hanging(0.2)
with time_cap(0.1):
    pass
time.sleep(1)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 0
