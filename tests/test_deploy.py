"""What is shipped for clusters: manifests, images and the flex template hold together.

Nothing here reaches a cluster. What was run on real engines, and what never was, stands in
docs/deploy.md.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib.util
import json
import re
import shlex
import socket
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
import yaml
from apache_beam.options.pipeline_options import (
    DebugOptions,
    FlinkRunnerOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
)
from apache_beam.runners.runner import create_runner
from apache_beam.transforms.environments import ExternalEnvironment
from conftest import ROOT

from pipelines.cli import parser
from pipelines.recipe import shipped

DEPLOY = ROOT / "deploy"
CLUSTER = DEPLOY / "flink" / "cluster"
CURATE = DEPLOY / "flink" / "curate"
DOCKERFILES = sorted(DEPLOY.rglob("*Dockerfile"))
PAGES = [*sorted(DEPLOY.rglob("*.md")), ROOT / "docs" / "deploy.md"]
UNITS = {"m": 1 << 20, "g": 1 << 30, "Mi": 1 << 20, "Gi": 1 << 30}


def documents(path: Path) -> list[dict]:
    return [found for found in yaml.safe_load_all(path.read_text()) if found]


def kustomization(folder: Path) -> dict:
    return yaml.safe_load((folder / "kustomization.yaml").read_text())


@cache
def manifests() -> tuple[dict, ...]:
    """Every object of both kustomizations, without those that kustomize generates."""
    return tuple(
        found
        for folder in (CLUSTER, CURATE)
        for name in kustomization(folder)["resources"]
        for found in documents(folder / name)
    )


def of_kind(kind: str) -> dict[str, dict]:
    return {m["metadata"]["name"]: m for m in manifests() if m["kind"] == kind}


def pods() -> dict[str, dict]:
    """The pod templates, by the name of what makes the pods."""
    made = {**of_kind("Deployment"), **of_kind("Job")}
    return {name: found["spec"]["template"] for name, found in made.items()}


def container(pod: str, name: str) -> dict:
    return next(c for c in pods()[pod]["spec"]["containers"] if c["name"] == name)


def flink_config() -> dict:
    return yaml.safe_load((CLUSTER / "config.yaml").read_text())


def size(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(\w+)", text).groups()
    return int(number) * UNITS[unit]


def job_options() -> tuple[object, PipelineOptions]:
    """The arguments of the run, as `cidermill curate` and as Beam take them."""
    known, rest = parser().parse_known_args(container("cidermill-curate", "submitter")["args"])
    return known, PipelineOptions([f"--runner={known.runner}", *rest])


def lock(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9][\w.-]*)==([^ ;\\\n]+)", path.read_text(), re.MULTILINE))


def load(name: str):
    """A script of deploy/dataflow as a module."""
    path = DEPLOY / "dataflow" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"deploy_dataflow_{name}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


# --- manifests ----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.30", "1.37"])
def test_manifests_follow_the_schemas_of_kubernetes(version):
    validate = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate, which carries the schemas, is absent"
    )
    for manifest in manifests():
        validate.validate(manifest, version, strict=True)


def test_every_file_is_in_a_kustomization():
    for folder in (CLUSTER, CURATE):
        settings = kustomization(folder)
        named = {*settings["resources"], "kustomization.yaml"}
        for generator in settings.get("configMapGenerator", []):
            named |= set(generator["files"])
        for generator in settings.get("secretGenerator", []):
            named |= {f"{name}.example" for name in generator["envs"]}
        present = {p.name for p in folder.iterdir() if p.name != "object-store.env"}
        assert named == present


def test_credentials_are_not_committed():
    assert "object-store.env" in (DEPLOY / ".gitignore").read_text().splitlines()
    example = (CLUSTER / "object-store.env.example").read_text()
    assert re.search(r"^AWS_SECRET_ACCESS_KEY=$", example, re.MULTILINE)


def test_what_pods_refer_to_exists():
    settings = kustomization(CLUSTER)
    maps = {g["name"]: g["files"] for g in settings["configMapGenerator"]}
    secrets = {g["name"] for g in settings["secretGenerator"]}
    for name, pod in pods().items():
        volumes = {v["name"]: v for v in pod["spec"].get("volumes", [])}
        used = set()
        for part in pod["spec"]["containers"]:
            for source in part.get("envFrom", []):
                assert source["secretRef"]["name"] in secrets, name
            for mount in part.get("volumeMounts", []):
                used.add(mount["name"])
                config = volumes[mount["name"]].get("configMap")
                if config:
                    assert mount["subPath"] in maps[config["name"]], name
        assert used == set(volumes), f"{name}: volumes and mounts differ"


def test_services_and_probes_lead_to_open_ports():
    for name, service in of_kind("Service").items():
        wanted = service["spec"]["selector"].items()
        chosen = [p for p in pods().values() if wanted <= p["metadata"]["labels"].items()]
        assert len(chosen) == 1, name
        ports = {
            port["name"]: port["containerPort"]
            for part in chosen[0]["spec"]["containers"]
            for port in part["ports"]
        }
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"], name
    for name, pod in pods().items():
        for part in pod["spec"]["containers"]:
            ports = {port["name"] for port in part.get("ports", [])}
            for key, probe in part.items():
                if key.endswith("Probe"):
                    how = probe.get("tcpSocket") or probe["httpGet"]
                    assert how["port"] in ports, f"{name}: {key}"


def test_addresses_name_a_service_and_its_port():
    ports = {
        name: {port["port"] for port in service["spec"]["ports"]}
        for name, service in of_kind("Service").items()
    }
    text = "\n".join(p.read_text() for p in (*CLUSTER.glob("*.yaml"), *CURATE.glob("*.yaml")))
    found = re.findall(r"=([a-z][a-z0-9-]*):(\d+)$", text, re.MULTILINE)
    assert len(found) >= 4
    for host, port in found:
        assert host == "localhost" or int(port) in ports[host], host
    config = flink_config()
    assert config["jobmanager"]["rpc"]["address"] in ports
    assert config["rest"]["port"] in ports[config["rest"]["address"]]
    assert config["blob"]["server"]["port"] in ports[config["rest"]["address"]]


def test_deployments_select_their_own_pods_and_the_policy_lets_them_talk():
    allowed = of_kind("NetworkPolicy")["cidermill-only"]["spec"]["ingress"][0]["from"][0]
    for name, deployment in of_kind("Deployment").items():
        labels = deployment["spec"]["template"]["metadata"]["labels"].items()
        assert deployment["spec"]["selector"]["matchLabels"].items() <= labels, name
    for name, pod in pods().items():
        wanted = allowed["podSelector"]["matchLabels"].items()
        assert wanted <= pod["metadata"]["labels"].items(), name


def test_pods_satisfy_the_restricted_profile_that_the_namespace_enforces():
    labels = of_kind("Namespace")["cidermill"]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    for name, pod in pods().items():
        context = pod["spec"]["securityContext"]
        assert context["runAsNonRoot"] is True, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for part in pod["spec"]["containers"]:
            own = part["securityContext"]
            assert own["allowPrivilegeEscalation"] is False, name
            assert own["capabilities"] == {"drop": ["ALL"]}, name
            assert {**context, **own}["runAsUser"] > 0, name
            assert part["resources"]["requests"]["memory"] == part["resources"]["limits"]["memory"]


# --- Flink and Beam agree -----------------------------------------------------------------------


def test_slots_processes_and_parallelism_agree():
    slots = flink_config()["taskmanager"]["numberOfTaskSlots"]
    replicas = of_kind("Deployment")["flink-taskmanager"]["spec"]["replicas"]
    _, options = job_options()
    assert int(options.view_as(PortableOptions).sdk_worker_parallelism) == slots
    assert options.view_as(FlinkRunnerOptions).parallelism == replicas * slots
    assert flink_config()["parallelism"]["default"] == replicas * slots
    pool = container("flink-taskmanager", "python-worker-pool")["resources"]["requests"]
    assert int(pool["cpu"]) >= slots
    assert size(pool["memory"]) >= slots * size("2Gi")


def test_flink_fits_its_containers():
    for role in ("jobmanager", "taskmanager"):
        wanted = size(flink_config()[role]["memory"]["process"]["size"])
        limit = size(container(f"flink-{role}", role)["resources"]["limits"]["memory"])
        assert 0.8 * limit < wanted < 0.95 * limit, role


def test_the_run_finds_the_worker_pool_beside_each_task_manager():
    _, options = job_options()
    portable = options.view_as(PortableOptions)
    pool = container("flink-taskmanager", "python-worker-pool")
    assert pool["command"] == ["python", "-m", "pipelines.worker_pool", "0.0.0.0", "50000"]
    assert [port["containerPort"] for port in pool["ports"]] == [50000]
    assert portable.environment_type == "EXTERNAL"
    assert portable.environment_config == "localhost:50000"


def test_the_run_stages_no_files():
    """The job server's disk is not the TaskManagers': a staged file would not be found."""
    _, options = job_options()
    found = ExternalEnvironment.from_options(options.view_as(PortableOptions))
    assert list(found._artifacts) == []
    # Where pip is, as in the image, Beam would stage what is installed.
    assert options.view_as(DebugOptions).lookup_experiment("disable_logging_submission_environment")


def test_beam_knows_the_runner_and_every_option():
    known, options = job_options()
    assert type(create_runner(known.runner)).__name__ == "FlinkRunner"
    beam = argparse.ArgumentParser(allow_abbrev=False)
    for view in (PortableOptions, FlinkRunnerOptions, DebugOptions, StandardOptions):
        view._add_argparse_args(beam)
    assert beam.parse_known_args(options._flags)[1] == []
    assert known.recipe in shipped()


def test_work_lies_where_all_workers_reach_it():
    known, _ = job_options()
    assert known.work_dir is None
    assert known.output.startswith("s3://")


# --- versions and images ------------------------------------------------------------------------


BEAM_VERSION = re.compile(
    r"""(?:beam[\w.]*_(?:sdk|job_server):|__version__\ ==\ '|\|\ Beam\ [^|]*\|\ )(\d+\.\d+\.\d+)""",
    re.VERBOSE,
)


