"""What lies in docker/ and docs/cluster.md, read without Docker: it refers to what exists."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import tomllib
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import fsspec
import pytest
import yaml
from click.testing import CliRunner
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import cli

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"
PINNED_IMAGE = re.compile(r"[\w./-]+:[\w.-]*\d[\w.-]*")
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
JOB_TEXT = (DOCKER / "rayjob.yaml").read_text("utf-8")
JOB: dict[str, Any] = yaml.safe_load(JOB_TEXT)["spec"]


def load(path: Path) -> ModuleType:
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as (instruction, rest), continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (DOCKER / "Dockerfile").read_text("utf-8"), flags=re.M)
    lines = text.replace("\\\n", " ").splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines if line.strip()]


def copied() -> list[str]:
    """What the Dockerfile copies from the repository."""
    words = [rest.split() for name, rest in instructions() if name == "COPY"]
    assert not any(word.startswith("--from") for line in words for word in line)
    return [source for line in words for source in line[:-1] if not source.startswith("--")]


def pins(path: Path) -> dict[str, str]:
    """Name to version."""
    lines = (line.strip() for line in path.read_text("utf-8").splitlines())
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def parse(command: click.Command, args: Sequence[str], parent: click.Context | None = None) -> None:
    """Read a command line as jatsr would, and run nothing."""
    if isinstance(command, click.Group):
        context = click.Context(command, parent)
        _, found, rest = command.resolve_command(context, list(args))
        assert found is not None
        parse(found, rest, context)
    else:
        command.make_context(command.name, list(args), parent)


def argv(words: str | list[str] | None) -> list[str]:
    return shlex.split(words) if isinstance(words, str) else list(words or [])


def of_compose() -> Iterator[list[str]]:
    for service in SERVICES.values():
        if service["image"].startswith("jatsr"):
            entrypoint = argv(service.get("entrypoint", ["jatsr"]))
            yield from after_jatsr([*entrypoint, *argv(service.get("command"))])


def of_job() -> Iterator[list[str]]:
    yield from after_jatsr(shlex.split(JOB["entrypoint"]))
    for block in re.findall(r"^  # entrypoint: >-\n(?:  #   .*\n)+", JOB_TEXT, flags=re.M):
        other = yaml.safe_load(re.sub(r"^  # ", "", block, flags=re.M))
        yield from after_jatsr(shlex.split(other["entrypoint"]))


def of_docs() -> Iterator[list[str]]:
    text = (ROOT / "docs" / "cluster.md").read_text("utf-8")
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```", text, flags=re.M | re.S)
    for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
        yield from after_jatsr(shlex.split(line, comments=True))


def after_jatsr(words: list[str]) -> Iterator[list[str]]:
    """What follows the command jatsr, or the image that runs it."""
    image = [i for i, word in enumerate(words) if word.startswith("jatsr:") and "run" in words]
    for start in [i for i, word in enumerate(words) if word == "jatsr"] or image:
        yield words[start + 1 :]


LINES = [
    pytest.param(args, id=" ".join(args))
    for args in sorted({tuple(args) for args in (*of_compose(), *of_job(), *of_docs())})
]


def test_command_lines_were_found_in_all_three_places():
    assert {args[0] for args in of_compose()} == {"build", "verify", "info"}
    assert len(list(of_job())) == 2
    assert len(list(of_docs())) >= 5


@pytest.mark.parametrize("args", LINES)
def test_every_command_line_can_be_read(args):
    parse(cli.jatsr, args)


@pytest.mark.parametrize(
    "args", [["build", "a", "b", "--no-such"], ["build", "a"], ["build", "a", "b", "--engine", "x"]]
)
def test_a_command_line_that_cannot_be_read_would_be_noticed(args):
    with pytest.raises(click.UsageError):
        parse(cli.jatsr, args)


def test_base_images_are_pinned_and_stages_exist():
    stages: list[str] = []
    for rest in (rest for name, rest in instructions() if name == "FROM"):
        image, *named = rest.split()
        if "${TORCH}" in image:
            assert {"torch-cpu", "torch-cuda"} <= set(stages)
        elif image not in stages:
            assert PINNED_IMAGE.fullmatch(image), image
        stages += named[1:]
    assert ("ARG", "TORCH=cpu") in instructions()


def test_the_image_runs_jatsr_as_an_ordinary_user():
    last = dict(instructions())
    assert json.loads(last["ENTRYPOINT"]) == ["jatsr"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last["USER"])
    names = [name for name, _ in instructions()]
    assert "ADD" not in names
    assert max(i for i, name in enumerate(names) if name in ("RUN", "COPY")) < names.index("USER")


def test_the_image_copies_what_exists_and_all_of_jatsr():
    assert all((ROOT / source).exists() for source in copied())
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]
    assert set(wheel["targets"]["wheel"]["packages"]) <= set(copied())


def test_the_build_context_is_what_the_image_copies():
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert "*" in lines
    assert {line[1:] for line in lines if line.startswith("!")} == set(copied())


def test_everything_that_the_image_installs_by_name_is_pinned():
    tested, extra = pins(ROOT / "constraints.txt"), pins(DOCKER / "pins.txt")
    assert not {name for name in tested.keys() & extra if tested[name] != extra[name]}
    run = " ".join(rest for name, rest in instructions() if name == "RUN")
    named = re.search(r"requirements\.py ([\w ]+?) >", run)
    assert named is not None
    wanted = load(DOCKER / "requirements.py").requirements(
        ROOT / "pyproject.toml", named.group(1).split()
    )
    for line in [*wanted, "hatchling"]:
        requirement = Requirement(line)
        version = (tested | extra).get(canonicalize_name(requirement.name))
        assert version is not None, line
        assert requirement.specifier.contains(version), line


def test_services_refer_to_what_exists():
    built = {service["image"] for service in SERVICES.values() if "build" in service}
    for name, service in SERVICES.items():
        assert service["image"] in built or PINNED_IMAGE.fullmatch(service["image"]), name
        if "build" in service:
            context = DOCKER / service["build"]["context"]
            assert context.resolve() == ROOT
            assert (context / service["build"]["dockerfile"]).is_file()
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] or (DOCKER / source).is_file(), volume
        for needed, how in service.get("depends_on", {}).items():
            assert needed in SERVICES
            healthy = how["condition"] == "service_healthy"
            assert healthy == ("healthcheck" in SERVICES[needed]), (name, needed)


def test_the_demonstration_is_open_to_this_machine_only():
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_storage_has_the_credentials_and_buckets_that_the_build_uses():
    storage, user = SERVICES["minio"]["environment"], SERVICES["build"]["environment"]
    assert user["AWS_ACCESS_KEY_ID"] == storage["MINIO_ROOT_USER"]
    assert user["AWS_SECRET_ACCESS_KEY"] == storage["MINIO_ROOT_PASSWORD"]
    seeded = shlex.split(SERVICES["seed"]["command"][0])
    buckets = {word.removeprefix("s3://") for word in seeded}
    words = {word for args in of_compose() for word in args if word.startswith("s3://")}
    assert len(words) == 2
    assert {word.removeprefix("s3://").split("/")[0] for word in words} <= buckets


def pods() -> list[dict[str, Any]]:
    """The pod specs of the job."""
    cluster = JOB["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    templates = [JOB["submitterPodTemplate"], *(group["template"] for group in groups)]
    return [template["spec"] for template in templates]


def test_the_job_runs_one_image_with_the_pinned_ray():
    assert JOB["rayClusterSpec"]["rayVersion"] == pins(ROOT / "constraints.txt")["ray"]
    assert len({pod["containers"][0]["image"] for pod in pods()}) == 1
    assert ":latest" not in JOB_TEXT


def test_pods_are_the_user_of_the_image_and_have_no_privileges():
    user = dict(instructions())["USER"]
    for pod in pods():
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True
        assert f"{context['runAsUser']}:{context['runAsGroup']}" == user
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert "env" not in container  # credentials come from the Secret


def test_ray_has_shared_memory_and_credentials_in_every_pod():
    for pod in pods()[1:]:
        (container,) = pod["containers"]
        assert container["envFrom"][0]["secretRef"]["name"] in JOB_TEXT.split("apiVersion")[0]
        mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume["emptyDir"] for volume in pod["volumes"]}
        assert volumes[mounted["/dev/shm"]]["medium"] == "Memory"
        assert set(mounted.values()) == set(volumes)


def test_groups_of_workers_can_hold_the_actors_asked_for():
    groups = {group["groupName"]: group for group in JOB["rayClusterSpec"]["workerGroupSpecs"]}
    assert JOB["rayClusterSpec"]["enableInTreeAutoscaling"] is True
    for group in groups.values():
        assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    (build,) = (args for args in of_job() if "--device" not in args)
    actors = int(build[build.index("--encode-actors") + 1])
    limits = groups["cpu"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert actors <= int(limits["cpu"]) * groups["cpu"]["maxReplicas"]


def test_seed_makes_buckets_and_copies_what_is_not_there(object_storage, tmp_path):
    seed = load(DOCKER / "seed.py").main
    music, other = (f"seeded-{uuid.uuid4().hex}" for _ in range(2))
    (tmp_path / "dusk").mkdir()
    (tmp_path / "dusk" / "river (take 2.1).wav").write_bytes(b"one")
    (tmp_path / "dawn.wav").write_bytes(b"two")
    command = [str(tmp_path), f"s3://{music}/demo", other]

    first = CliRunner().invoke(seed, command, catch_exceptions=False)
    assert "2 files, 2 of them new" in first.output
    (tmp_path / "dawn.wav").write_bytes(b"longer")
    again = CliRunner().invoke(seed, command, catch_exceptions=False)
    assert "2 files, 1 of them new" in again.output

    storage = fsspec.filesystem("s3", use_listings_cache=False)
    assert storage.cat_file(f"{music}/demo/dusk/river (take 2.1).wav") == b"one"
    assert storage.cat_file(f"{music}/demo/dawn.wav") == b"longer"
    assert storage.exists(other)
