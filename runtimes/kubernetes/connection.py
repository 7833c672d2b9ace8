"""The kubeconfig, read: where the API server is and how to be let in.

The only importer of the official client, which knows kubeconfig merging, contexts, exec plug-ins,
OIDC and in-cluster accounts; it is imported late, it costs a quarter of a second. Its models and API
classes are not used. Client keys that it unpacks into files are in a folder of the caller's, who takes
it away whatever becomes of this. Everything here blocks: call it from a worker thread.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from attrs import frozen

from pymirror.core.errors import PymirrorError, UserError
from pymirror.runtimes.kubernetes.kubeconfig import fault


class KubeSettings(Protocol):
    """The keys of runtimes/kubernetes/config.py that say how the API server is reached."""

    @property
    def kubeconfig(self) -> str | None: ...
    @property
    def kube_context(self) -> str | None: ...
    @property
    def accept_invalid_certificates(self) -> bool | None: ...
    @property
    def use_proxy(self) -> bool: ...
    @property
    def startup_timeout(self) -> int: ...


@frozen
class Connection:
    """A way to one API server. host: its URL. namespace: the context's. proxy: URL or None."""

    host: str
    context: str
    namespace: str
    tls: ssl.SSLContext | None
    server_name: str | None
    proxy: str | None
    pool: Any  # urllib3.PoolManager
    configuration: Any  # kubernetes.client.Configuration: holds the token and renews it

    def headers(self) -> dict[str, str]:
        """Who we are; an expired token is renewed first, which may run an exec plug-in (blocks)."""
        found = {"User-Agent": "pymirror"}
        token = self.configuration.get_api_key_with_prefix("BearerToken", "authorization")
        if token:
            found["Authorization"] = token
        return found


class _Complaint(Exception):
    """The official client's words for a failed exec plug-in."""


def _raised(record: logging.LogRecord) -> bool:
    if record.levelno < logging.ERROR:
        return True
    raise _Complaint(record.getMessage())


@contextmanager
def _complaints(context: str) -> Iterator[None]:
    """The official client logs a failed exec plug-in and goes on without credentials: it ends there instead.

    It would unpack keys, and a helper may have been ended because nobody waits for them any more.
    """
    logging.getLogger().addFilter(_raised)
    try:
        yield
    except _Complaint as error:
        raise UserError(
            f"context {context}: no credentials: {error}",
            "the command under users[].user.exec of the kubeconfig must be on PATH and log in",
        ) from error
    finally:
        logging.getLogger().removeFilter(_raised)


def connect(settings: KubeSettings, folder: str) -> Connection:
    """Load the kubeconfig (else the pod's own account). UserError naming what is wrong with it.

    folder: a private one for keys, of no use when this is done.
    """
    from kubernetes.client.configuration import Configuration

    configuration = Configuration()
    configuration.retries = False  # urllib3 then raises what happened; api.py repeats where that is safe
    try:
        context, namespace = _load(settings, configuration, folder)
    except PymirrorError:
        raise
    except Exception as error:  # whatever the client stumbles over in someone's file
        why = fault(_paths(settings)) or f"{_paths(settings)} cannot be used: {error}"
        raise UserError(f"the kubeconfig {why}", _way_out(settings)) from error
    if settings.accept_invalid_certificates is not None:
        configuration.verify_ssl = not settings.accept_invalid_certificates
    if not settings.use_proxy:
        configuration.proxy = None
    if not configuration.host.startswith(("http://", "https://")):
        raise UserError(
            f"context {context}: its server {configuration.host!r} is no http:// or https:// address",
            "look at clusters[].cluster.server of the kubeconfig",
        )
    return _made(configuration, context, namespace, _tls(configuration))


