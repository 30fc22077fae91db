# Everything is built from source with Go alone. What is built for the tests goes to .cache/bin, and only when the
# go.mod file that pins it has changed.

export CGO_ENABLED := 0
export GOWORK := off
# Version control stamps would only make a clone inside another repository fail.
export GOFLAGS := $(strip $(shell go env GOFLAGS) -buildvcs=false)

# Not an absolute path: make takes a space in the name of a target for the end of it.
BIN := .cache/bin
# KUBERNETES is the minor version of the control plane: one that e2e/build has a folder for.
KUBERNETES ?= 1.36
OTHER := $(if $(filter-out 1.36,$(KUBERNETES)),kubernetes-$(KUBERNETES))
PROGRAMS := $(addprefix $(BIN)/$(OTHER:%=%/),kube-apiserver kube-controller-manager kube-scheduler)
export E2E_KUBERNETES := $(OTHER:%=$(CURDIR)/$(BIN)/%)
BINARIES := $(PROGRAMS) $(BIN)/etcd $(BIN)/kwok $(BIN)/helm $(BIN)/helm4

# The race detector needs a C compiler, the only thing here that Go does not bring along.
RACE := $(if $(shell command -v $(firstword $(shell go env CC))),-race)
STATICCHECK := go tool -modfile="$(CURDIR)/tools/go.mod" staticcheck
SHFMT := go tool -modfile="$(CURDIR)/tools/go.mod" shfmt -i 2 -ci
ACTIONLINT := go tool -modfile="$(CURDIR)/tools/go.mod" actionlint
# shfmt finds scripts by name and by first line, but looks into no hidden folder.
SCRIPTS := . .ci/newest .ci/packages .ci/run plugin.complete

# $(call pinned,FOLDER,MODULE) is the version of MODULE in e2e/build/FOLDER/go.mod.
pinned = $(or $(shell cd e2e/build/$1 && GOWORK=off go list -m -f '{{.Version}}' $2),$(error e2e/build/$1/go.mod does not say the version of $2))
# $(call part,N,VERSION) is the Nth number of a version.
part = $(word $1,$(subst ., ,$(patsubst v%,%,$2)))

.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help build unit vulnerabilities lint format test race fuzz e2e reproduce faults soak bench binaries demo dist clean

help: ## List these targets.
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# STAMP is which commit the binary is of, where this is a clone of its own and git can say.
STAMP = $(shell [ -e .git ] && TZ=UTC0 git log -1 --no-show-signature --date=format-local:%Y-%m-%dT%H:%M:%SZ \
	--format="-X main.commit=%H$$([ -z "$$(git status --porcelain)" ] || echo -dirty) -X main.date=%cd" 2>/dev/null)