def test_beam_is_the_locked_version_everywhere():
    wanted = lock(ROOT / "requirements.lock")["apache-beam"]
    found = {
        path.relative_to(DEPLOY): set(BEAM_VERSION.findall(path.read_text()))
        for path in (*DEPLOY.rglob("*.yaml"), *DEPLOY.rglob("*.md"), *DOCKERFILES)
    }
    named = {path.name for path, versions in found.items() if versions}
    assert {"Dockerfile", "job-server.yaml", "README.md"} <= named
    for path, versions in found.items():
        assert versions <= {wanted}, path


def test_flink_is_a_version_that_this_beam_publishes_a_job_server_for():
    images = {part["image"] for pod in pods().values() for part in pod["spec"]["containers"]}
    flink = {image for image in images if image.startswith("flink:")}
    assert len(flink) == 1
    minor = re.match(r"flink:(\d+\.\d+)\.\d+-", flink.pop()).group(1)
    assert minor in FlinkRunnerOptions.PUBLISHED_FLINK_VERSIONS
    assert any(image.startswith(f"apache/beam_flink{minor}_job_server:") for image in images)


def images_of(path: Path) -> list[str]:
    """The images that a Dockerfile starts from, its own stages left out, arguments filled in."""
    text = path.read_text()
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", text, re.MULTILINE))
    values = dict(re.findall(r"^ARG (\w+)=(\S+)", text, re.MULTILINE))
    named = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    named += re.findall(r"(?:--from|,from)=([^\s,]+)", text)
    filled = [re.sub(r"\$\{(\w+)\}", lambda m: values[m.group(1)], name) for name in named]
    return [name for name in filled if name not in stages]


