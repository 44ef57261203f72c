"""The Ray cluster on Kubernetes: its pods by Kubernetes' schema, the rest by KubeRay's fields."""

from __future__ import annotations

import copy
import csv
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from ray._private.label_utils import validate_node_label_syntax
from ray.scripts.scripts import start

from tests.deploy.conftest import DEPLOY, ROOT
from workers.products import BOARD_LABEL, label_value

FILE = DEPLOY / "kuberay" / "raycluster.yaml"
CLUSTER = yaml.safe_load(FILE.read_text())
KUBERNETES = "1.37"

#: The fields KubeRay documents (CRD reference of version 1.6, ray.io/v1) of what is used here.
SPEC = {
    "authOptions", "autoscalerOptions", "enableInTreeAutoscaling", "gcsFaultToleranceOptions",
    "headGroupSpec", "headServiceAnnotations", "managedBy", "rayVersion", "suspend",
    "upgradeStrategy", "workerGroupSpecs",
}  # fmt: skip
AUTH = {"mode": {"disabled", "token"}, "enableK8sTokenAuth": None, "secretName": None}
AUTOSCALER = {
    "version": {"v1", "v2"}, "upscalingMode": {"Default", "Aggressive", "Conservative"},
    "idleTimeoutSeconds": None, "image": None, "imagePullPolicy": None, "env": None,
    "envFrom": None, "resources": None, "securityContext": None, "volumeMounts": None,
}  # fmt: skip
GROUP = {"rayStartParams", "template", "labels", "resources"}
HEAD = GROUP | {"enableIngress", "headService", "serviceType"}
WORKERS = GROUP | {
    "groupName", "replicas", "minReplicas", "maxReplicas", "numOfHosts", "idleTimeoutSeconds",
    "scaleStrategy", "suspend",
}  # fmt: skip


def groups(cluster: Mapping) -> list[Mapping]:
    return [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]


def problems(cluster: Mapping) -> list[str]:
    """What Kubernetes, KubeRay or `ray start` would not take, or would take otherwise."""
    spec = cluster["spec"]
    found = [f"spec.{key}" for key in set(spec) - SPEC]
    found += _fields("authOptions", spec["authOptions"], AUTH)
    found += _fields("autoscalerOptions", spec["autoscalerOptions"], AUTOSCALER)
    found += [f"headGroupSpec.{key}" for key in set(spec["headGroupSpec"]) - HEAD]
    for group in spec["workerGroupSpecs"]:
        found += [f"{group['groupName']}.{key}" for key in set(group) - WORKERS]
        counts = [group[key] for key in ("minReplicas", "replicas", "maxReplicas")]
        found += [] if counts == sorted(counts) else [f"{group['groupName']}: replicas"]
    for group in groups(cluster):
        found += _pod(group["template"]) + _start(group["rayStartParams"])
    return found


def _fields(name: str, given: Mapping, known: Mapping) -> list[str]:
    unknown = [f"{name}.{key}" for key in set(given) - set(known)]
    values = [k for k, v in given.items() if known.get(k) and v not in known[k]]
    return unknown + [f"{name}.{key}: {given[key]}" for key in values]


def _pod(template: Mapping) -> list[str]:
    metadata = {"name": "pod", **template.get("metadata", {})}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
    try:
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [error.message]
    return []


def _start(parameters: Mapping) -> list[str]:
    """KubeRay makes options of `ray start` of these; each value is a string."""
    options = {name for parameter in start.params for name in parameter.opts}
    found = [name for name in parameters if f"--{name}" not in options]
    return found + [name for name, value in parameters.items() if not isinstance(value, str)]


