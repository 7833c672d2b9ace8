"""The API's resources this runtime touches, and where each lives. Pure.

A `Place` is one object (or list) of the API; it carries what an error message and a Role rule need.
"""

from __future__ import annotations

from attrs import frozen


@frozen
class Resource:
    """group "" is the core group. plural: as in URLs and Roles. kind: the singular word."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    def at(self, namespace: str = "", name: str = "", subresource: str = "") -> Place:
        return Place(self, namespace, name, subresource)

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


@frozen
class Place:
    """One object, its subresource, or (without a name) the list of a namespace or the cluster."""

    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def path(self) -> str:
        root = f"/apis/{self.resource.group}" if self.resource.group else "/api"
        parts = [root, self.resource.version]
        if self.namespace and self.resource.namespaced:
            parts += ["namespaces", self.namespace]
        parts.append(self.resource.plural)
        parts += [part for part in (self.name, self.subresource) if part]
        return "/".join(parts)

    @property
    def role_resource(self) -> str:
        """As it stands in a Role: `pods/log`."""
        return f"{self.resource.plural}/{self.subresource}" if self.subresource else self.resource.plural

    def __str__(self) -> str:
        if not self.name:
            where = f" of namespace {self.namespace}" if self.namespace else ""
            return f"the {self.resource.plural}{where}"
        where = f" in namespace {self.namespace}" if self.namespace else ""
        what = f"{self.subresource} of " if self.subresource else ""
        return f"{what}{self.resource.kind}/{self.name}{where}"


PODS = Resource("", "v1", "pods", "pod")
SERVICES = Resource("", "v1", "services", "service")
ACCOUNTS = Resource("", "v1", "serviceaccounts", "serviceaccount")
EVENTS = Resource("", "v1", "events", "event")
NAMESPACES = Resource("", "v1", "namespaces", "namespace", namespaced=False)
NODES = Resource("", "v1", "nodes", "node", namespaced=False)
DEPLOYMENTS = Resource("apps", "v1", "deployments", "deployment")
STATEFULSETS = Resource("apps", "v1", "statefulsets", "statefulset")
REPLICASETS = Resource("apps", "v1", "replicasets", "replicaset")
DAEMONSETS = Resource("apps", "v1", "daemonsets", "daemonset")
JOBS = Resource("batch", "v1", "jobs", "job")
ROLLOUTS = Resource("argoproj.io", "v1alpha1", "rollouts", "rollout")
REVIEWS = Resource(
    "authorization.k8s.io", "v1", "selfsubjectaccessreviews", "selfsubjectaccessreview", namespaced=False
)

WORKLOADS = {
    found.kind: found
    for found in (DEPLOYMENTS, STATEFULSETS, REPLICASETS, DAEMONSETS, JOBS, ROLLOUTS, SERVICES)
}
"""Kinds of target that stand for pods, by the word in front of the slash."""