def test_every_image_has_a_fixed_tag():
    replaced = {
        image["name"]: f"{image['newName']}:{image['newTag']}"
        for folder in (CLUSTER, CURATE)
        for image in kustomization(folder)["images"]
    }
    named = [part["image"] for pod in pods().values() for part in pod["spec"]["containers"]]
    found = [replaced.get(image, image) for image in named]
    found += [image for path in DOCKERFILES for image in images_of(path)]
    assert len(found) >= 8
    for image in found:
        assert re.search(r":\d[\w.-]*$|@sha256:[0-9a-f]{64}$", image), image
    for path in DEPLOY.rglob("*"):
        if path.suffix in {".yaml", ".md"} or "Dockerfile" in path.name:
            assert ":latest" not in path.read_text(), path


def test_the_image_is_of_the_packages_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for folder in (CLUSTER, CURATE):
        assert [image["newTag"] for image in kustomization(folder)["images"]] == [version]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_images_copy_what_exists_and_what_the_build_is_given(path):
    ignored = path.with_name(f"{path.name}.dockerignore").read_text().splitlines()
    given = [line[1:] for line in ignored if line.startswith("!")]
    text = path.read_text().replace("\\\n", " ")
    copies = [shlex.split(line)[1:-1] for line in text.splitlines() if line.startswith("COPY ")]
    sources = [name for names in copies if not names[0].startswith("--from") for name in names]
    assert sources
    for name in sources:
        assert (ROOT / name).exists(), name
        assert any(fnmatch.fnmatch(name, pattern) for pattern in given), f"{name} is left out"


