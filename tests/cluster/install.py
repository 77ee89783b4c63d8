"""`python -m tests.cluster.install`: installs what the cluster tests try, and tells how long that took.

The images must be on the nodes. With MDA_CLUSTER_MESH=1 the release is part of an Istio mesh, which must be there.
With MDA_CLUSTER_POSTGRESQL=1 auth has a PostgreSQL, with MDA_CLUSTER_OBJECT_STORE=1 history is in an S3 server, and
MDA_CLUSTER_SETTINGS is more for `helm --set`.
"""

from __future__ import annotations

import secrets
import sys
import time

from tests.cluster.kube import (
    NAMESPACE,
    OBJECT_STORE,
    OBJECT_STORE_IMAGE,
    POSTGRES_IMAGE,
    POSTGRESQL,
    SERVICES_IMAGE,
    CommandError,
    apply,
    get,
    helm,
    kubectl,
    upgrade,
)

VOLUMES = 6


def make_volumes() -> None:
    """Make volumes, where there are too few."""
    volumes = get("pv", "-l", "market-data-tests")["items"]
    if sum(volume["status"]["phase"] in {"Available", "Bound"} for volume in volumes) >= VOLUMES:
        return
    node = get("nodes")["items"][0]["metadata"]["labels"]["kubernetes.io/hostname"]
    run_id = time.strftime("%H%M%S")
    kubectl("delete", "job", "market-data-tests-volumes", "--ignore-not-found", namespace="default")
    apply("volumes.yaml", namespace="default", node=node, image=SERVICES_IMAGE, run=run_id, count=VOLUMES)
    kubectl("wait", "--for=condition=Complete", "job/market-data-tests-volumes", "--timeout=90s", namespace="default")
    for number in range(VOLUMES):
        apply("volume.yaml", node=node, run=run_id, number=number)


def main() -> None:
    """Install."""
    if NAMESPACE not in {item["metadata"]["name"] for item in get("namespaces")["items"]}:
        kubectl("create", "namespace", NAMESPACE)
    make_volumes()
    if POSTGRESQL and not kubectl("get", "pod", "tests-postgres", "--ignore-not-found"):
        apply("postgres.yaml", image=POSTGRES_IMAGE, password=secrets.token_urlsafe(16))
        kubectl("wait", "--for=condition=Ready", "pod/tests-postgres", "--timeout=90s")
    if OBJECT_STORE and not kubectl("get", "pod", "tests-object-store", "--ignore-not-found"):
        apply("object_store.yaml", image=OBJECT_STORE_IMAGE, secret=secrets.token_urlsafe(16))
        kubectl("wait", "--for=condition=Ready", "pod/tests-object-store", "--timeout=90s")
    began = time.monotonic()
    try:
        upgrade()
    except CommandError as error:
        warnings = kubectl("get", "events", "--field-selector=type=Warning")[-4000:]
        sys.exit(f"{error}\n{kubectl('get', 'pods', '-o', 'wide')}\n{warnings}")
    sys.stdout.write(f"ready after {time.monotonic() - began:.0f} s\n{helm('status', 'mda')}")


if __name__ == "__main__":
    main()
