"""The cluster's first process: etcd, the API server, its controllers and DNS; the nodes are its children."""

from __future__ import annotations

from place import (
    BIN,
    DIR,
    ETCD,
    ETCD_PEER,
    HOST_IP,
    PKI,
    PORT,
    SERVICES,
    SERVICES6,
    api_ready,
    reap,
    spawn,
    unshared,
    until,
)

KUBE = BIN / "kube"
ETCD_FLAGS = f"""
    --name one --unsafe-no-fsync --log-level warn --initial-cluster one={ETCD_PEER}
    --listen-client-urls {ETCD} --advertise-client-urls {ETCD}
    --listen-peer-urls {ETCD_PEER} --initial-advertise-peer-urls {ETCD_PEER}
"""
API_FLAGS = f"""
    --etcd-servers={ETCD} --bind-address={HOST_IP} --advertise-address={HOST_IP} --secure-port={PORT}
    --tls-cert-file={PKI}/apiserver.crt --tls-private-key-file={PKI}/apiserver.key
    --client-ca-file={PKI}/ca.crt --authorization-mode=Node,RBAC
    --enable-admission-plugins=NodeRestriction --allow-privileged=true
    --kubelet-client-certificate={PKI}/admin.crt --kubelet-client-key={PKI}/admin.key
    --kubelet-certificate-authority={PKI}/ca.crt --kubelet-preferred-address-types=InternalIP
    --service-account-issuer=https://kubernetes.default.svc.cluster.local
    --service-account-key-file={PKI}/sa.pub --service-account-signing-key-file={PKI}/sa.key
    --service-cluster-ip-range={SERVICES},{SERVICES6} --profiling=false
"""
# Without the two kube-api flags its own throttle takes 4 s to start every controller.
CONTROLLER_FLAGS = f"""
    --kubeconfig={DIR}/controller-manager.kubeconfig --leader-elect=false --secure-port=0
    --use-service-account-credentials=true --kube-api-qps=1000 --kube-api-burst=2000
    --service-account-private-key-file={PKI}/sa.key --root-ca-file={PKI}/ca.crt
    --cluster-signing-cert-file={PKI}/ca.crt --cluster-signing-key-file={PKI}/ca.key
"""
SCHEDULER_FLAGS = f"--kubeconfig={DIR}/scheduler.kubeconfig --leader-elect=false --secure-port=0"
COREFILE = f""".:53 {{
    bind {HOST_IP}
    errors
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {DIR}/dns.kubeconfig
        pods insecure
        ttl 5
    }}
    cache 5
}}
"""


def control_plane(nodes: int) -> None:
    """PID 1 of the cluster: never returns."""
    spawn("etcd", KUBE, "etcd", "--data-dir", DIR / "etcd", *ETCD_FLAGS.split())
    spawn("apiserver", KUBE, "apiserver", *API_FLAGS.split())
    for i in range(1, nodes + 1):
        unshared(f"node{i}", "_node", str(i), str(nodes), net=True)
    until("the API server is ready", api_ready)
    spawn("controller-manager", KUBE, "controller-manager", *CONTROLLER_FLAGS.split())
    spawn("scheduler", KUBE, "scheduler", *SCHEDULER_FLAGS.split())
    (DIR / "Corefile").write_text(COREFILE)
    spawn("dns", KUBE, "dns", "-conf", DIR / "Corefile")
    reap()