def test_the_image_holds_the_whole_package():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    text = (DEPLOY / "Dockerfile").read_text()
    for pattern in patterns["packages"]["find"]["include"]:
        name = pattern.rstrip("*")
        assert f"COPY {name} {name}\n" in text


def test_the_images_lock_has_the_locked_versions_and_a_hash_for_each():
    remedy = "make deploy/requirements.lock anew; the command is in its head"
    own, root = lock(DEPLOY / "requirements.lock"), lock(ROOT / "requirements.lock")
    differing = {n: (own[n], root[n]) for n in own.keys() & root.keys() if own[n] != root[n]}
    assert not differing, remedy
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.match(r"[\w-]+", line).group().lower() for line in project["dependencies"]}
    assert needed <= own.keys(), remedy
    assert {"boto3", "google-cloud-dataflow-client", "google-cloud-storage"} <= own.keys()
    assert not {"pytest", "mypy", "ruff"} & own.keys()
    entries = re.split(r"^(?=[a-z0-9])", (DEPLOY / "requirements.lock").read_text(), flags=re.M)[1:]
    assert all("--hash=sha256:" in entry for entry in entries)


# --- flex template ------------------------------------------------------------------------------

METADATA_KEYS = {"name", "description", "parameters", "streaming"}
PARAMETER_KEYS = {"name", "label", "helpText", "isOptional", "paramType", "regexes"}
"""Those we use of the fields in cloud.google.com/dataflow/docs/reference/rest/v1b3."""


def metadata() -> dict:
    return json.loads((DEPLOY / "dataflow" / "metadata.json").read_text())


def test_metadata_has_documented_fields_only():
    found = metadata()
    assert found.keys() == METADATA_KEYS
    for parameter in found["parameters"]:
        assert parameter.keys() <= PARAMETER_KEYS
        assert {"name", "label", "helpText"} <= parameter.keys()
        assert parameter["paramType"] == "TEXT"
        for pattern in parameter["regexes"]:
            assert re.compile(pattern)


def test_metadata_is_what_the_dataflow_client_takes():
    dataflow = pytest.importorskip(
        "google.cloud.dataflow_v1beta3", reason="the Dataflow client (apache-beam[gcp]) is absent"
    )
    text = (DEPLOY / "dataflow" / "metadata.json").read_text()
    found = dataflow.TemplateMetadata.from_json(text, ignore_unknown_fields=False)
    assert [p.name for p in found.parameters] == [p["name"] for p in metadata()["parameters"]]


def test_parameters_are_options_of_curate_or_of_beam():
    values = {p["name"]: "1" for p in metadata()["parameters"]} | {"kind": "warc"}
    flags = [f"--{name}={value}" for name, value in values.items()]
    known, rest = parser().parse_known_args(["curate", *flags])
    assert rest == ["--sdk_container_image=1"]
    assert "sdk_container_image" in PipelineOptions(rest).get_all_options(drop_default=True)
    assert known.input == ["1"]


