"""``leash.py PARENT COMMAND...``: a command that the kernel kills when its parent is gone.

However the parent went: an exception, ``kill -9``, a test runner's time-out. Linux only. To the
kernel the parent is the thread that started the process: a thread that starts services must
outlive them.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Become the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    # It may have gone before the kernel was asked.
    if os.getppid() != parent:
        sys.exit(f"the parent {parent} of {command[0]} is gone")
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
