"""contrib/kubernetes and contrib/docker, without a container engine: the side-car runs here with the
arguments of the manifest, and what the Dockerfile names is looked up in the tree.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from http_client import get
from operators_kit import INSTALLED_SIDE_CAR, KIT, ROOT, options_of, run, serving, side_car
from programs import HANG, running

MANIFEST = yaml.safe_load((KIT / "kubernetes" / "side-car.yaml").read_text("utf-8"))
POD = MANIFEST["spec"]["template"]["spec"]
APPLICATION, SIDE_CAR = POD["containers"]
DOCKERFILE = (KIT / "docker" / "Dockerfile").read_text("utf-8")

COUNTING = """
from pytheus_backend_rs import SharedMemoryBackend
load_backend(SharedMemoryBackend, config)
Counter("http_requests_total", "Requests served.").inc()
print("counted", flush=True)
sys.stdin.readline()
"""


# The manifest


def mount(container: Any) -> Any:
    (found,) = container["volumeMounts"]
    return found


def test_both_containers_see_one_file_as_one_user() -> None:
    assert mount(APPLICATION)["name"] == mount(SIDE_CAR)["name"] == POD["volumes"][0]["name"]
    store = APPLICATION["env"][0]["value"].partition("?")[0]
    assert store.startswith(f"shm://{mount(APPLICATION)['mountPath']}/")
    assert f"--store={store}" in SIDE_CAR["args"] and mount(SIDE_CAR)["readOnly"]
    # Neither has a user of its own.
    assert not [one for one in (APPLICATION, SIDE_CAR) if "runAsUser" in one["securityContext"]]
    assert POD["securityContext"]["runAsUser"] == POD["securityContext"]["fsGroup"] != 0


def test_the_volume_has_room_for_the_file() -> None:
    table = (ROOT / "docs" / "shared-memory.md").read_text("utf-8")
    (size_limit,) = re.findall(r"^\| `size_limit` \| `(\d+)` \|", table, re.MULTILINE)
    mebibytes = re.fullmatch(r"(\d+)Mi", POD["volumes"][0]["emptyDir"]["sizeLimit"])
    assert mebibytes and int(mebibytes[1]) * 1024**2 >= int(size_limit)


@pytest.mark.parametrize("container", [APPLICATION, SIDE_CAR], ids=["application", "side-car"])
def test_a_container_gets_no_right_that_it_does_not_need(container: Any) -> None:
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert POD["securityContext"]["runAsNonRoot"] and POD["securityContext"]["seccompProfile"]
    assert POD["automountServiceAccountToken"] is False


def test_the_side_car_runs_with_the_arguments_of_the_manifest(tmp_path: Path) -> None:
    command, *options = SIDE_CAR["args"]
    assert {option.partition("=")[0] for option in options} <= options_of(command)
    (port,) = SIDE_CAR["ports"]
    assert f"--listen=:{port['containerPort']}" in options
    path = mount(SIDE_CAR)["mountPath"]
    here = {f"--listen=:{port['containerPort']}": "--listen=127.0.0.1:0"}
    options = [here.get(option, option).replace(f"shm://{path}/", f"shm://{tmp_path}/") for option in options]
    probes = [SIDE_CAR["livenessProbe"]["httpGet"], SIDE_CAR["readinessProbe"]["httpGet"]]
    assert {probe["port"] for probe in probes} == {port["name"]}
    with serving([command, *options]) as served:
        # The application has not made the file yet.
        assert get(served, "/metrics").status == 503
        assert [get(served, probe["path"]).status for probe in probes] == [200, 200]
        with running(COUNTING, {"path": str(tmp_path / "values")}) as application:
            application.line()
            assert "\nhttp_requests_total 1\n" in get(served, "/metrics").text


def test_prometheus_scrapes_the_side_car_of_the_pod_and_names_its_service(tmp_path: Path) -> None:
    """promtool gets the labels that Kubernetes would give the ports: Debian's knows no Kubernetes."""
    (job,) = yaml.safe_load((KIT / "kubernetes" / "scrape.yml").read_text("utf-8"))
    assert job.pop("kubernetes_sd_configs") == [{"role": "pod"}]
    pod = MANIFEST["spec"]["template"]["metadata"]["labels"]
    labels = {f"pod_label_{re.sub(r'[^a-z]', '_', name)}": value for name, value in pod.items()}
    labels |= {"namespace": "default", "pod_name": "shop-1"}
    ports = {SIDE_CAR["ports"][0]["name"]: "10.0.0.1:9464", "http": "10.0.0.1:8000"}
    job["static_configs"] = [
        {
            "targets": [address],
            "labels": {
                f"__meta_kubernetes_{name}": value
                for name, value in {**labels, "pod_container_port_name": port}.items()
            },
        }
        for port, address in ports.items()
    ]
    configuration = tmp_path / "prometheus.yml"
    configuration.write_text(yaml.safe_dump({"scrape_configs": [job]}), "utf-8")
    done = run("promtool", "check", "service-discovery", configuration, job["job_name"])
    assert done.returncode == 0, done.stdout + done.stderr
    scraped = [target["labels"] for target in json.loads(done.stdout) if target.get("labels")]
    assert scraped == [
        {
            "__address__": "10.0.0.1:9464",
            "__metrics_path__": "/metrics",
            "__scheme__": "http",
            "__scrape_interval__": "15s",
            "__scrape_timeout__": "12s",
            "instance": "10.0.0.1:9464",
            "job": job["job_name"],
            "namespace": "default",
            "pod": "shop-1",
            "service": "shop",
        }
    ]


