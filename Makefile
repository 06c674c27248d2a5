# Every target has a one-line help; `make` alone lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help

GO      ?= go
RUN     ?=
RUNTIME ?=
TESTS   ?= ./...
# The race detector needs a C compiler; `make deps` installs one where it may.
RACE    := $(shell command -v gcc >/dev/null 2>&1 && echo -race)

## dev: run the whole system on this machine, seeded, with two real demo clusters (RUNTIME=lambda or gcf: as built for that cloud)
.PHONY: dev
dev:
	@$(GO) run ./localdev $(if $(RUNTIME),-runtime $(RUNTIME))

## demo: tell the whole story on real API servers, and check every step
.PHONY: demo
demo:
	@$(GO) run ./localdev -demo $(if $(RUNTIME),-runtime $(RUNTIME))

## test: prove it: every test, race detector on, shuffled, then the linters
.PHONY: test
test: deps lint
	@test -n "$(RACE)" || { echo "no C compiler: the race detector is off"; test -z "$$CI"; }
	@$(GO) run ./localdev -build
	$(GO) test $(RACE) -shuffle=on -timeout 40m $(if $(RUN),-run '$(RUN)') $(TESTS)
ifneq ($(RACE),)
	@# The random worlds and histories in full: with the race detector on they run on a fiftieth.
	$(if $(RUN),,$(GO) test -shuffle=on ./core/policy ./core/access)
endif

## bench: print what things cost, as ratios
.PHONY: bench
bench:
	@set -o pipefail; $(GO) test -run '^$$' -bench . $(TESTS) | grep -vE '^(ok|PASS|\?|goos|goarch|cpu)'

## fuzz: fuzz every parser for a short while each (FUZZTIME=30s)
.PHONY: fuzz
fuzz:
	@for p in $$($(GO) list ./...); do for f in $$($(GO) test -list '^Fuzz' $$p | grep ^Fuzz); do \
		echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $${FUZZTIME:-30s} $$p || exit 1; done; done

## lint: gofmt, vet, staticcheck; govulncheck where its database can be reached
.PHONY: lint
lint:
	@out=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$out" || { echo "not gofmt'ed:"; echo "$$out"; exit 1; }
	@$(GO) vet ./...
	@$(GO) tool staticcheck ./...
	@$(GO) mod verify >/dev/null
	@if curl -fsS -m 5 -o /dev/null https://vuln.go.dev/index/db.json 2>/dev/null; then \
		$(GO) run golang.org/x/vuln/cmd/govulncheck@v1.1.4 ./...; \
	else echo "govulncheck: its database cannot be reached from here; skipped"; fi

## deps: fetch what the tests need and Go does not bring (C compiler, Node.js, Java, chromium)
.PHONY: deps
deps:
	@./.ci/deps

## dist: build the deployable archives, the same to the byte wherever they are built
.PHONY: dist
dist:
	@$(GO) run ./infra/dist

## cli: build the command line, fleetpass and fleetpass-store, into bin
.PHONY: cli
cli:
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o bin/ ./cmd/fleetpass ./cmd/fleetpass-store

## clean: remove what was built and the local data (not the cached API server)
.PHONY: clean
clean:
	rm -rf dist bin .dev

## help: list the targets
.PHONY: help
help:
	@echo "Fleetpass: one front door for a fleet of Kubernetes clusters"; echo
	@sed -n 's/^## \([a-z]*\): /\1 /p' $(MAKEFILE_LIST) | while read -r t rest; do printf '  make %-6s %s\n' "$$t" "$$rest"; done