EXAMPLES = {
    "input": (["gs://b-1/a/*.warc.gz", "@s3://bucket/list.gz"], ["/tmp/x", "gs://b", "gs://bb/"]),
    "output": (["gs://bucket/corpus"], ["gs://bucket", "gs://bucket/corpus/", "out"]),
    "sdk_container_image": (
        ["us-docker.pkg.dev/p/r/cidermill:0.1.0", f"gcr.io/p/c@sha256:{'0' * 64}"],
        ["us-docker.pkg.dev/p/r/cidermill", "cidermill:0.1.0"],
    ),
    "recipe": (["web", "fineweb", "/recipes/mine.yaml"], ["gs://b/mine.yaml", "mine.yaml"]),
    "kind": (["auto", "wet"], ["pdf"]),
    "prefix": (["s3://commoncrawl/"], ["crawl/"]),
    "benchmarks": (["demo", "/opt/benchmarks/mine"], ["gs://bucket/index"]),
    "sample": (["0.01", "1", "1.0", ".5"], ["0", "1.5", "2", "0.0", "-1"]),
    "seed": (["0", "7"], ["-1", "x"]),
    "limit": (["1", "10000"], ["0", "1e6"]),
}


def test_regexes_accept_what_curate_takes_and_nothing_else():
    assert {p["name"] for p in metadata()["parameters"]} == EXAMPLES.keys()
    for parameter in metadata()["parameters"]:
        good, bad = EXAMPLES[parameter["name"]]
        (pattern,) = parameter["regexes"]
        assert all(re.fullmatch(pattern, text) for text in good), parameter["name"]
        assert not any(re.fullmatch(pattern, text) for text in bad), parameter["name"]


def test_metadata_names_every_kind_and_recipe():
    patterns = {p["name"]: p["regexes"][0] for p in metadata()["parameters"]}
    curate = parser()._subparsers._group_actions[0].choices["curate"]
    kinds = next(a.choices for a in curate._actions if a.dest == "kind")
    assert patterns["kind"] == f"^({'|'.join(kinds)})$"
    assert all(re.fullmatch(patterns["recipe"], name) for name in shipped())


def test_the_template_launches_and_a_second_command_concludes(tmp_path, capsys):
    launch, conclude = load("template").main, load("conclude_run").main
    forum = str(ROOT / "samples" / "forum.warc.gz")
    run = ["--input", forum, "--output", str(tmp_path / "out"), "--limit", "4"]
    assert conclude(run) == 3
    assert "not finished" in capsys.readouterr().err
    assert launch([*run, "--runner=FnApiRunner"]) == 0
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert conclude(run) == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["total"]["counts"]["read"] == 4
    assert launch(run) == 2, "the local runner is no Beam runner"


# --- what Dataflow is sent ----------------------------------------------------------------------


def test_the_job_is_within_the_limits_and_installs_nothing(monkeypatch):
    pytest.importorskip(
        "google.cloud.dataflow", reason="the Dataflow client (apache-beam[gcp]) is absent"
    )

    def refused(*_):
        raise AssertionError("the translation opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refused)
    check = load("check_job")
    few, many = check.measure(3), check.measure(300)
    assert many.excesses() == []
    assert few.packages == ()
    assert few.image == check.IMAGE
    assert few.transforms == many.transforms > 30
    assert abs(many.request - few.request) < 100, "the request grows with the inputs"


def test_a_job_beyond_a_limit_is_named():
    measured = load("check_job").Measured(
        inputs=200_000,
        request=20_000_000,
        graph=10_000_001,
        transforms=64,
        largest=1,
        largest_name="Inputs",
        image="",
        packages=(),
    )
    (sentence,) = measured.excesses()
    assert "the graph of a job with 200,000 inputs has 10,000,001 bytes" in sentence
    assert "10,000,000" in sentence


# --- pages --------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_name_files_that_exist(page):
    text = page.read_text()
    for name in re.findall(r"(?<![\w/.])deploy/[\w./-]+", text):
        if not name.endswith("object-store.env"):
            assert (ROOT / name.rstrip(".")).exists(), name
    for name in re.findall(r"\]\(([^)#:]+)[)#]", text):
        assert (page.parent / name).exists(), name