def test_the_side_car_reads_a_file_on_a_read_only_mount(tmp_path: Path) -> None:
    remount = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && ! touch "$0/x"'
    with running(COUNTING, {"path": str(tmp_path / "values")}) as application:
        application.line()
        dump = [side_car(), "dump", "--store", f"shm://{tmp_path}/values"]
        done = run(
            "unshare", "--map-root-user", "--mount", "sh", "-c", f'{remount} && exec "$@"', tmp_path, *dump
        )
    assert done.returncode == 0 and "\nhttp_requests_total 1\n" in done.stdout, done.stderr


# The Dockerfile


def instructions() -> list[list[str]]:
    """Returns the instructions of the Dockerfile, each as its name and its words."""
    lines = [line for line in DOCKERFILE.splitlines() if line and not line.startswith("#")]
    return [line.split() for line in lines]


def copied() -> list[tuple[list[str], str]]:
    """Returns what the Dockerfile copies from the tree: the sources and the destination of each instruction."""
    found = []
    for name, *words in instructions():
        if name == "COPY" and not words[0].startswith("--from="):
            found.append((words[:-1], words[-1]))
    return found


def test_the_dockerfile_copies_what_exists() -> None:
    sources = [source for sources, _ in copied() for source in sources]
    assert len(sources) > 5
    assert [source for source in sources if not (ROOT / source).exists()] == []


def test_the_dockerfile_builds_the_side_car_with_the_oldest_rust_and_starts_it() -> None:
    manifest = (ROOT / "Cargo.toml").read_text("utf-8")
    (version,) = re.findall(r'^rust-version = "(.+)"$', manifest, re.MULTILINE)
    assert ["FROM", f"rust:{version}-slim-bookworm", "AS", "build"] in instructions()
    crate = (ROOT / "side-car" / "Cargo.toml").read_text("utf-8")
    package, program = re.findall(r'^name = "(.+)"$', crate, re.MULTILINE)
    (build,) = [words for name, *words in instructions() if name == "RUN"]
    assert build == shlex.split(f"cargo build --release --locked --package {package}")
    (workdir,) = [words[0] for name, *words in instructions() if name == "WORKDIR"]
    (carried,) = [words for name, *words in instructions() if name == "COPY" and words[0] == "--from=build"]
    assert carried[1:] == [f"{workdir}/target/release/{program}", INSTALLED_SIDE_CAR]
    (entry,) = re.findall(r"^ENTRYPOINT (.+)$", DOCKERFILE, re.MULTILINE)
    assert json.loads(entry) == [INSTALLED_SIDE_CAR]


def test_the_container_serves_the_store_of_its_environment(tmp_path: Path) -> None:
    (line,) = re.findall(r"^CMD (.+)$", DOCKERFILE, re.MULTILINE)
    command, option, address = json.loads(line)
    assert option in options_of(command) and ["EXPOSE", address.removeprefix(":")] in instructions()
    arguments = [command, option, "127.0.0.1:0"]
    with serving(arguments, PYTHEUS_BACKEND_RS_STORE=f"shm://{tmp_path}/metrics") as port:
        assert get(port, "/-/healthy").status == 200


def test_cargo_reads_what_the_dockerfile_copies_to_the_build(tmp_path: Path) -> None:
    """Without the benchmarks, for example, cargo would refuse the manifest."""
    for sources, destination in copied():
        if destination.startswith("/"):
            continue
        for source in sources:
            target = tmp_path / destination / (Path(source).name if destination.endswith("/") else "")
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, target)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, target)
    done = subprocess.run(
        ["cargo", "metadata", "--locked", "--offline", "--format-version=1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=HANG,
    )
    assert done.returncode == 0, done.stderr
    members = json.loads(done.stdout)["workspace_members"]
    assert any("side-car" in member for member in members)
