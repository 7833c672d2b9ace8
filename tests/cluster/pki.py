"""The cluster's keys and certificates, made by openssl at every start, and a kubeconfig for each user."""

from __future__ import annotations

import json

from place import DIR, HOST_IP, KUBERNETES_IP, NAME, PKI, SERVER, node_ip, run

API_NAMES = (
    f"IP:{HOST_IP},IP:{KUBERNETES_IP},IP:127.0.0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,"
    "DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
)
USERS = {
    "admin": "/O=system:masters/CN=admin",
    "controller-manager": "/CN=system:kube-controller-manager",
    "scheduler": "/CN=system:kube-scheduler",
    "proxy": "/CN=system:kube-proxy",
    "dns": "/CN=system:coredns",
}
NEW_KEY = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30".split()
SIGNED = (
    "basicConstraints=critical,CA:FALSE",
    "keyUsage=critical,digitalSignature,keyEncipherment",
    "extendedKeyUsage=clientAuth,serverAuth",
)


def certificate(name: str, subject: str, *extensions: str, signed: bool = True) -> None:
    """Makes NAME.key and NAME.crt: signed by the cluster's own authority, or that authority itself."""
    words = ["-keyout", str(PKI / f"{name}.key"), "-out", str(PKI / f"{name}.crt"), "-subj", subject]
    if signed:
        words += ["-CA", str(PKI / "ca.crt"), "-CAkey", str(PKI / "ca.key")]
    for extension in extensions:
        words += ["-addext", extension]
    run("openssl", "req", "-x509", *NEW_KEY, *words)


def kubeconfig(name: str) -> None:
    keys = {"client-certificate": str(PKI / f"{name}.crt"), "client-key": str(PKI / f"{name}.key")}
    there = {"server": SERVER, "certificate-authority": str(PKI / "ca.crt")}
    text = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": NAME,
        "clusters": [{"name": NAME, "cluster": there}],
        "users": [{"name": name, "user": keys}],
        "contexts": [{"name": NAME, "context": {"cluster": NAME, "user": name}}],
    }
    (DIR / f"{name}.kubeconfig").write_text(json.dumps(text, indent=1))


def pki(nodes: int) -> None:
    PKI.mkdir(parents=True)
    certificate("ca", "/CN=kubetest-ca", "keyUsage=critical,keyCertSign,digitalSignature", signed=False)
    certificate("apiserver", "/CN=kube-apiserver", *SIGNED, f"subjectAltName={API_NAMES}")
    for name, subject in USERS.items():
        certificate(name, subject, *SIGNED)
        kubeconfig(name)
    for i in range(1, nodes + 1):
        names = f"subjectAltName=DNS:node{i},IP:{node_ip(i)}"
        certificate(f"node{i}", f"/O=system:nodes/CN=system:node:node{i}", *SIGNED, names)
        kubeconfig(f"node{i}")
    run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", PKI / "sa.key")
    run("openssl", "ec", "-in", PKI / "sa.key", "-pubout", "-out", PKI / "sa.pub")