def _load(settings: KubeSettings, configuration: Any, folder: str) -> tuple[str, str]:
    from kubernetes.config import incluster_config, kube_config

    path = _paths(settings)
    existing = any(os.path.exists(os.path.expanduser(part)) for part in path.split(os.pathsep))
    if not existing and not settings.kubeconfig and os.path.exists(incluster_config.SERVICE_TOKEN_FILENAME):
        incluster_config.load_incluster_config(  # type: ignore[no-untyped-call]
            client_configuration=configuration
        )
        namespace = os.path.join(os.path.dirname(incluster_config.SERVICE_TOKEN_FILENAME), "namespace")
        with open(namespace, encoding="utf-8") as file:
            return "in-cluster", file.read().strip() or "default"
    if not existing:
        raise UserError(f"there is no kubeconfig at {path}", _way_out(settings))
    merged = kube_config.KubeConfigMerger(path).config  # type: ignore[no-untyped-call]
    if merged is None:
        raise UserError(f"the kubeconfig {path} is empty", _way_out(settings))
    name = settings.kube_context or _current(merged.value, path)
    chosen = _named(merged.value, "context", name, path)
    for kind in ("cluster", "user"):
        if chosen.get(kind):
            _named(merged.value, kind, chosen[kind], path)
    with _complaints(name):
        kube_config.load_kube_config_from_dict(  # type: ignore[no-untyped-call]
            merged,
            context=name,
            client_configuration=configuration,
            persist_config=False,
            temp_file_path=folder,
        )
    return name, chosen.get("namespace") or "default"


def _current(merged: Any, path: str) -> str:
    if not merged.get("current-context"):
        raise UserError(f"the kubeconfig {path} names no current-context", "choose one with --context")
    return str(merged["current-context"])


def _named(merged: Any, kind: str, name: str, path: str) -> Any:
    """The entry of this name in the list of its kind: its inner mapping."""
    entries = {entry["name"]: entry[kind] if kind in entry else None for entry in merged[f"{kind}s"]}
    if name not in entries:
        raise UserError(
            f"the kubeconfig {path} has no {kind} {name}",
            f"its {kind}s: {', '.join(sorted(entries)) or 'none'}",
        )
    found = entries[name]
    return getattr(found, "value", found) or {}


def _paths(settings: KubeSettings) -> str:
    """The files as a colon list: of the configuration, the environment, else the usual place."""
    return expand(settings.kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config") or ""


def expand(path: str | None) -> str | None:
    """`~` and `$VAR` in each part of a colon list."""
    if not path:
        return None
    return os.pathsep.join(os.path.expandvars(os.path.expanduser(part)) for part in path.split(os.pathsep))


def _way_out(settings: KubeSettings) -> str:
    given = "the key kubeconfig" if settings.kubeconfig else "KUBECONFIG or ~/.kube/config"
    return f"check {given}: `kubectl config view` and `kubectl get pods` must work"


def _tls(configuration: Any) -> ssl.SSLContext | None:
    """One TLS context for plain requests and WebSockets alike."""
    import urllib3

    if not configuration.host.startswith("https"):
        return None
    try:
        tls = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
        if hasattr(ssl, "VERIFY_X509_STRICT"):  # Python 3.13's default refuses many clusters' CAs
            tls.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if not configuration.verify_ssl:
            # asked for by name: urllib3's warning for each request would only litter the terminal
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
            tls.check_hostname = False
            tls.verify_mode = ssl.CERT_NONE
        if configuration.cert_file:
            tls.load_cert_chain(configuration.cert_file, configuration.key_file)
    except (ssl.SSLError, OSError) as error:
        raise UserError(
            f"the kubeconfig's certificates cannot be loaded: {error}",
            "look at certificate-authority, client-certificate and client-key in it",
        ) from error
    return tls


def _made(configuration: Any, context: str, namespace: str, tls: ssl.SSLContext | None) -> Connection:
    from kubernetes.client import rest
    from urllib3.exceptions import HTTPError

    paths = configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file
    configuration.ssl_ca_cert = configuration.cert_file = configuration.key_file = None  # loaded, and deleted
    try:
        pool = rest.RESTClientObject(configuration).pool_manager  # knows proxies, no_proxy and SNI
    except (HTTPError, ValueError) as error:
        raise UserError(
            f"context {context}: the proxy {configuration.proxy!r} cannot be used: {error}",
            "look at clusters[].cluster.proxy-url of the kubeconfig and at HTTPS_PROXY",
        ) from error
    configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file = paths
    bypass = rest.should_bypass_proxies(configuration.host, configuration.no_proxy or "")
    if tls is not None:
        pool.connection_pool_kw["ssl_context"] = tls
        pool.connection_pool_kw.pop("ca_certs", None)
    return Connection(
        host=configuration.host.rstrip("/"),
        context=context,
        namespace=namespace,
        tls=tls,
        server_name=configuration.tls_server_name or None,
        proxy=None if bypass else configuration.proxy,
        pool=pool,
        configuration=configuration,
    )
