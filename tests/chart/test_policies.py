"""What every pod, and every object, of the chart must be like."""

from __future__ import annotations

import re
from typing import Any

import pytest
from rendering import VARIANTS, component, containers, manifests, of_kind, pod_templates

every_variant = pytest.mark.parametrize("variant", VARIANTS)


def fits(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Tell whether labels fit a selector (that has no expressions)."""
    assert set(selector) <= {"matchLabels"}
    return selector.get("matchLabels", {}).items() <= labels.items()


@every_variant
def test_pods_fit_pod_security_restricted(variant: str) -> None:
    found = list(pod_templates(variant))
    assert len(found) >= {"shared": 3, "services": 6}.get(variant, 7)
    for name, template in found:
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] > 0, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC"}, name
        for volume in spec.get("volumes", []):
            kinds = volume.keys() - {"name"}
            assert kinds <= {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}, (name, kinds)
        for container in containers(template):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert not context.keys() & {"privileged", "runAsUser"}, name
            assert not any("hostPort" in port for port in container.get("ports", [])), name


@every_variant
def test_roots_are_read_only_and_what_is_written_is_bounded(variant: str) -> None:
    for name, template in pod_templates(variant):
        for container in containers(template):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
        for volume in template["spec"].get("volumes", []):
            assert "emptyDir" not in volume or volume["emptyDir"]["sizeLimit"], name


@every_variant
def test_containers_say_what_they_need(variant: str) -> None:
    for name, template in pod_templates(variant):
        for container in containers(template):
            resources = container["resources"]
            assert {"cpu", "memory"} <= resources["requests"].keys(), (name, container["name"])
            assert "memory" in resources["limits"], (name, container["name"])


@every_variant
def test_no_pod_can_ask_the_api_server(variant: str) -> None:
    for name, template in pod_templates(variant):
        assert template["spec"]["automountServiceAccountToken"] is False, name
        assert template["spec"]["enableServiceLinks"] is False, name
    assert not of_kind(variant, "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")
    assert all(account["automountServiceAccountToken"] is False for account in of_kind(variant, "ServiceAccount"))


@every_variant
def test_each_workload_has_an_account_of_its_own(variant: str) -> None:
    made = {account["metadata"]["name"] for account in of_kind(variant, "ServiceAccount")}
    used = [t["spec"]["serviceAccountName"] for name, t in pod_templates(variant) if not name.startswith("Job/")]
    assert len(used) == len(set(used))
    assert set(used) == made


@every_variant
def test_images_are_of_a_version(variant: str) -> None:
    for name, template in pod_templates(variant):
        for container in containers(template):
            tag = container["image"].rpartition(":")[2]
            assert re.fullmatch(r"[a-zA-Z0-9._-]+", tag), (name, container["image"])
            assert tag != "latest", name


@every_variant
def test_what_serves_is_probed(variant: str) -> None:
    for manifest in of_kind(variant, "Deployment", "StatefulSet"):
        main = manifest["spec"]["template"]["spec"]["containers"][0]
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= main.keys()
        # A busy pod is not a dead one.
        patience = main["livenessProbe"]["periodSeconds"] * main["livenessProbe"]["failureThreshold"]
        assert patience >= 60, manifest["metadata"]["name"]


@every_variant
def test_pods_have_the_time_that_their_drain_takes(variant: str) -> None:
    for manifest in of_kind(variant, "Deployment"):
        spec = manifest["spec"]["template"]["spec"]
        main = spec["containers"][0]
        env = {e["name"]: e.get("value") for e in main.get("env", [])}
        if component(manifest) == "gateway":
            drain = main["lifecycle"]["preStop"]["sleep"]["seconds"]
            told = int(main["args"][main["args"].index("--drain-time-s") + 1])
            assert int(spec["containers"][1]["args"][-1]) + told < drain
        else:
            drain = int(env["MDA_DRAIN_DELAY_S"]) + int(env["MDA_DRAIN_S"])
        assert spec["terminationGracePeriodSeconds"] >= drain + 5, manifest["metadata"]["name"]


@every_variant
def test_updates_never_leave_fewer_pods(variant: str) -> None:
    for manifest in of_kind(variant, "Deployment"):
        assert manifest["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


@every_variant
def test_pods_that_share_a_volume_are_on_its_node(variant: str) -> None:
    claims = {c["metadata"]["name"]: c["spec"]["accessModes"] for c in of_kind(variant, "PersistentVolumeClaim")}
    for name, template in pod_templates(variant):
        volumes = template["spec"].get("volumes", [])
        used = [v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v]
        assert all(claims[claim] == ["ReadWriteOnce"] for claim in used), name
        assert ("affinity" in template["spec"]) == bool(used), name
        if used:
            (term,) = template["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
            assert fits(term["labelSelector"], template["metadata"]["labels"])
    assert (len(claims) == 2) == (variant in {"defaults", "trial", "ci", "mesh"})


@every_variant
def test_budgets_and_autoscalers_are_of_workloads_that_are_there(variant: str) -> None:
    workloads = {m["metadata"]["name"]: m for m in of_kind(variant, "Deployment", "StatefulSet")}
    for budget in of_kind(variant, "PodDisruptionBudget"):
        workload = workloads[budget["metadata"]["name"]]
        assert fits(budget["spec"]["selector"], workload["spec"]["template"]["metadata"]["labels"])
        assert budget["spec"]["maxUnavailable"] == 1
        assert workload["spec"].get("replicas", 2) > 1  # or a node could never be drained
    for scaler in of_kind(variant, "HorizontalPodAutoscaler", "VerticalPodAutoscaler"):
        target = scaler["spec"].get("scaleTargetRef") or scaler["spec"]["targetRef"]
        assert target["name"] in workloads
        if scaler["kind"] == "HorizontalPodAutoscaler":
            assert "replicas" not in workloads[target["name"]]["spec"]
            names = [c["name"] for c in workloads[target["name"]]["spec"]["template"]["spec"]["containers"]]
            assert scaler["spec"]["metrics"][0]["containerResource"]["container"] in names


@every_variant
def test_selectors_find_their_own_pods_only(variant: str) -> None:
    templates = dict(pod_templates(variant))
    for manifest in of_kind(variant, "Service"):
        selector = {"matchLabels": manifest["spec"]["selector"]}
        found = [name for name, t in templates.items() if fits(selector, t["metadata"]["labels"])]
        assert len(found) == 1, manifest["metadata"]["name"]
        ports = {p["name"] for c in containers(templates[found[0]]) for p in c.get("ports", [])}
        assert {port["targetPort"] for port in manifest["spec"]["ports"]} <= ports


@every_variant
def test_every_pod_is_shut_off_but_for_what_it_needs(variant: str) -> None:
    policies = of_kind(variant, "NetworkPolicy")
    for name, template in pod_templates(variant):
        mine = [p for p in policies if fits(p["spec"]["podSelector"], template["metadata"]["labels"])]
        assert len(mine) == 1, name
        assert set(mine[0]["spec"]["policyTypes"]) == {"Ingress", "Egress"}, name
        for rule in mine[0]["spec"]["egress"] or []:
            assert rule["ports"], name
        for rule in mine[0]["spec"]["ingress"] or []:
            assert rule["ports"], name


@every_variant
def test_only_the_gateway_is_open_to_all(variant: str) -> None:
    for policy in of_kind(variant, "NetworkPolicy"):
        for rule in policy["spec"]["ingress"] or []:
            if "from" not in rule and rule["ports"] != [{"port": 15008}]:
                assert component(policy) == "gateway"
                assert {port["port"] for port in rule["ports"]} <= {8443, 8080}
    services = {component(s): s["spec"].get("type", "ClusterIP") for s in of_kind(variant, "Service")}
    assert {name for name, kind in services.items() if kind != "ClusterIP"} <= {"gateway"}


@every_variant
def test_secrets_come_by_reference(variant: str) -> None:
    for name, template in pod_templates(variant):
        for container in containers(template):
            for env in container.get("env", []):
                secret = re.search(r"TOKEN|_KEK|_KEY$|PASSWORD|DATABASE_URL|OPTIONS", env["name"])
                allowed = ("sqlite:", '"$(TOKEN)"')
                assert not secret or "valueFrom" in env or env["value"].startswith(allowed), (name, env)
    if variant in {"production", "ambient", "everything", "shared", "services"}:
        assert not of_kind(variant, "Secret")  # it makes none itself


@every_variant
def test_objects_say_whose_they_are(variant: str) -> None:
    seen: set[tuple[str, str]] = set()
    for manifest in manifests(variant):
        labels = manifest["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "mda"
        assert labels["app.kubernetes.io/part-of"] == "market-data-agent"
        assert len(manifest["metadata"]["name"]) <= 63
        key = (manifest["kind"], manifest["metadata"]["name"])
        assert key not in seen
        seen.add(key)


def test_what_outlives_the_release() -> None:
    kept = {
        (m["kind"], component(m))
        for m in manifests("trial")
        if m["metadata"].get("annotations", {}).get("helm.sh/resource-policy") == "keep"
    }
    assert kept == {("PersistentVolumeClaim", "auth"), ("PersistentVolumeClaim", "archive"), ("Secret", "keys")}
