#!/bin/sh
# Writes go.mod for another Kubernetes release and CoreDNS: mkmod.sh 34.4 v1.12.4, or mkmod.sh 36.3 v1.14.0.
# (Kubernetes' own go.mod points at ./staging; each of those modules is also published as k8s.io/NAME v0.MINOR.PATCH.)
# After it: VERSION in place.py.
set -eu
V=$1 DNS=$2
KMOD=$(go mod download -json "k8s.io/kubernetes@v1.$V" | sed -n 's/.*"GoMod": "\(.*\)",/\1/p')
rm -f go.mod go.sum
{
  echo "module kube"; echo
  sed -n 's/^go /go /p' "$KMOD"; echo
  # every version that the release pins, so that nothing newer is picked
  awk '/^require \(/{r=1} r{print} /^\)/{r=0}' "$KMOD" | sed "s#\(\sk8s.io/[a-z-]*\) v0.0.0\$#\1 v0.$V#; s#\(\sk8s.io/[a-z-]*\) v0.0.0 // indirect#\1 v0.$V // indirect#"
  echo; echo "require k8s.io/kubernetes v1.$V"; echo
  echo "replace ("
  sed -n "s#^\s*\(k8s.io/[a-z-]*\) => ./staging.*#\t\1 => \1 v0.$V#p" "$KMOD"
  echo ")"
} > go.mod
go get "github.com/coredns/coredns@$DNS"
go mod tidy
