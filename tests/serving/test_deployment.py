"""The files in serving/: each one parses as what it is for, and names, ports, labels and paths agree across them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from keras_tagger.serving.config_files import MESSAGES

SERVING = Path(__file__).parents[2] / "serving"
NAME = "keras_tagger"
IMAGE = "tensorflow/serving:2.17.0"
METRICS_PATH = "/monitoring/prometheus/metrics"
# Of tensorflow_model_server 2.17, those that are used here or may well be.
FLAGS = {
    *("port", "rest_api_port", "rest_api_timeout_in_ms", "rest_api_num_threads", "model_name", "model_base_path"),
    *("model_config_file", "model_config_file_poll_wait_seconds", "allow_version_labels_for_unavailable_models"),
    *("monitoring_config_file", "enable_batching", "batching_parameters_file", "ssl_config_file"),
    *("tensorflow_intra_op_parallelism", "tensorflow_inter_op_parallelism", "tensorflow_session_parallelism"),
    *("file_system_poll_wait_seconds", "max_num_load_retries", "enable_model_warmup"),
}


def text(name: str) -> str:
    return (SERVING / name).read_text(encoding="utf-8")


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(text(name)))


@pytest.fixture(scope="module")
def resources() -> dict[tuple[str, str], dict[str, Any]]:
    """All resources of the kustomization, as they are in the files."""
    found = [document for name in kustomization()["resources"] for document in documents(name)]
    return {(entry["kind"], entry["metadata"]["name"]): entry for entry in found}


def kustomization() -> dict[str, Any]:
    return documents("kustomization.yaml")[0]


def flags_of(arguments: list[str]) -> dict[str, str]:
    """Flags by name; each must be one that the stock server has."""
    found = dict(re.fullmatch(r"--([a-z_0-9]+)=(\S+)", argument).groups() for argument in arguments)
    assert set(found) <= FLAGS
    assert len(found) == len(arguments)
    return found


def container(resources: dict[tuple[str, str], dict[str, Any]]) -> dict[str, Any]:
    (only,) = resources["Deployment", "keras-tagger"]["spec"]["template"]["spec"]["containers"]
    return only


def dockerfile() -> dict[str, list[str]]:
    """Arguments by instruction; lines that go on are joined."""
    joined = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text("Dockerfile"), flags=re.MULTILINE))
    found: dict[str, list[str]] = {}
    for line in filter(None, map(str.strip, joined.splitlines())):
        instruction, arguments = line.split(maxsplit=1)
        found.setdefault(instruction, []).append(arguments)
    return found


def every_command_line(resources: dict[tuple[str, str], dict[str, Any]]) -> dict[str, list[str]]:
    return {
        "Dockerfile": json.loads(dockerfile()["CMD"][0]),
        "compose": documents("compose.yaml")[0]["services"]["serving"]["command"],
        "Deployment": container(resources)["args"],
    }


@pytest.mark.parametrize(
    ("file", "labels", "versions"),
    [
        ("models.config", {"stable": 1, "canary": 1}, [1]),
        ("models.canary.config", {"stable": 1, "canary": 2}, [1, 2]),
    ],
)
def test_models_config(file, labels, versions):
    config = text_format.Parse(text(f"config/{file}"), model_server_config_pb2.ModelServerConfig())
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == (NAME, f"/models/{NAME}", "tensorflow")
    assert dict(model.version_labels) == labels
    assert list(model.model_version_policy.specific.versions) == versions
    # A label on a version that is not served makes the server refuse the whole file.
    assert set(labels.values()) <= set(versions)


def test_batching_parameters():
    batching = text_format.Parse(text("config/batching_parameters.config"), MESSAGES["BatchingParameters"]())
    assert batching.max_batch_size.value == 16
    assert batching.batch_timeout_micros.value == 2000
    assert batching.num_batch_threads.value == 2
    assert batching.max_enqueued_batches.value == 64
    assert not batching.pad_variable_length_inputs
    assert list(batching.allowed_batch_sizes) == []


def test_monitoring_config():
    prometheus = text_format.Parse(text("config/monitoring.config"), MESSAGES["MonitoringConfig"]()).prometheus_config
    assert (prometheus.enable, prometheus.path) == (True, METRICS_PATH)


@pytest.mark.parametrize("proto", [MESSAGES[name] for name in ("BatchingParameters", "MonitoringConfig", "SSLConfig")])
def test_a_field_that_does_not_exist_is_found(proto):
    with pytest.raises(text_format.ParseError):
        text_format.Parse("no_such_field: 1", proto())


def test_command_lines_agree(resources):
    found = {where: flags_of(arguments) for where, arguments in every_command_line(resources).items()}
    for flags in found.values():
        assert (flags["port"], flags["rest_api_port"]) == ("8500", "8501")
        files = {name: value for name, value in flags.items() if name.endswith("_file")}
        assert files == {
            "model_config_file": "/config/models.config",
            "monitoring_config_file": "/config/monitoring.config",
        }
        assert all((SERVING / value.lstrip("/")).is_file() for value in files.values())
        assert flags["allow_version_labels_for_unavailable_models"] == "true"
    # Without polling, the runbook's steps would each need new pods.
    assert found["Deployment"]["model_config_file_poll_wait_seconds"] == "30"
    assert found["compose"]["model_config_file_poll_wait_seconds"] == "30"


def test_dockerfile():
    found = dockerfile()
    assert found["ARG"][0] == f"TF_SERVING_VERSION={IMAGE.partition(':')[2]}"
    assert found["FROM"] == ["tensorflow/serving:${TF_SERVING_VERSION}"]
    assert found["COPY"] == [f"${{EXPORT}} /models/{NAME}", "serving/config /config"]
    assert json.loads(found["ENTRYPOINT"][0]) == ["tensorflow_model_server"]
    assert found["USER"] == ["65532:65532"]
    ignored = [line for line in text("Dockerfile.dockerignore").splitlines() if not line.startswith("#")]
    assert ignored == ["*", "!exported", "!serving/config"]


def test_compose():
    (compose,) = documents("compose.yaml")
    assert sorted(compose["services"]) == ["grafana", "prometheus", "serving"]
    serving = compose["services"]["serving"]
    assert serving["image"] == IMAGE
    assert serving["entrypoint"] == ["tensorflow_model_server"]
    for service in compose["services"].values():
        assert set(service.get("depends_on", [])) <= set(compose["services"])
        for port in service["ports"]:
            assert re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port)
        for volume in service["volumes"]:
            source, _, mode = volume.split(":")
            assert mode == "ro"
            assert source == "../exported" or (SERVING / source).exists()
    assert f"../exported:/models/{NAME}:ro" in serving["volumes"]
    probe = " ".join(serving["healthcheck"]["test"])
    assert f"GET /v1/models/{NAME}/metadata HTTP/1.0" in probe
    (scrape,) = documents("monitoring/prometheus.yaml")[0]["scrape_configs"]
    assert scrape["metrics_path"] == METRICS_PATH
    assert scrape["static_configs"] == [{"targets": ["serving:8501"]}]


def test_the_health_check_of_compose_tells_ready_from_not_ready(tmp_path):
    """Run as the container would, against a server that answers as the stock one does."""
    if shutil.which("bash") is None:
        pytest.skip("expected bash on PATH")
    import http.server
    import threading

    code = 404

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(code if self.path == f"/v1/models/{NAME}/metadata" else 500)
            self.end_headers()

        def log_message(self, *words: Any) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        test = documents("compose.yaml")[0]["services"]["serving"]["healthcheck"]["test"]
        command = [word.replace("8501", str(server.server_port)) for word in test[1:]]
        statuses = []
        for code in (404, 200):  # noqa: B007  (the handler reads it)
            statuses.append(subprocess.run(command, capture_output=True, timeout=30).returncode)
        server.shutdown()
    assert statuses == [1, 0]


def test_names_selectors_and_ports_agree(resources):
    deployment = resources["Deployment", "keras-tagger"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert labels == {"app.kubernetes.io/name": "keras-tagger"}
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    only = container(resources)
    assert only["image"] == IMAGE
    ports = {port["name"]: port["containerPort"] for port in only["ports"]}
    assert ports == {"grpc": 8500, "http": 8501}
    for name in ("keras-tagger", "keras-tagger-pods"):
        service = resources["Service", name]["spec"]
        assert service["selector"] == labels
        for port in service["ports"]:
            assert ports[port["targetPort"]] == port["port"]
    assert resources["Service", "keras-tagger-pods"]["spec"]["clusterIP"] == "None"
    budget = resources["PodDisruptionBudget", "keras-tagger"]["spec"]
    assert (budget["selector"]["matchLabels"], budget["maxUnavailable"]) == (labels, 1)
    target = resources["HorizontalPodAutoscaler", "keras-tagger"]["spec"]
    assert target["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "keras-tagger"}
    assert 2 <= target["minReplicas"] < target["maxReplicas"]
    # Replicas in the file would undo the autoscaler's at every apply.
    assert "replicas" not in deployment["spec"]


def test_probes(resources):
    only = container(resources)
    ready = {"path": f"/v1/models/{NAME}/metadata", "port": "http"}
    assert only["readinessProbe"]["httpGet"] == only["startupProbe"]["httpGet"] == ready
    assert only["livenessProbe"]["tcpSocket"] == {"port": "grpc"}
    grace = resources["Deployment", "keras-tagger"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    command = only["lifecycle"]["preStop"]["exec"]["command"]
    timeout = int(flags_of(only["args"])["rest_api_timeout_in_ms"]) / 1000
    assert command[0] == "sleep"
    assert grace >= int(command[1]) + timeout
    # The autoscaler counts in shares of the request.
    assert only["resources"]["requests"]["cpu"] == flags_of(only["args"])["tensorflow_intra_op_parallelism"]
    assert "memory" in only["resources"]["limits"]


def test_mounts_and_volumes_agree(resources):
    spec = resources["Deployment", "keras-tagger"]["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    mounts = {mount["mountPath"]: mount["name"] for mount in container(resources)["volumeMounts"]}
    assert sorted(mounts) == ["/config", "/models", "/tmp"]
    assert set(mounts.values()) == set(volumes)
    claim = volumes[mounts["/models"]]["persistentVolumeClaim"]["claimName"]
    assert ("PersistentVolumeClaim", claim) in resources
    (generated,) = kustomization()["configMapGenerator"]
    assert volumes[mounts["/config"]]["configMap"]["name"] == generated["name"]
    packed = {Path(file).name for file in generated["files"]}
    for name, value in flags_of(container(resources)["args"]).items():
        assert not name.endswith("_file") or Path(value).name in packed
    assert all((SERVING / file).is_file() for file in generated["files"])
    assert kustomization()["generatorOptions"] == {"disableNameSuffixHash": True}
    assert kustomization()["namespace"] == "keras-tagger"
    assert ("Namespace", "keras-tagger") in resources


def test_pod_monitor(resources):
    monitor = resources["PodMonitor", "keras-tagger"]
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert monitor["spec"]["selector"]["matchLabels"] == {"app.kubernetes.io/name": "keras-tagger"}
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint == {"port": "http", "path": METRICS_PATH, "interval": "15s"}


def test_every_manifest_is_in_the_kustomization():
    assert sorted(kustomization()["resources"]) == sorted(f"k8s/{path.name}" for path in (SERVING / "k8s").iterdir())


@pytest.mark.parametrize("version", ["1.30", "1.33"])
def test_manifests_fit_the_schemas_of_kubernetes(resources, version):
    validator = pytest.importorskip("kubernetes_validate")
    for (kind, _), resource in resources.items():
        if kind != "PodMonitor":
            validator.validate(resource, version, strict=True)
    broken = json.loads(json.dumps(resources["Deployment", "keras-tagger"]))
    broken["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]["httpGet"]["pathe"] = "/"
    with pytest.raises(validator.ValidationError):
        validator.validate(broken, version, strict=True)


def test_kustomize_renders_them_all(resources):
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("expected kubectl on PATH")
    done = subprocess.run([kubectl, "kustomize", str(SERVING)], capture_output=True, text=True, check=True)
    rendered = {(entry["kind"], entry["metadata"]["name"]): entry for entry in yaml.safe_load_all(done.stdout)}
    assert set(rendered) == {*resources, ("ConfigMap", "keras-tagger-config")}
    data = rendered["ConfigMap", "keras-tagger-config"]["data"]
    assert data["models.config"] == text("config/models.config")
    assert {entry["metadata"].get("namespace", "keras-tagger") for entry in rendered.values()} == {"keras-tagger"}


def dashboard() -> dict[str, Any]:
    return json.loads(text("monitoring/dashboard.json"))


def expressions() -> list[str]:
    return [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]


def metric_names() -> set[str]:
    """Names of all series that the dashboard asks for."""
    queries = [*expressions(), *(variable["definition"] for variable in dashboard()["templating"]["list"][1:])]
    return set(re.findall(r"(?<![\w:]):[a-zA-Z_][\w:]*", " ".join(queries)))


def test_dashboard_asks_for_series_of_the_server():
    served = {":tensorflow:serving:request_count"}
    for histogram in ("request_latency", "runtime_latency"):
        served |= {f":tensorflow:serving:{histogram}_{part}" for part in ("bucket", "sum", "count")}
    assert metric_names() <= served
    assert {":tensorflow:serving:request_count", ":tensorflow:serving:request_latency_bucket"} <= metric_names()


def test_dashboard_is_whole():
    board = dashboard()
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) >= 6
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(places)
    variables = {variable["name"] for variable in board["templating"]["list"]}
    for expression in expressions():
        assert expression.count("(") == expression.count(")")
        assert expression.count("{") == expression.count("}")
        used = set(re.findall(r"\$(?!__)(\w+)", expression))
        assert used <= variables
    for panel in panels:
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert [target["refId"] for target in panel["targets"]] == sorted({t["refId"] for t in panel["targets"]})
    (source,) = documents("monitoring/datasources.yaml")[0]["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = documents("monitoring/dashboards.yaml")[0]["providers"]
    mounted = documents("compose.yaml")[0]["services"]["grafana"]["volumes"]
    assert any(volume.split(":")[1].startswith(provider["options"]["path"]) for volume in mounted)


def test_the_readme_names_files_that_exist():
    page = text("README.md")
    for name in re.findall(r"`(?:serving/)?((?:config|k8s|monitoring)/[\w./]*)`", page):
        assert (SERVING / name).exists()
    assert {"models.canary.config", "ssl_config_file"} <= set(re.findall(r"[\w.]+", page))


def test_the_readmes_ssl_config_is_one(tmp_path):
    (snippet,) = re.findall(r"python - > ssl\.config <<'END'\n(.*?)\n    END", text("README.md"), re.DOTALL)
    pems = {"server.key": 'key\n"quoted"\n', "server.pem": "certificate\n", "ca.pem": "authority\nü\n"}
    for name, content in pems.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    code = re.sub(r"^    ", "", snippet, flags=re.MULTILINE)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    config = text_format.Parse(done.stdout, MESSAGES["SSLConfig"]())
    assert (config.server_key, config.server_cert, config.client_verify) == (
        pems["server.key"],
        pems["server.pem"],
        True,
    )
