"""Each engine starts, works, and leaves nothing behind; what they are built of, part by part."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from conftest import ROOT

from engines import fetch, flink
from engines.fetch import CannotFetch
from engines.ports import END, FIRST, answers, free_port
from engines.prism import prism
from engines.processes import NotStarted, Service, children, workspace
from engines.settings import SETTINGS, hosts, rendered
from engines.store import store

NUMBERS, KEYS = 40, 4
GROUPS = {str(key): sum(range(key, NUMBERS, KEYS)) for key in range(KEYS)}
GONE_SECONDS = 20.0


def graph(folder: str, options: list[str]) -> None:
    """Numbers grouped by their remainder; the sum of each group goes to a file of its name.

    Each worker that got numbers leaves a file named after the pool that started it. It runs as a
    program of its own: only then do workers get these functions by value.
    """
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    def keyed(number):
        open(f"{folder}/pool-{os.getppid()}", "w").close()
        return number % KEYS, number

    def write(group):
        key, numbers = group
        with open(f"{folder}/{key}", "w") as out:
            out.write(str(sum(numbers)))

    with beam.Pipeline(options=PipelineOptions(["--runner=PortableRunner", *options])) as pipeline:
        _ = (
            pipeline
            | beam.Create(range(NUMBERS))
            | beam.Map(keyed)
            | beam.GroupByKey()
            | beam.Map(write)
        )


def sums(folder: Path, options: list[str]) -> dict[str, int]:
    """What the graph wrote on an engine with these options."""
    folder.mkdir()
    options = [option for option in options if not option.startswith("--runner")]
    done = subprocess.run(
        [sys.executable, __file__, str(folder), *options],
        capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {path.name: int(path.read_text()) for path in folder.glob("[0-9]*")}


def pools_used(folder: Path) -> list[int]:
    """The processes of the pools whose workers the graph ran on."""
    return sorted(int(path.name.removeprefix("pool-")) for path in folder.glob("pool-*"))


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def still_there(pids: Iterable[int]) -> list[int]:
    """Which of these processes do not end, given some time."""
    deadline = time.monotonic() + GONE_SECONDS
    while (left := [pid for pid in pids if runs(pid)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


# --- engines --------------------------------------------------------------------------------------


@pytest.mark.needs("flink")
def test_flink_inside_the_job_service(tmp_path):
    with flink.embedded() as engine:
        assert sums(tmp_path / "out", engine.options()) == GROUPS
        pids = [service.pid for service in engine.services()] + engine.workers()
    assert len(pids) >= 2
    assert not still_there(pids)
    assert not engine.folder.exists()


@pytest.mark.needs("flink")
def test_each_taskmanager_of_a_cluster_has_a_pool_of_its_own(tmp_path):
    with flink.cluster(2) as engine:
        assert sums(tmp_path / "out", engine.options()) == GROUPS
        pids = [service.pid for service in engine.services()] + engine.workers()
    assert pools_used(tmp_path / "out") == sorted(pool.pid for pool in engine.pools)
    assert len(pids) >= 6
    assert not still_there(pids)
    assert not engine.folder.exists()


@pytest.mark.needs("flink")
def test_a_lost_taskmanager_is_replaced_in_its_place(tmp_path):
    with flink.cluster(1) as engine:
        [lost], [pool] = engine.taskmanagers, engine.pools
        lost.kill()
        assert not lost.alive
        engine.start_taskmanager()
        assert engine.pools == [pool]
        pool.kill()
        engine.taskmanagers[-1].kill()
        engine.start_taskmanager()
        assert engine.pools[0].alive
        # Those that are gone count until their heartbeats are missed.
        engine.taskmanagers[-1].wait_until(lambda: managers(engine) == 1, "is the only one")
        engine.wait_for_slots(1)
        assert sums(tmp_path / "out", engine.options()) == GROUPS


def managers(engine: flink.Flink) -> int:
    return engine.rest("/overview")["taskmanagers"]


@pytest.mark.needs("prism")
def test_prism(tmp_path):
    with prism() as engine:
        assert sums(tmp_path / "out", engine.options()) == GROUPS
        pids = [service.pid for service in engine.services()] + children(engine.pool.pid)
    assert len(pids) >= 2
    assert not still_there(pids)


@pytest.mark.needs("store")
def test_a_store_keeps_its_objects_through_an_outage():
    with store() as running:
        running.make_bucket("crawl")
        running.client().put_object(Bucket="crawl", Key="a", Body=b"pages")
        running.stop()
        assert not answers(running.port)
        running.start()
        assert running.client().get_object(Bucket="crawl", Key="a")["Body"].read() == b"pages"
        pids = [service.pid for service in running.services()]
    assert not still_there(pids)


@pytest.mark.needs("prism")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_engine_that_is_up_ends_with_its_command(number, tmp_path):
    up = subprocess.Popen(
        [sys.executable, "-m", "engines", "up", "prism"],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert up.stdout is not None
    said = []
    for line in up.stdout:
        said.append(line)
        if line.startswith("cidermill curate ... --runner=prism --job_endpoint=localhost:"):
            break
    pids = [int(line.split("process ")[1].split(",")[0]) for line in said if "process " in line]
    assert all(runs(pid) for pid in pids)
    assert len(pids) == 2
    up.send_signal(number)
    up.wait(timeout=GONE_SECONDS)
    assert not still_there(pids)
    if number != signal.SIGKILL:
        assert (up.returncode, up.stdout.read()) == (0, "stopped\n")
        assert not list(tmp_path.iterdir())


def test_an_engine_that_was_not_fetched_is_named_with_the_remedy(tmp_path):
    for name in ("flink-embedded", "flink-cluster", "prism", "store"):
        done = subprocess.run(
            [sys.executable, "-m", "engines", "up", name],
            cwd=ROOT, capture_output=True, text=True, check=False,
            env={**os.environ, "CIDERMILL_ENGINES": str(tmp_path)},
        )  # fmt: skip
        kind = name.partition("-")[0]
        assert done.returncode == 1
        assert done.stderr.endswith(f"in {tmp_path}; run: python -m engines fetch {kind}\n")


# --- processes ------------------------------------------------------------------------------------


def test_a_service_that_ends_early_tells_what_it_said(tmp_path):
    service = Service("broken", ["sh", "-c", "echo no such broker; exit 3"], tmp_path)
    with pytest.raises(NotStarted, match=f"log {tmp_path}/broken.log\nno such broker"):
        service.wait_for(free_port())
    service.stop()


def test_a_service_that_does_not_answer_is_waited_for_so_long(tmp_path):
    service = Service("idle", ["sleep", "60"], tmp_path)
    with pytest.raises(NotStarted, match="not after 0.2 s answers on 127.0.0.1:"):
        service.wait_for(free_port(), seconds=0.2)
    service.stop()
    assert not service.alive


def test_stopping_a_service_that_was_killed_ends_its_children(tmp_path):
    service = Service("parent", ["sh", "-c", "sleep 60 & sleep 60"], tmp_path)
    service.wait_until(lambda: len(children(service.pid)) == 2, "has children")
    below = children(service.pid)
    service.kill()
    assert not service.alive
    assert all(runs(pid) for pid in below)
    service.stop()
    assert not still_there(below)


def test_a_service_dies_with_whoever_started_it(tmp_path):
    program = (
        "import sys, time; from pathlib import Path; from engines.processes import Service;"
        "print(Service('s', ['sleep', '60'], Path(sys.argv[1])).pid, flush=True); time.sleep(60)"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    deadline = time.monotonic() + GONE_SECONDS
    # Until then it is about to ask the kernel.
    while Path(f"/proc/{pid}/comm").read_text() != "sleep\n" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert runs(pid)
    owner.kill()
    owner.wait()
    assert not still_there([pid])


def test_dead_children_do_not_count(tmp_path):
    program = (
        "import subprocess, time; subprocess.Popen(['true']); subprocess.Popen(['sleep', '60']);"
        "time.sleep(60)"
    )
    service = Service("parent", [sys.executable, "-c", program], tmp_path)
    service.wait_until(lambda: len(children(service.pid)) == 1, "has one child")
    [left] = children(service.pid)
    assert Path(f"/proc/{left}/comm").read_text() in ("sleep\n", "python\n")
    service.stop()


def test_a_workspace_stays_where_something_went_wrong():
    with workspace("test") as good:
        (good / "log").write_text("fine")
    with pytest.raises(NotStarted), workspace("test") as bad:
        (bad / "log").write_text("why")
        raise NotStarted("no")
    assert (good.exists(), (bad / "log").read_text()) == (False, "why")
    (bad / "log").unlink()
    bad.rmdir()


# --- ports, settings, fetching --------------------------------------------------------------------


def test_no_port_is_given_twice():
    program = "from engines.ports import free_port; print(*(free_port() for _ in range(50)))"
    here = {free_port() for _ in range(50)}
    there = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert len(here | {int(word) for word in there.stdout.split()}) == 100
    assert all(FIRST <= port < END for port in here)


def test_a_port_that_is_in_use_is_not_given(monkeypatch):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        offered = iter([taken, 25000 + os.getpid() % 5000])
        monkeypatch.setattr("engines.ports.secrets.randbelow", lambda _: next(offered) - FIRST)
        assert free_port() != taken


def test_settings_are_one_a_line():
    assert rendered({"rest.port": "8081", "a.b": "1 s"}) == "rest.port: 8081\na.b: 1 s\n"
    assert "jobmanager.bind-host: 127.0.0.1\n" in rendered(SETTINGS)


@pytest.mark.parametrize(
    ("name", "value"), [("", "1"), ("a", "1\nb: 2"), ("a: b", "1"), ("a", "1 # b")]
)
def test_settings_that_do_not_fit_a_line_are_refused(name, value):
    with pytest.raises(ValueError, match="does not fit on a line"):
        rendered({name: value})


def test_a_hosts_file_has_one_more_name():
    lines = hosts("workers", "127.0.1.7").splitlines()
    assert lines[0] == "127.0.0.1 localhost"
    assert lines[-1] == "127.0.1.7 workers"


@pytest.mark.parametrize(("what", "tool"), [("prism", "go"), ("store", "go"), ("flink", "mvn")])
def test_a_missing_tool_is_named_with_the_remedy(what, tool, tmp_path, monkeypatch):
    monkeypatch.setenv("CIDERMILL_ENGINES", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotFetch, match=rf"^{tool} is not on the PATH; install "):
        fetch.EVERYTHING[what]()


def distribution(folder: Path, monkeypatch) -> Path:
    """A distribution with one jar, under the address that is fetched; gives the archive."""
    jar = folder / "a.jar"
    jar.write_bytes(b"classes")
    archive = folder / "flink.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(jar, "libraries/deps/lib/a.jar")
        tar.add(jar, "libraries/setup.py")
    monkeypatch.setenv("CIDERMILL_ENGINES", str(folder / "cache"))
    monkeypatch.setattr(fetch, "FLINK", archive.as_uri())
    return archive


def test_a_distribution_is_fetched_once_and_its_jars_unpacked(tmp_path, monkeypatch):
    archive = distribution(tmp_path, monkeypatch)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    monkeypatch.setattr(fetch, "FLINK_SHA256", digest)
    fetch._fetch_distribution()
    assert [path.name for path in (fetch.flink_home() / "lib").iterdir()] == ["a.jar"]
    archive.unlink()
    fetch._fetch_distribution()


def test_a_distribution_with_another_digest_is_refused(tmp_path, monkeypatch):
    distribution(tmp_path, monkeypatch)
    with pytest.raises(CannotFetch, match=f"not {fetch.FLINK_SHA256}"):
        fetch._fetch_distribution()
    assert not fetch.flink_home().exists()


if __name__ == "__main__":
    graph(sys.argv[1], sys.argv[2:])
