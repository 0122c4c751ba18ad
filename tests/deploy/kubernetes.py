#!/usr/bin/env python3
"""Renders deploy/kubernetes with kubectl, and checks the result.

    kubernetes.py

Built-in kinds are validated strictly against Kubernetes' schemas. Custom resources have no schema here, so they are
listed and skipped. Further checks compare objects with each other: names, selectors, times and security settings.
"""

import collections
import pathlib
import re
import subprocess
import sys
import tempfile
import tomllib

import kubernetes_validate
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
KUBERNETES = "1.37"
OVERLAYS = ["shared", "sidecar", "istio", "linkerd", "gateway"]
# The component `valkey` has its own checks.
COMPONENTS = sorted({path.parent.name for path in ROOT.glob("components/*/kustomization.yaml")} - {"valkey"})
# These Secrets and ConfigMaps are created by hand or by another controller.
GIVEN = {"countermand-credentials", "countermand-tls", "countermand-valkey", "countermand-valkey-tls"}
WORKLOADS = ["Deployment", "StatefulSet"]
# The annotation that makes the proxy of a mesh a native sidecar.
NATIVE_SIDECARS = {
    "istio": "sidecar.istio.io/nativeSidecar",
    "linkerd": "config.alpha.linkerd.io/proxy-enable-native-sidecar",
}
CUSTOM_GROUPS = ["istio.io", "linkerd.io", "gateway.networking.k8s.io", "envoyproxy.io", "monitoring.coreos.com"]

problems = []
skipped = collections.Counter()


def expect(condition, problem):
    if not condition:
        problems.append(problem)


def render(directory):
    """The objects of a kustomization."""
    command = ["kubectl", "kustomize", str(directory)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if result.returncode != 0:
        sys.exit(f"kubernetes.py: {directory.name}: {result.stderr}")
    expect("Warning" not in result.stderr, f"{directory.name}: {result.stderr.strip()}")
    return [each for each in yaml.safe_load_all(result.stdout) if each]


def with_component(directory, overlay, component):
    """Renders an overlay with a component, as a user's own kustomization would."""
    directory = directory / f"{overlay}-{component}"
    directory.mkdir()
    content = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "countermand",
        "resources": [f"../{overlay}"],
        "components": [f"../components/{component}"],
    }
    (directory / "kustomization.yaml").write_text(yaml.safe_dump(content))
    return render(directory)


def share_quota(file):
    """Uncomments [quota_shared], as countermand.toml says."""
    text, section = file.read_text().split("# [quota_shared]")
    file.write_text(text + "[quota_shared]" + section.replace("\n# ", "\n"))


def is_custom(each):
    group = each["apiVersion"].rpartition("/")[0]
    return any(group == custom or group.endswith("." + custom) for custom in CUSTOM_GROUPS)


def validate(where, objects):
    for each in objects:
        name = f"{where}: {each['kind']} {each['metadata']['name']}"
        if is_custom(each):
            skipped[f"{each['apiVersion']} {each['kind']}"] += 1
            continue
        try:
            kubernetes_validate.validate(each, KUBERNETES, strict=True)
        except (
            kubernetes_validate.ValidationError,
            kubernetes_validate.SchemaNotFoundError,
            kubernetes_validate.InvalidSchemaError,
        ) as error:
            problems.append(f"{name}: {error}")


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h)", text).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit]


def all_containers(pod):
    return pod.get("initContainers", []) + pod["containers"]


def check_security(where, pod):
    """The restricted Pod Security Standard, a read-only root, and no token of the Kubernetes API."""
    context = pod["securityContext"]
    expect(context.get("runAsNonRoot") is True, f"{where}: runAsNonRoot")
    expect(context.get("seccompProfile") == {"type": "RuntimeDefault"}, f"{where}: seccompProfile")
    expect(pod.get("automountServiceAccountToken") is False, f"{where}: automountServiceAccountToken")
    for container in all_containers(pod):
        name = f"{where}: container {container['name']}"
        own = container["securityContext"]
        expect(own.get("allowPrivilegeEscalation") is False, f"{name}: allowPrivilegeEscalation")
        expect(own.get("readOnlyRootFilesystem") is True, f"{name}: readOnlyRootFilesystem")
        expect(own.get("capabilities") == {"drop": ["ALL"]}, f"{name}: capabilities")
        expect("memory" in container["resources"]["limits"], f"{name}: memory limit")
        expect({"cpu", "memory"} <= container["resources"]["requests"].keys(), f"{name}: requests")


