"""Fetch and build what the engines need, at pinned versions, into one folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
import urllib.request
from collections.abc import Callable
from pathlib import Path

PRISM = "github.com/apache/beam/sdks/v2/go/cmd/prism@v2.77.0"
STORE = "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c"
JOB_SERVICE = ("org.apache.beam", "beam-runners-flink-1.16", "2.56.0")
LOGGER = ("org.slf4j", "slf4j-simple", "1.7.30")
FLINK = (
    "https://files.pythonhosted.org/packages/48/09/"
    "d942aad22d58b58c49ec567bf792d49a7bb47411575edcc34216878e7bbf/"
    "apache-flink-libraries-1.16.3.tar.gz"
)
FLINK_SHA256 = "d15df4185e9c507836b031879b64e18f68955dd7e90cd7d39b450513ed64ebbe"
"""The Flink distribution as PyPI has it: a package of its jars."""


class CannotFetch(RuntimeError):
    """A tool is missing, or a registry did not give what was asked for."""


def cache() -> Path:
    """Where everything goes: ``CIDERMILL_ENGINES``, or ``engines/.cache``."""
    named = os.environ.get("CIDERMILL_ENGINES")
    return Path(named) if named else Path(__file__).resolve().parent / ".cache"


def prism_program() -> Path:
    """The built Prism."""
    return cache() / "bin" / "prism"


def store_program() -> Path:
    """The built object store."""
    return cache() / "bin" / "minio"


def job_service_classes() -> Path:
    """A file with the class path of Beam's job service for Flink."""
    return cache() / "job-service" / "classpath.txt"


def flink_home() -> Path:
    """The Flink distribution: ``lib`` and ``conf``."""
    return cache() / "flink"


def fetch_prism() -> None:
    """Build Prism with Go."""
    _go(PRISM, prism_program())


def fetch_store() -> None:
    """Build the S3-compatible server with Go."""
    _go(STORE, store_program())


def fetch_flink() -> None:
    """Beam's job service, with a Flink inside, from Maven; the Flink distribution from PyPI."""
    _fetch_job_service()
    _fetch_distribution()


EVERYTHING: dict[str, Callable[[], None]] = {
    "prism": fetch_prism,
    "store": fetch_store,
    "flink": fetch_flink,
}


def _tool(name: str, remedy: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise CannotFetch(f"{name} is not on the PATH; {remedy}")
    return found


def _run(command: list[str], cwd: Path, environment: dict[str, str] | None = None) -> None:
    """Run a command quietly. Raises ``CannotFetch`` with the end of what it said."""
    cwd.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()[-5:]
        raise CannotFetch(f"{' '.join(command)} failed: " + " | ".join(lines))


def _go(package: str, program: Path) -> None:
    mark = program.with_suffix(".version")
    if program.exists() and mark.exists() and mark.read_text() == package:
        return
    print(f"building {package}", flush=True)
    go = _tool("go", "install Go 1.24 or later")
    _run([go, "install", package], program.parent, {"GOBIN": str(program.parent)})
    mark.write_text(package)


def _dependency(coordinates: tuple[str, str, str]) -> str:
    group, artifact, version = coordinates
    return (
        f"<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>"
        f"<version>{version}</version></dependency>"
    )


def _fetch_job_service() -> None:
    target = job_service_classes()
    project = (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>cidermill</groupId><artifactId>engines</artifactId><version>1</version>"
        f"<dependencies>{_dependency(JOB_SERVICE)}{_dependency(LOGGER)}</dependencies></project>\n"
    )
    pom = target.with_name("pom.xml")
    if _has_all_jars(target) and pom.exists() and pom.read_text() == project:
        return
    print(f"fetching {':'.join(JOB_SERVICE)} and what it needs", flush=True)
    mvn = _tool("mvn", "install Maven and a JDK 11 or 17")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    pom.write_text(project)
    _run(
        [mvn, "-q", "-B", "--strict-checksums", "dependency:build-classpath",
         f"-Dmdep.outputFile={target}", "-Dmdep.includeScope=runtime"],
        target.parent,
    )  # fmt: skip


def _has_all_jars(classes: Path) -> bool:
    # They lie in Maven's own repository, which others may clear.
    return classes.exists() and all(map(os.path.exists, classes.read_text().strip().split(":")))


def _fetch_distribution() -> None:
    home = flink_home()
    mark = home / "version"
    if mark.exists() and mark.read_text() == FLINK:
        return
    archive = cache() / "downloads" / FLINK.rpartition("/")[2]
    _download(FLINK, archive, FLINK_SHA256)
    shutil.rmtree(home, ignore_errors=True)
    (home / "lib").mkdir(parents=True)
    with tarfile.open(archive) as tar:
        for member in tar:
            if "/lib/" in member.name and member.name.endswith(".jar"):
                source = tar.extractfile(member)
                if source is not None:
                    with open(home / "lib" / Path(member.name).name, "wb") as out:
                        shutil.copyfileobj(source, out)
    mark.write_text(FLINK)
    archive.unlink()


def _download(address: str, target: Path, sha256: str) -> None:
    """Fetch a file and check its digest."""
    print(f"fetching {address}", flush=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(address, timeout=180) as source, open(target, "wb") as out:
            while piece := source.read(1 << 20):
                digest.update(piece)
                out.write(piece)
    except OSError as error:
        raise CannotFetch(f"{address}: {error}") from None
    if digest.hexdigest() != sha256:
        target.unlink()
        raise CannotFetch(f"{address} has the digest {digest.hexdigest()}, not {sha256}")