build: ## Build the plugin's binary, bin/helm-parallel-hooks.
	go build -trimpath -ldflags "-s -w -X main.version=$$(sed -n 's/^version: *"\{0,1\}\([^" ]*\).*/\1/p' plugin.yaml) $(STAMP)" -o bin/helm-parallel-hooks .

# PLATFORMS names some of them, such as "linux/amd64 windows/arm64".
dist: ## Build the archives of a release, for all platforms, from the commit: dist/.
	rm -rf dist
	go -C tools/release run . -root "$(CURDIR)" -out "$(CURDIR)/dist" $(PLATFORMS)

unit: ## Run the quick tests.
	go test ./...

# It asks vuln.go.dev what is known.
vulnerabilities: ## Look for known vulnerabilities in what the plugin calls.
	go tool -modfile=tools/go.mod govulncheck ./...

lint: ## Check the sources: gofmt, go vet, staticcheck, shfmt, shellcheck, actionlint.
	@unformatted=$$(gofmt -l $$(find . -name '*.go' -not -path './.cache/*')) && if [ -n "$$unformatted" ]; then \
		echo "not formatted (make format does it):" >&2; echo "$$unformatted" >&2; exit 1; fi
	go vet ./...
	$(STATICCHECK) ./...
	cd e2e && go vet ./...
	cd examples/run-hooks && go vet ./...
	cd e2e && $(STATICCHECK) ./...
	cd tools/release && go vet ./...
	cd tools/release && $(STATICCHECK) ./...
	$(SHFMT) -d $(SCRIPTS)
	@if ! command -v shellcheck >/dev/null; then \
		echo "WARNING: no shellcheck, so the scripts are NOT checked by it. Install it to have them checked." >&2; \
	else \
		shellcheck $$(find . -name '*.sh' -not -path './.cache/*') $(filter-out .,$(SCRIPTS)); \
	fi
	$(ACTIONLINT) -color $(wildcard .github/workflows/*)

format: ## Format the sources as lint wants them.
	gofmt -w $$(find . -name '*.go' -not -path './.cache/*')
	$(SHFMT) -w $(SCRIPTS)

test: FUZZTIME = 3s
test: lint race fuzz e2e reproduce ## Run all checks and all tests.

race: ## Run the quick tests under the race detector.
ifeq ($(RACE),)
	@echo "WARNING: no C compiler, so the tests run WITHOUT the race detector. Install gcc to have it." >&2
	go test ./...
else
	CGO_ENABLED=1 go test -race ./...
endif

FUZZTIME ?= 30s
MODULE = $(shell go list -m)

# Our own packages alone are instrumented: to build all of Kubernetes' and Helm's anew would take longer than the rest.
# An input that fails goes to the testdata of its package, and is to be kept there.
fuzz: ## Fuzz each target for FUZZTIME, 30s by default.
	@for package in hooks internal/display internal/helm3 internal/lint internal/report; do \
		cache="$(CURDIR)/.cache/fuzz/$$package"; \
		go test -c -gcflags='$(MODULE)/...=-d=libfuzzer' -o "$$cache/fuzz.test" ./$$package || exit 1; \
		for target in $$("$$cache/fuzz.test" -test.list '^Fuzz'); do \
			echo "$$target in $$package, for $(FUZZTIME)"; \
			(cd $$package && "$$cache/fuzz.test" -test.run '^$$' -test.fuzz "^$$target\$$" -test.fuzztime $(FUZZTIME) \
				-test.fuzzminimizetime 200x -test.fuzzcachedir "$$cache") || exit 1; \
		done; \
	done

# E2E_KUBECONFIG names another cluster to use; then there is no control plane of ours to build and to test.
e2e: $(if $(E2E_KUBECONFIG),$(BIN)/helm $(BIN)/helm4,$(BINARIES)) ## Run the end-to-end tests on a control plane of their own.
	cd e2e && E2E_RACE=$(RACE) go test -count=1 -p 1 -parallel 8 -timeout 60m $(if $(E2E_KUBECONFIG),.,./...)

reproduce: ## Build archives twice, in two folders, and compare them to the byte.
	go -C tools/release test -count=1 -timeout 60m ./...

faults: $(BINARIES) ## Have every command meet every fault at every moment; writes docs/reliability.md.
	cd e2e && E2E_CRASHES=50 go test -count=1 -parallel 12 -timeout 30m -run TestCrash .
	cd e2e && go test -count=1 -timeout 60m ./faults -whole -write

soak: $(BINARIES) ## Run 2000 hooks in a release, ten releases side by side and 200 operations one after another.
	cd e2e && go test -count=1 -v -parallel 10 -timeout 60m ./soak -whole

# BENCH_KUBECONFIG names another cluster to use, ROWS the rows to measure, as a regular expression, REPEAT how often.
bench: $(if $(BENCH_KUBECONFIG),$(BIN)/helm,$(BINARIES)) ## Compare the plugin with helm and with the floor; writes docs/benchmarks.md.
	@go -C e2e build -o "$(CURDIR)/$(BIN)/bench" ./bench
	@exec $(BIN)/bench -rows '$(value ROWS)' $(if $(REPEAT),-repeat $(REPEAT))

binaries: $(BINARIES) ## Build the control plane and helm.

# DEMO_KUBECONFIG names another cluster to use.
demo: $(if $(DEMO_KUBECONFIG),$(BIN)/helm,$(filter-out $(BIN)/helm4,$(BINARIES))) ## Install a chart with and without parallel hooks and compare.
	@go -C e2e build -o "$(CURDIR)/$(BIN)/demo" ./demo
	@exec $(BIN)/demo

clean: ## Remove all that was built here.
	rm -rf bin dist .cache

# Same package, same output name: one rule for the three.
$(PROGRAMS): FOLDER = $(or $(OTHER),kubernetes)
$(PROGRAMS): VERSION = $(call pinned,$(FOLDER),k8s.io/kubernetes)
$(PROGRAMS): e2e/build/$(or $(OTHER),kubernetes)/go.mod
	@echo "Building $(@F) $(VERSION). The first time: 10 minutes for all of Kubernetes."
	@go -C e2e/build/$(FOLDER) build -trimpath -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$(VERSION) -X k8s.io/component-base/version.gitMajor=$(call part,1,$(VERSION)) -X k8s.io/component-base/version.gitMinor=$(call part,2,$(VERSION))" -o "$(CURDIR)/$@" k8s.io/kubernetes/cmd/$(@F)
	@touch $@

$(BIN)/etcd: e2e/build/etcd/go.mod
	@echo "Building etcd $(call pinned,etcd,go.etcd.io/etcd/server/v3). The first time: 2 minutes."
	@go -C e2e/build/etcd build -trimpath -ldflags "-s -w" -o "$(CURDIR)/$@" go.etcd.io/etcd/server/v3
	@touch $@

$(BIN)/kwok: e2e/build/kwok/go.mod
	@echo "Building kwok $(call pinned,kwok,sigs.k8s.io/kwok). The first time: 4 minutes."
	@go -C e2e/build/kwok build -trimpath -ldflags "-s -w" -o "$(CURDIR)/$@" sigs.k8s.io/kwok/cmd/kwok
	@touch $@

# As in Helm's own builds, templates that are rendered without a cluster see the Kubernetes version of client-go.
$(BIN)/helm: VERSION = $(call pinned,helm,helm.sh/helm/v3)
$(BIN)/helm: MINOR = $(call part,2,$(call pinned,helm,k8s.io/client-go))
$(BIN)/helm: e2e/build/helm/go.mod
	@echo "Building helm $(VERSION). The first time: 2 minutes."
	@go -C e2e/build/helm build -trimpath -ldflags "-s -w -X helm.sh/helm/v3/internal/version.version=$(VERSION) $(foreach package,lint/rules chartutil,-X helm.sh/helm/v3/pkg/$(package).k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/$(package).k8sVersionMinor=$(MINOR))" -o "$(CURDIR)/$@" helm.sh/helm/v3/cmd/helm
	@touch $@

# Helm 4 finds out for itself which client-go it was built with.
$(BIN)/helm4: VERSION = $(call pinned,helm4,helm.sh/helm/v4)
$(BIN)/helm4: e2e/build/helm4/go.mod
	@echo "Building helm $(VERSION). The first time: 4 minutes."
	@go -C e2e/build/helm4 build -trimpath -ldflags "-s -w -X helm.sh/helm/v4/internal/version.version=$(VERSION)" -o "$(CURDIR)/$@" helm.sh/helm/v4/cmd/helm
	@touch $@