def check_volumes(where, pod, configs):
    """Every mounted volume and every referenced ConfigMap exists, and no file is mounted by subPath."""
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounted = set()
    for container in all_containers(pod):
        for mount in container.get("volumeMounts", []):
            mounted.add(mount["name"])
            expect("subPath" not in mount, f"{where}: subPath of {mount['name']} hides changes")
    expect(mounted == volumes.keys(), f"{where}: volumes {sorted(volumes)}, mounted {sorted(mounted)}")
    for name, volume in volumes.items():
        if "configMap" in volume:
            source = volume["configMap"]["name"]
            expect(source in configs, f"{where}: no ConfigMap {source}")
        elif "secret" in volume:
            source = volume["secret"]["secretName"]
            expect(source in GIVEN, f"{where}: unexpected Secret {source}")
            expect(volume["secret"]["defaultMode"] == 0o440, f"{where}: mode of the Secret {source}")
        elif "projected" in volume:
            expect(volume["projected"]["defaultMode"] == 0o440, f"{where}: mode of the volume {name}")
            for source in volume["projected"]["sources"]:
                expect(source.get("secret", {}).get("name") in GIVEN | {None}, f"{where}: unexpected Secret in {name}")
        else:
            expect("emptyDir" in volume, f"{where}: volume {name} has no known source")
    return volumes


def files_of(container, volumes, configs):
    """The paths of the files of ConfigMaps in a container, with their content."""
    files = {}
    for mount in container.get("volumeMounts", []):
        volume = volumes[mount["name"]]
        for name, content in configs.get(volume.get("configMap", {}).get("name"), {}).items():
            files[f"{mount['mountPath']}/{name}"] = content
    return files


def check_countermand(where, pod, volumes, configs):
    """The settings in countermand.toml fit the pod. Returns them."""
    container = next(each for each in all_containers(pod) if each["name"] == "countermand")
    files = files_of(container, volumes, configs)
    path = container["args"][container["args"].index("--config") + 1]
    settings = tomllib.loads(files[path])
    server = settings["server"]
    draining = seconds(server["drain_delay"]) + seconds(server["drain_timeout"])
    grace = pod["terminationGracePeriodSeconds"]
    expect(grace > draining + 2, f"{where}: the pod has {grace} s to drain for {draining} s")
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    expect(settings["telemetry"]["listen"] == f"0.0.0.0:{ports['telemetry']}", f"{where}: the telemetry port")
    for address in server["listen"]:
        if not address.startswith("unix:"):
            expect(int(address.rpartition(":")[2]) == ports["grpc"], f"{where}: the gRPC port")
    if "policy" in settings:
        expect(settings["policy"]["file"] in files, f"{where}: no file {settings['policy']['file']}")
    directories = {mount["mountPath"] for mount in container["volumeMounts"]}
    credentials = {each["name"]: each for each in container["env"]}.get("COUNTERMAND_CREDENTIALS")
    store = settings.get("quota_shared", {})
    named = list(server.get("tls", {}).values()) + ([credentials["value"]] if credentials else [])
    named += [store[key] for key in ("password_file", "ca_certificates") if key in store]
    for file in named:
        expect(file.rpartition("/")[0] in directories, f"{where}: nothing is mounted for {file}")
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        port = container.get(probe, {}).get("httpGet", {}).get("port")
        expect(port in (None, "telemetry"), f"{where}: {probe}")
    expect("livenessProbe" in container and "startupProbe" in container, f"{where}: probes")
    return settings


def check_mesh_proxy(where, template):
    """The proxy of a mesh is a native sidecar, which ends after Countermand's drain."""
    annotation = NATIVE_SIDECARS.get(where)
    is_native = annotation is None or template["metadata"]["annotations"].get(annotation) == "true"
    expect(is_native, f"{where}: {annotation}")


def matches(selector, labels):
    return bool(selector) and selector.items() <= labels.items()


def pod_labels(workload):
    return workload["spec"]["template"]["metadata"]["labels"]


