"""Running Flink's and Beam's Java processes."""

from __future__ import annotations

import shutil

from engines.fetch import CannotFetch

_EXPORTS = (
    "java.base/sun.net.util",
    "java.management/sun.management",
    "java.rmi/sun.rmi.registry",
    "java.security.jgss/sun.security.krb5",
)
_OPENS = (
    "java.lang java.net java.io java.nio sun.nio.ch java.lang.reflect java.text java.time "
    "java.util java.util.concurrent java.util.concurrent.atomic java.util.concurrent.locks"
).split()


def java(heap: str, *more: str) -> list[str]:
    """The start of a Java command: modules opened as Flink 1.16 needs on Java 17, and the heap.

    Raises:
      CannotFetch: there is no Java.
    """
    program = shutil.which("java")
    if program is None:
        raise CannotFetch("java is not on the PATH; install a JDK 11 or 17")
    opened = [f"--add-exports={name}=ALL-UNNAMED" for name in _EXPORTS]
    opened += [f"--add-opens=java.base/{name}=ALL-UNNAMED" for name in _OPENS]
    # The quick compiler only: jobs here are short, and the thorough one took half of the CPU time.
    return [program, *opened, f"-Xmx{heap}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", *more]