def test_every_field_is_known():
    assert (CLUSTER["apiVersion"], CLUSTER["kind"]) == ("ray.io/v1", "RayCluster")
    assert problems(CLUSTER) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda c: c["spec"].update(autoscaling=True), "autoscaling"),
        (lambda c: c["spec"]["authOptions"].update(mode="tokens"), "tokens"),
        (lambda c: c["spec"]["autoscalerOptions"].update(version=2), "version"),
        (lambda c: c["spec"]["workerGroupSpecs"][0].update(label={}), "label"),
        (lambda c: c["spec"]["workerGroupSpecs"][0].update(replicas=9), "replicas"),
        (lambda c: groups(c)[1]["template"]["spec"].update(nodeSelectors={}), "nodeSelectors"),
        (lambda c: groups(c)[1]["template"]["spec"]["containers"][0].pop("name"), "name"),
        (lambda c: groups(c)[0]["rayStartParams"].update({"dashboard": "x"}), "dashboard"),
        (lambda c: groups(c)[0]["rayStartParams"].update({"num-cpus": 0}), "num-cpus"),
    ],
)
def test_a_field_that_is_not_known_is_seen(change, word):
    broken = copy.deepcopy(CLUSTER)
    change(broken)
    assert any(word in problem for problem in problems(broken))


def test_tokens_are_asked_for_and_the_dashboard_stays_inside():
    assert CLUSTER["spec"]["authOptions"] == {"mode": "token"}
    assert groups(CLUSTER)[0]["rayStartParams"]["dashboard-host"] == "127.0.0.1"
    assert CLUSTER["spec"]["autoscalerOptions"]["version"] == "v2"
    assert CLUSTER["spec"]["enableInTreeAutoscaling"] is True


def test_the_cluster_runs_the_ray_that_is_pinned():
    assert CLUSTER["spec"]["rayVersion"] == version("ray")


def test_a_group_is_a_board_of_the_catalogue_and_its_nodes_are_asked_for_it():
    with (ROOT / "conf" / "catalog" / "boards.csv").open(newline="") as file:
        products = {row["slug"]: row["nvml_name"] for row in csv.DictReader(file)}
    for group in CLUSTER["spec"]["workerGroupSpecs"]:
        slug = group["groupName"]
        label = {BOARD_LABEL: label_value(slug)}
        assert group["labels"] == group["template"]["metadata"]["labels"] == label
        validate_node_label_syntax(group["labels"])
        product = group["template"]["spec"]["nodeSelector"]["nvidia.com/gpu.product"]
        assert product == products[slug].replace(" ", "-")


def run(arguments: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a container's command with a stand-in for NVML's answer and for KubeRay's own command."""
    text = arguments[0].replace("/run/campaign/store/pgpass", str(folder / "mounted"))
    (folder / "mounted").write_text("*:*:*:*:secret\n")
    (folder / "mounted").chmod(0o440)
    (folder / "python").write_text('#!/bin/bash\n[[ "$*" == "-m workers.label --expect a100" ]]\n')
    (folder / "python").chmod(0o755)
    given = {
        "PATH": f"{folder}:/usr/bin:/bin", "PGPASSFILE": str(folder / "pgpass"),
        "KUBERAY_GEN_RAY_START_CMD": "echo started --labels='{\"a\": 1}'", **environment,
    }  # fmt: skip
    return subprocess.run(
        ["/bin/bash", "-c", "--", text], env=given, capture_output=True, text=True, check=False
    )


def test_a_container_starts_ray_with_a_password_file_that_libpq_takes(tmp_path):
    for group, board in zip(groups(CLUSTER)[:2], ("", "a100"), strict=True):
        (container,) = group["template"]["spec"]["containers"]
        assert container["command"] == ["/bin/bash", "-c", "--"]
        done = run(container["args"], tmp_path, BOARD=board)
        assert (done.returncode, done.stdout) == (0, 'started --labels={"a": 1}\n')
        assert (tmp_path / "pgpass").stat().st_mode & 0o777 == 0o600


def test_a_node_with_other_boards_never_starts_ray(tmp_path):
    for group in CLUSTER["spec"]["workerGroupSpecs"]:
        (container,) = group["template"]["spec"]["containers"]
        done = run(container["args"], tmp_path, BOARD="h100")
        assert (done.returncode, done.stdout) == (1, "")
