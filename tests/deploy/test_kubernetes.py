"""The manifests and the chart for Kubernetes: valid, the same, and true of the code that they run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import kubernetes_validate
import pytest
import yaml

from app.config.settings import Config
from app.observe.pages import observe_routes
from tests.support.configuration import environment_variables, load_config
from tests.support.examples import text_of
from tests.support.processes import REPOSITORY
from tests.support.proxies import FOLDER

_MANIFESTS = FOLDER / "kubernetes"
_CHART = FOLDER / "helm" / "recado"
_KUBERNETES = "1.34"
#: Variables of the manifests alone.
_OWN = {"POD_IP"}
#: Paths of the node that a probe may ask.
PATHS = {str(getattr(route, "path", "")) for route in observe_routes(cast(Any, None), cast(Any, None))}
Manifest = dict[str, Any]


def manifests() -> dict[str, Manifest]:
    """The manifests by their kind, with the image that the kustomization names, and the example of the secret."""
    found: dict[str, Manifest] = {}
    kustomization = yaml.safe_load((_MANIFESTS / "kustomization.yaml").read_text())
    for name in kustomization["resources"]:
        (manifest,) = yaml.safe_load_all((_MANIFESTS / name).read_text())
        found[manifest["kind"]] = manifest
    (image,) = kustomization["images"]
    container = found["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == image["name"]
    container["image"] = f"{image['newName']}:{image['newTag']}"
    return found


MANIFESTS = manifests()
SECRET = yaml.safe_load((_MANIFESTS / "secret.example.yaml").read_text())
POD = MANIFESTS["Deployment"]["spec"]["template"]["spec"]
CONTAINER = POD["containers"][0]


def check_schema(manifest: Manifest) -> None:
    """Check a manifest against the schemas of Kubernetes, without unknown keys."""
    kubernetes_validate.validate(manifest, _KUBERNETES, strict=True)


@pytest.mark.parametrize("manifest", [*MANIFESTS.values(), SECRET], ids=lambda one: one["kind"])
def test_manifests_are_valid(manifest: Manifest) -> None:
    """Each manifest is what the schemas of Kubernetes want, and a key that they do not know is refused."""
    check_schema(manifest)
    with pytest.raises(kubernetes_validate.ValidationError):
        check_schema({**manifest, "specs": {}})


def test_every_file_is_used() -> None:
    """Each file of the folder is a resource, or one of those that are no resource."""
    others = {"kustomization.yaml", "secret.example.yaml", "prometheus-adapter-values.yaml"}
    files = {path.name for path in _MANIFESTS.iterdir()} - others
    assert files == set(yaml.safe_load((_MANIFESTS / "kustomization.yaml").read_text())["resources"])


def test_probes_ask_what_exists() -> None:
    """Each probe asks a path of the node, at a port of the container that is the server's own."""
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    assert ports == {"http": Config().port}
    probes = {name: CONTAINER[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "startupProbe": "/healthz",
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
    }
    notes = MANIFESTS["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert {probe["path"] for probe in probes.values()} | {notes["prometheus.io/path"]} <= PATHS
    assert {probe["port"] for probe in probes.values()} <= ports.keys()
    assert notes["prometheus.io/port"] == str(Config().port)


def test_a_pod_has_time_for_its_end(tmp_path: Path) -> None:
    """The grace period is longer than preStop, drain_timeout and shutdown_timeout together."""
    (tmp_path / "config.yml").write_text(MANIFESTS["ConfigMap"]["data"]["config.yml"])
    (tmp_path / "sites.yml").write_text(SECRET["stringData"]["sites.yml"])
    config = load_config(tmp_path / "config.yml", tmp_path / "sites.yml", {})
    command, seconds = CONTAINER["lifecycle"]["preStop"]["exec"]["command"]
    assert command == "sleep"
    needed = int(seconds) + config.drain_timeout_seconds + config.shutdown_timeout_seconds
    assert needed + 5 <= POD["terminationGracePeriodSeconds"] <= needed + 30
    assert config.sites
    assert config.trusted_proxies


def test_variables_and_secrets_exist() -> None:
    """Each variable is one that the server reads; each key of the secret is in its example; mounts have volumes."""
    names = {variable["name"] for variable in CONTAINER["env"]}
    assert names - _OWN <= environment_variables()
    wanted = {
        variable["valueFrom"]["secretKeyRef"]["key"]
        for variable in CONTAINER["env"]
        if "secretKeyRef" in variable.get("valueFrom", {})
    }
    (settings,) = [volume["projected"] for volume in POD["volumes"] if "projected" in volume]
    for source in settings["sources"]:
        wanted |= {item["key"] for item in source.get("secret", {}).get("items", [])}
    assert wanted == SECRET["stringData"].keys()
    assert {mount["name"] for mount in CONTAINER["volumeMounts"]} == {volume["name"] for volume in POD["volumes"]}
    assert "WORKDIR /etc/recado" in (REPOSITORY / "Dockerfile").read_text()
    assert f"--uid {POD['securityContext']['runAsUser']} " in (REPOSITORY / "Dockerfile").read_text()


def test_selectors_find_the_pods() -> None:
    """The service, the budget, the policy and the autoscaler are about the deployment and its pods."""
    labels = MANIFESTS["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert MANIFESTS["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert MANIFESTS["Service"]["spec"]["selector"] == labels
    assert MANIFESTS["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert MANIFESTS["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    assert MANIFESTS["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == "recado"
    assert MANIFESTS["Service"]["spec"]["ports"][0]["targetPort"] == CONTAINER["ports"][0]["name"]
    backends = [path["backend"]["service"] for path in MANIFESTS["Ingress"]["spec"]["rules"][0]["http"]["paths"]]
    assert {(one["name"], one["port"]["name"]) for one in backends} == {("recado", "http")}
    rules = MANIFESTS["NetworkPolicy"]["spec"]
    assert [port["port"] for rule in rules["ingress"] for port in rule["ports"]] == [Config().port]


def test_the_metric_of_the_autoscaler_exists() -> None:
    """The autoscaler counts by a metric of the node that the adapter's values name."""
    metrics = MANIFESTS["HorizontalPodAutoscaler"]["spec"]["metrics"]
    (name,) = [metric["pods"]["metric"]["name"] for metric in metrics if metric["type"] == "Pods"]
    assert f"| `{name}` | gauge |" in text_of("docs/metrics.md")
    (rule,) = yaml.safe_load((_MANIFESTS / "prometheus-adapter-values.yaml").read_text())["rules"]["custom"]
    assert rule["name"]["as"] == name
    assert rule["metricsQuery"].startswith(f"sum({name}{{")


def rendered(**changes: Any) -> dict[str, Manifest]:
    """The chart's manifests by their kind, with these values in place of its own."""
    chart = yaml.safe_load((_CHART / "Chart.yaml").read_text())
    values = yaml.safe_load((_CHART / "values.yaml").read_text())
    assert changes.keys() <= values.keys()
    for name, value in changes.items():
        values[name] = {**values[name], **value} if isinstance(value, dict) else value
    templates = {path.name: path.read_text() for path in (_CHART / "templates").iterdir()}
    data = {
        "Values": values,
        "Chart": {"AppVersion": chart["appVersion"], "Name": chart["name"]},
        "Release": {"Name": "recado", "Namespace": "push"},
    }
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GO111MODULE": "off"}
    done = subprocess.run(
        ["go", "run", str(Path(__file__).with_name("render.go"))],
        input=json.dumps({"templates": templates, "data": data}),
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    found = [yaml.safe_load(text) for text in json.loads(done.stdout).values()]
    return {manifest["kind"]: manifest for manifest in found if manifest}


def plain(found: Mapping[str, Manifest]) -> dict[str, Manifest]:
    """The manifests with config.yml as values: its text differs, and means the same."""
    copied: dict[str, Manifest] = json.loads(json.dumps(found))
    data = copied["ConfigMap"]["data"]
    data["config.yml"] = yaml.safe_load(data["config.yml"])
    return copied


def test_the_chart_makes_the_manifests() -> None:
    """With its own values and an ingress the chart makes the manifests of the folder."""
    assert plain(rendered(ingress={"enabled": True})) == plain(MANIFESTS)


def test_the_chart_with_other_values() -> None:
    """Each value that is off by default, or can be turned off, makes valid manifests; grace follows the drain."""
    found = rendered(
        autoscaling={"enabled": False},
        networkPolicy={"enabled": False},
        replicas=3,
        imagePullSecrets=[{"name": "registry"}],
        env=[{"name": "RECADO_LOG_LEVEL", "value": "debug"}],
        nodeSelector={"disk": "ssd"},
        tolerations=[{"key": "push", "operator": "Exists"}],
        config={"production": {"drain_timeout": 120}},
        image={"tag": "1.2.3"},
        secret="other",
    )
    assert found.keys() == {"ConfigMap", "Deployment", "PodDisruptionBudget", "Service", "ServiceAccount"}
    for manifest in found.values():
        check_schema(manifest)
    spec = found["Deployment"]["spec"]
    pod = spec["template"]["spec"]
    assert (spec["replicas"], pod["terminationGracePeriodSeconds"]) == (3, 5 + 120 + 8 + 12)
    container = pod["containers"][0]
    assert container["image"] == "registry.example.com/recado:1.2.3"
    assert {"name": "RECADO_LOG_LEVEL", "value": "debug"} in container["env"]
    assert (pod["nodeSelector"], pod["imagePullSecrets"]) == ({"disk": "ssd"}, [{"name": "registry"}])
    assert "other" in json.dumps(container["env"])
    assert not re.search(r'secretKeyRef": {"name": "recado"', json.dumps(container["env"]))


def test_the_versions_are_one() -> None:
    """The package, the chart and the image of the manifests have the same version."""
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((_CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (version, version)
    assert CONTAINER["image"].endswith(f":{version}")