def check_selectors(where, objects, workloads):
    """Everything that selects pods selects those of one workload."""
    for each in objects:
        spec, name = each.get("spec", {}), f"{where}: {each['kind']} {each['metadata']['name']}"
        selector = {
            "Service": lambda spec: spec["selector"],
            "PodDisruptionBudget": lambda spec: spec["selector"]["matchLabels"],
            "NetworkPolicy": lambda spec: spec["podSelector"]["matchLabels"],
            "Deployment": lambda spec: spec["selector"]["matchLabels"],
            "StatefulSet": lambda spec: spec["selector"]["matchLabels"],
            "Sidecar": lambda spec: spec["workloadSelector"]["labels"],
            "PeerAuthentication": lambda spec: spec["selector"]["matchLabels"],
            "Server": lambda spec: spec["podSelector"]["matchLabels"],
        }.get(each["kind"])
        if selector:
            selected = [other for other in workloads if matches(selector(spec), pod_labels(other))]
            expected = [each] if each in workloads else selected[:1]
            expect(len(selected) == 1 and selected == expected, f"{name}: selects other pods")
        if each["kind"] == "ServiceMonitor":
            services = [other for other in objects if other["kind"] == "Service"]
            found = [
                port
                for service in services
                if matches(spec["selector"]["matchLabels"], service["metadata"].get("labels", {}))
                for port in service["spec"]["ports"]
                if port["name"] == spec["endpoints"][0]["port"]
            ]
            expect(len(found) == 1, f"{name}: {len(found)} ports to scrape")
        if each["kind"] == "HorizontalPodAutoscaler":
            target = spec["scaleTargetRef"]
            (scaled,) = [other for other in workloads if other["metadata"]["name"] == target["name"]]
            expect(scaled["kind"] == target["kind"], f"{name}: another target")
            expect("replicas" not in scaled["spec"], f"{name}: the Deployment sets replicas too")
            expect(spec["minReplicas"] >= 2, f"{name}: one replica is no spare")
    for workload in workloads:
        for constraint in workload["spec"]["template"]["spec"].get("topologySpreadConstraints", []):
            selector = constraint["labelSelector"]["matchLabels"]
            expect(matches(selector, pod_labels(workload)), f"{where}: topology spread")


def check_valkey(where, objects, valkey, settings):
    """The ports and the peers of Valkey, and what Countermand knows of it."""
    (container,) = valkey["spec"]["template"]["spec"]["containers"]
    (countermand,) = [each for each in objects if each["kind"] == "Deployment"]
    named = {(each["kind"], each["metadata"]["name"]): each for each in objects}
    service = named["Service", valkey["metadata"]["name"]]
    (port,), (container_port,) = service["spec"]["ports"], container["ports"]
    expect(port["targetPort"] == container_port["name"], f"{where}: the port of the Service")
    store = settings["quota_shared"]
    address = f"rediss://{service['metadata']['name']}.countermand.svc:{port['port']}"
    expect(store["url"] == address, f"{where}: the address {store['url']}")
    most = named["HorizontalPodAutoscaler", "countermand"]["spec"]["maxReplicas"]
    expect(store["replicas"] == most, f"{where}: {store['replicas']} replicas of {most}")
    (ingress,) = named["NetworkPolicy", valkey["metadata"]["name"]]["spec"]["ingress"]
    egress = named["NetworkPolicy", "countermand"]["spec"]["egress"][-1]
    for rule, (peer,), labels in [
        (ingress, ingress["from"], pod_labels(countermand)),
        (egress, egress["to"], pod_labels(valkey)),
    ]:
        expect(rule["ports"] == [{"port": container_port["containerPort"], "protocol": "TCP"}], f"{where}: the port")
        expect(matches(peer["podSelector"]["matchLabels"], labels), f"{where}: the peer of a NetworkPolicy")


def check(where, objects):
    validate(where, objects)
    configs = {each["metadata"]["name"]: each["data"] for each in objects if each["kind"] == "ConfigMap"}
    accounts = [each["metadata"]["name"] for each in objects if each["kind"] == "ServiceAccount"]
    workloads = [each for each in objects if each["kind"] in WORKLOADS]
    for workload in workloads:
        pod = workload["spec"]["template"]["spec"]
        account = pod.get("serviceAccountName")
        expect(account in accounts or account is None, f"{where}: no ServiceAccount {account}")
        check_security(where, pod)
        volumes = check_volumes(where, pod, configs)
        if workload["kind"] == "Deployment":
            check_mesh_proxy(where, workload["spec"]["template"])
            settings = check_countermand(where, pod, volumes, configs)
    for workload in workloads:
        if workload["kind"] == "StatefulSet":
            check_valkey(where, objects, workload, settings)
    check_selectors(where, objects, workloads)
    print(f"kubernetes.py: {where}: {len(objects)} objects")


def main():
    with tempfile.TemporaryDirectory() as name:
        # Components refer to their neighbours by relative paths.
        copy = pathlib.Path(name) / "kubernetes"
        subprocess.run(["cp", "-r", str(ROOT), str(copy)], check=True)
        for overlay in OVERLAYS:
            check(overlay, render(copy / overlay))
        for component in COMPONENTS:
            check(f"shared with {component}", with_component(copy, "shared", component))
        for overlay in ["shared", "istio", "linkerd", "gateway"]:
            share_quota(copy / overlay / "countermand.toml")
            check(f"{overlay} with valkey", with_component(copy, overlay, "valkey"))
    for kind, count in sorted(skipped.items()):
        print(f"kubernetes.py: no schema for {kind}: {count} skipped")
    if problems:
        sys.exit("\n".join(f"kubernetes.py: {problem}" for problem in problems))


if __name__ == "__main__":
    main()
