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
IMAGE = "tensorflow/serving:2.20.0"
METRICS_PATH = "/monitoring/prometheus/metrics"
OVERLAYS = sorted(path.name for path in (SERVING / "overlays").iterdir())
# Of tensorflow_model_server, those that are used here or may well be.
FLAGS = {
    *("port", "rest_api_port", "rest_api_timeout_in_ms", "rest_api_num_threads", "model_name", "model_base_path"),
    *("model_config_file", "model_config_file_poll_wait_seconds", "allow_version_labels_for_unavailable_models"),
    *("monitoring_config_file", "enable_batching", "batching_parameters_file", "ssl_config_file"),
    *("tensorflow_intra_op_parallelism", "tensorflow_inter_op_parallelism", "tensorflow_session_parallelism"),
    *("file_system_poll_wait_seconds", "max_num_load_retries", "enable_model_warmup", "enable_profiler"),
}


def text(name: str) -> str:
    return (SERVING / name).read_text(encoding="utf-8")


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(text(name)))


Resources = dict[tuple[str, str], dict[str, Any]]


def by_name(found: list[dict[str, Any]]) -> Resources:
    return {(entry["kind"], entry["metadata"]["name"]): entry for entry in found}


@pytest.fixture(scope="module")
def resources() -> Resources:
    """All resources of k8s/ and of the default overlay, as they are in the files."""
    names = [f"k8s/{name}" for name in kustomization("k8s")["resources"] if not name.startswith("..")]
    names += [f"overlays/volume/{name}" for name in kustomization("overlays/volume")["resources"][1:]]
    return by_name([document for name in names for document in documents(name)])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Resources]:
    """What kustomize makes of each overlay with every component."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("expected kubectl on PATH")
    place = tmp_path_factory.mktemp("built") / "serving"
    shutil.copytree(SERVING, place)
    components = [f"components/{path.name}" for path in sorted((SERVING / "components").iterdir())]
    found = {}
    for overlay in OVERLAYS:
        content = {**kustomization("."), "resources": [f"overlays/{overlay}"], "components": components}
        (place / "kustomization.yaml").write_text(yaml.safe_dump(content))
        done = subprocess.run([kubectl, "kustomize", str(place)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found[overlay] = by_name(list(yaml.safe_load_all(done.stdout)))
    return found


def kustomization(folder: str) -> dict[str, Any]:
    return documents(f"{folder}/kustomization.yaml")[0]


def flags_of(arguments: list[str]) -> dict[str, str]:
    """Flags by name; each must be one that the stock server has."""
    found = dict(re.fullmatch(r"--([a-z_0-9]+)=(\S+)", argument).groups() for argument in arguments)
    assert set(found) <= FLAGS
    assert len(found) == len(arguments)
    return found


def container(resources: Resources) -> dict[str, Any]:
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


def every_command_line(resources: Resources) -> dict[str, list[str]]:
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
        assert flags["enable_profiler"] == "false"
    # Without polling, the runbook's steps would each need new pods.
    assert found["Deployment"]["model_config_file_poll_wait_seconds"] == "30"
    assert found["compose"]["model_config_file_poll_wait_seconds"] == "30"


def test_dockerfile():
    found = dockerfile()
    assert found["ARG"][0] == f"TF_SERVING_VERSION={IMAGE.partition(':')[2]}"
    assert found["FROM"] == ["tensorflow/serving:${TF_SERVING_VERSION}"]
    assert found["COPY"] == [f"${{EXPORT}} /models/{NAME}", "serving/config /config"]
    assert json.loads(found["ENTRYPOINT"][0]) == ["tini", "--", "tensorflow_model_server"]
    assert "tini" in found["RUN"][0]
    assert found["USER"] == ["65532:65532"]
    ignored = [line for line in text("Dockerfile.dockerignore").splitlines() if not line.startswith("#")]
    assert ignored == ["*", "!exported", "!serving/config"]


def test_compose():
    (compose,) = documents("compose.yaml")
    assert sorted(compose["services"]) == ["grafana", "prometheus", "serving"]
    serving = compose["services"]["serving"]
    assert serving["image"] == IMAGE
    assert (serving["entrypoint"], serving["init"]) == (["tensorflow_model_server"], True)
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
        # REST is not for clients: deeply nested JSON crashes the stock server.
        assert [(port["port"], port["targetPort"]) for port in service["ports"]] == [(8500, "grpc")]
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


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_mounts_and_volumes_agree(built, overlay):
    resources = built[overlay]
    spec = resources["Deployment", "keras-tagger"]["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    mounts = {mount["mountPath"]: mount for mount in container(resources)["volumeMounts"]}
    models = set() if overlay == "image" else {"/models"}
    assert set(mounts) == {"/config", "/tmp", "/tls", *models}
    assert {mount["name"] for mount in mounts.values()} == set(volumes)
    assert all(mounts[path]["readOnly"] for path in ("/config", "/tls", *models))
    config = resources["ConfigMap", volumes["config"]["configMap"]["name"]]
    assert config["data"]["models.config"] == text("config/models.config")
    for name, value in flags_of(container(resources)["args"]).items():
        packed = {"/config": config["data"], "/tls": ["ssl.config"]}
        assert not name.endswith("_file") or Path(value).name in packed[str(Path(value).parent)]
    # A running server reads the changed file, so the name must stay without a hash.
    assert config["metadata"]["name"] == "keras-tagger-config"
    assert {entry["metadata"].get("namespace", "keras-tagger") for entry in resources.values()} == {"keras-tagger"}
    assert ("Namespace", "keras-tagger") in resources


def test_where_the_models_come_from(built):
    volume = built["volume"]["PersistentVolumeClaim", "keras-tagger-models"]["spec"]
    assert (volume["accessModes"], bool(volume["storageClassName"])) == (["ReadWriteMany"], True)
    spec = built["volume"]["Deployment", "keras-tagger"]["spec"]["template"]["spec"]
    claim = {"name": "models", "persistentVolumeClaim": {"claimName": "keras-tagger-models"}}
    assert claim in spec["volumes"]
    (loader,) = documents("overlays/volume/loader.yaml")
    assert loader["spec"]["volumes"] == [claim]
    for name in re.findall(
        r"(?:delete pod |pod/|cp exported/\d |exec )(\w+)", text("README.md").partition("## Rollout")[0]
    ):
        assert name == loader["metadata"]["name"]

    spec = built["bucket"]["Deployment", "keras-tagger"]["spec"]["template"]["spec"]
    (fetch,) = spec["initContainers"]
    assert fetch["args"][0] == "copy"
    assert fetch["args"][2] == f"/models/{NAME}"
    config = text_format.Parse(text("config/models.config"), model_server_config_pb2.ModelServerConfig())
    served = config.model_config_list.config[0].model_version_policy.specific.versions
    assert [word for word in fetch["args"] if word.startswith("--include")] == [f"--include=/{v}/**" for v in served]
    assert f"generic {fetch['envFrom'][0]['secretRef']['name']} " in text("README.md")
    egress = built["bucket"]["NetworkPolicy", "keras-tagger-bucket"]["spec"]["egress"]
    assert {port["port"] for port in egress[0]["ports"]} == {53, 443}

    assert container(built["image"])["image"] == "registry.example/keras-tagger-serving:1"
    assert container(built["image"])["command"] == ["tensorflow_model_server"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_pod_ends_on_sigterm_and_may_do_nothing_else(built, overlay):
    """As PID 1 the server would ignore SIGTERM, since it has no handler for it."""
    pods = [built[overlay]["Deployment", "keras-tagger"]["spec"]["template"]["spec"]]
    assert pods[0]["shareProcessNamespace"] is True
    assert pods[0]["nodeSelector"] == {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    if overlay == "volume":
        pods.append(documents("overlays/volume/loader.yaml")[0]["spec"])
    # What the namespace enforces (pod-security.kubernetes.io/enforce: restricted).
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for each in [*pod["containers"], *pod.get("initContainers", [])]:
            context = each["securityContext"]
            assert (context["allowPrivilegeEscalation"], context["capabilities"]) == (False, {"drop": ["ALL"]})
            assert context["readOnlyRootFilesystem"]
            assert "memory" in each["resources"]["limits"]


def test_network_policy(resources):
    policy = resources["NetworkPolicy", "keras-tagger"]["spec"]
    assert policy["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "keras-tagger"}
    allowed = {rule["ports"][0]["port"]: rule["from"][0]["namespaceSelector"] for rule in policy["ingress"]}
    assert allowed == {"grpc": {}, "http": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    assert (policy["policyTypes"], policy["egress"]) == (["Ingress", "Egress"], [])


def test_components(built):
    found = built["volume"]
    monitor = found["PodMonitor", "keras-tagger"]
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert monitor["spec"]["selector"]["matchLabels"] == {"app.kubernetes.io/name": "keras-tagger"}
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint == {"port": "http", "path": METRICS_PATH, "interval": "15s"}

    (rule,) = found["PrometheusRule", "keras-tagger"]["spec"]["groups"][0]["rules"]
    assert '":tensorflow:serving:request_latency_sum"' in rule["expr"]
    assert {series.removesuffix("_sum") for series in re.findall(r":[\w:]+_sum", rule["expr"])} <= metric_stems()
    cpu, in_flight = found["HorizontalPodAutoscaler", "keras-tagger"]["spec"]["metrics"]
    assert cpu["resource"]["name"] == "cpu"
    assert in_flight["pods"]["metric"]["name"] == rule["record"]
    (series,) = documents("components/in_flight/adapter.values.yaml")[0]["rules"]["custom"]
    assert series["seriesQuery"].startswith(rule["record"])

    spec = found["Deployment", "keras-tagger"]["spec"]["template"]["spec"]
    (secret,) = [volume["secret"] for volume in spec["volumes"] if "secret" in volume]
    assert f"generic {secret['secretName']} --from-file=ssl.config" in text("README.md")
    assert secret["defaultMode"] == 0o440
    assert flags_of(container(found)["args"])["ssl_config_file"] == "/tls/ssl.config"
    # "kubernetes.io/h2c" means without TLS.
    assert "appProtocol" not in found["Service", "keras-tagger"]["spec"]["ports"][0]


def test_every_manifest_is_in_a_kustomization():
    for file in SERVING.rglob("kustomization.yaml"):
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        named = {*content.get("resources", []), *(patch.get("path") for patch in content.get("patches", []))}
        others = {path.name for path in file.parent.glob("*.yaml")} - named - {"kustomization.yaml"}
        assert others <= {"compose.yaml", "loader.yaml", "adapter.values.yaml"}
    assert kustomization(".")["resources"] == ["overlays/volume"]


@pytest.mark.parametrize("newest", [False, True], ids=["1.29", "newest"])
def test_manifests_fit_the_schemas_of_kubernetes(built, newest):
    validator = pytest.importorskip("kubernetes_validate")
    version = validator.latest_version() if newest else "1.29"
    every = {(overlay, *key): entry for overlay, found in built.items() for key, entry in found.items()}
    every["volume", "Pod", "loader"] = documents("overlays/volume/loader.yaml")[0]
    for resource in every.values():
        # Kinds of the Prometheus operator are not among them.
        if resource["apiVersion"] != "monitoring.coreos.com/v1":
            validator.validate(resource, version, strict=True)
    broken = json.loads(json.dumps(every["volume", "Deployment", "keras-tagger"]))
    broken["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]["httpGet"]["pathe"] = "/"
    with pytest.raises(validator.ValidationError):
        validator.validate(broken, version, strict=True)


def dashboard() -> dict[str, Any]:
    return json.loads(text("monitoring/dashboard.json"))


def expressions() -> list[str]:
    return [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]


def metric_names() -> set[str]:
    """Names of all series that the dashboard asks for."""
    queries = [*expressions(), *(variable["definition"] for variable in dashboard()["templating"]["list"][1:])]
    return set(re.findall(r"(?<![\w:]):[a-zA-Z_][\w:]*", " ".join(queries)))


def metric_stems() -> set[str]:
    """Names of the server's histograms."""
    return {f":tensorflow:serving:{name}" for name in ("request_latency", "runtime_latency")}


def test_dashboard_asks_for_series_of_the_server():
    served = {":tensorflow:serving:request_count"}
    for histogram in metric_stems():
        served |= {f"{histogram}_{part}" for part in ("bucket", "sum", "count")}
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
    named = re.findall(r"`(?:serving/)?((?:config|k8s|monitoring|overlays|components)/[\w./]*)`", page)
    assert {f"overlays/{name}/" for name in OVERLAYS} <= set(named)
    for name in named:
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
