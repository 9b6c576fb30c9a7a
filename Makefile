# Berth. `make` alone lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

TOOL    := go tool -modfile=tools/go.mod
IMAGES  := ghcr.io/berth-lb
TAG     ?= dev
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unreleased)
# Without the tag, grpc (a library of gobgp's) pulls in a tracer that keeps the linker from leaving
# out what nobody calls: the speaker would be 66 MB instead of 46.
STATIC  := CGO_ENABLED=0 go build -tags grpcnotrace -trimpath -ldflags '-s -w -X github.com/berth-lb/berth/internal/version.released=$(VERSION)'
FUZZ    ?= 10s

.PHONY: help build cross test race lint generate check-generate fuzz bench bench-failover bench-bgp dashboard-shots images deps demo demo-down e2e e2e-full kubetest conformance lab clean
.PHONY: release release-check portable

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' Makefile

build: ## Build the binaries, static, into bin/.
	$(STATIC) -o bin/ ./controller ./speaker ./kubectl-berth

cross: ## Build kubectl-berth for each system and processor that users have, into dist/.
	for system in linux darwin windows; do for arch in amd64 arm64; do \
	  GOOS=$$system GOARCH=$$arch $(STATIC) -o dist/kubectl-berth-$$system-$$arch/ ./kubectl-berth; \
	done; done

release: ## Build a release, VERSION=v1.2.3, offline into dist/release; PLATFORMS=linux/amd64,linux/arm/v7 builds a part.
	cd tools/release && go run . -version '$(VERSION)' -platforms '$(PLATFORMS)' $(if $(FINAL),-final) \
	  -root ../.. -out '../../dist/release/$(VERSION)'

release-check: ## Build a release twice, in different folders and compiling everything anew, and compare it byte for byte.
	./hack/release-check

test: ## Run unit and namespace tests with the race detector; tells what was skipped and why.
	./hack/test

portable: ## Vet what runs on nodes for 32-bit and big-endian processors, and test its protocols there by qemu-user.
	./hack/portable

race: ## Run the tests many times over to find rare races; COUNT=10.
	go test -race -count=$${COUNT:-10} ./...

lint: check-generate ## Check generated files, format, workflows, and what linters find.
	test -z "$$(gofmt -l $$(git ls-files '*.go'))"
	go vet ./...
	cd e2e && go vet ./...
	cd tools/monitoring && go vet ./...
	cd tools/install && go vet ./...
	cd tools/release && go vet ./...
	$(TOOL) golangci-lint run ./...
	cd e2e && go tool -modfile=../tools/go.mod golangci-lint run ./...
	cd tools/monitoring && go tool -modfile=../go.mod golangci-lint run ./...
	cd tools/install && go tool -modfile=../go.mod golangci-lint run ./...
	cd tools/release && go tool -modfile=../go.mod golangci-lint run ./...
	cd tools/release && go tool actionlint ../../.github/workflows/*.yml

generate: ## Write deepcopy code, CRDs, RBAC roles, the references of kubectl-berth and of the chart, what monitors Berth, install.yaml and parts of the chart anew.
	$(TOOL) controller-gen object paths=./api/... crd output:crd:dir=manifests/crds
	$(TOOL) controller-gen rbac:roleName=berth-controller paths=./controller/... output:rbac:dir=manifests/base/controller
	$(TOOL) controller-gen rbac:roleName=berth-speaker paths=./speaker/... output:rbac:dir=manifests/base/speaker
	go run ./internal/cli/gendocs docs/cli docs/man
	cd tools/monitoring && go run . ../../manifests/monitoring
	cd tools/install && go run . ../../manifests

check-generate: ## Fail when generated files differ from what `make generate` writes.
	./hack/check-generate

fuzz: ## Fuzz every parser of foreign input, FUZZ=10s each.
	./hack/fuzz $(FUZZ)

bench: ## Run the benchmarks and print their figures.
	go test -run '^$$' -bench . -benchmem ./...

dashboard-shots: deps ## Have Chromium draw the dashboard's pages into dist/shots, to look at.
	mkdir -p dist/shots
	BERTH_SHOTS=$(CURDIR)/dist/shots go test -count=1 -v -run TestShots ./internal/cli/dashboard

images: bin/lab ## Build the images into dist/, as archives, without a container engine; one is of a version to come.
	mkdir -p dist
	$(STATIC) -o dist/ ./controller ./speaker
	bin/lab image build --ref $(IMAGES)/controller:$(TAG) --out dist/controller.tar --user 65532:65532 dist/controller
	bin/lab image build --ref $(IMAGES)/speaker:$(TAG) --out dist/speaker.tar --user 0:0 dist/speaker
	cd e2e && go run ./cmd/nextversion .. ../dist/speaker-next
	bin/lab image build --ref $(IMAGES)/speaker:next --out dist/speaker-next.tar --user 0:0 dist/speaker-next:/speaker

deps: bin/lab ## Install the Debian packages that namespace tests and the lab need.
	bin/lab deps --install

demo: deps images ## Run Berth in a cluster of network namespaces on this machine, and show it at work.
	./hack/demo

demo-down: bin/lab ## End the demo's cluster.
	bin/lab down --name demo

e2e: deps images ## Run the lab suite: Berth in a real cluster, judged from outside; FAMILIES=IPv4,IPv6 PROXY_MODE=nftables.
	./hack/e2e

e2e-full: deps images ## Run what is slow or rare too, and in clusters of other IP families and modes of kube-proxy; over an hour.
	./hack/e2e-full

kubetest: deps images ## Run Kubernetes' own tests of load balancers against Berth in the lab; ANNOUNCE=layer2|bgp PROXY_MODE=nftables LONG=yes.
	cd e2e/kubetest && GOWORK=off CGO_ENABLED=0 go test .
	./hack/kubetest

conformance: deps images ## Run Gateway API's conformance suite in the lab, against Traefik behind an address of Berth's.
	./hack/conformance

bench-failover: deps images ## Measure in the lab what a client loses when nodes fail; RUNS=20 SCENARIOS=regexp MINUTES=10.
	./hack/bench-failover

bench-bgp: deps images ## Measure in the lab what a client behind BGP routers loses; RUNS=5 SCENARIOS=regexp BFD=no|yes|both MINUTES=10.
	./hack/bench-bgp

.PHONY: docs-site addons

addons: ## Write the addons of MicroK8s and minikube into dist/addons.
	cd tools/install && go run ./addons ../../manifests ../../dist/addons

docs-site: ## Build the documentation site into dist/site, offline; fails for a link that leads nowhere.
	./hack/docs-site

lab: bin/lab ## Build the lab command, bin/lab.

bin/lab: FORCE
	cd e2e && go build -o ../bin/lab ./cmd/lab

FORCE:

clean: ## Remove what was built here.
	rm -rf bin dist
