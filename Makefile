# For users: run, demo, test, bench. For those who work on it: make help.
export CGO_ENABLED = 0
GO ?= go
LDFLAGS = -s -w $(if $(VERSION),-X main.version=$(VERSION))
TOOLS = .tools/bin
LINT = $(TOOLS)/golangci-lint
# Real servers for tests: S3, and a proxy that breaks connections.
SERVERS = $(TOOLS)/versitygw $(TOOLS)/toxiproxy-server
UNIT = ./cmd/... ./internal/... ./web

.PHONY: run demo test bench build web unit race lint fmt gen fuzz e2e soak check setup cover help go-version

run: build ## start Furrow: collector on :8080, inspector on 127.0.0.1:8081
	@exec bin/furrow serve

demo: build ## start Furrow with a demo shop and simulated visitors
	@exec bin/furrow demo

test: check ## set up what is needed and run every test, as CI does

bench: build ## measure everything that docs/bench.md states
	$(GO) run ./bench

build: go-version ## build bin/furrow
	@$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/furrow ./cmd/furrow

go-version:
	@v=$$($(GO) env GOVERSION 2>/dev/null | sed 's/^go//'); \
	case "$$v" in \
	"") echo "Furrow needs Go 1.26 or newer: install it from https://go.dev/dl/" >&2; exit 1;; \
	0.*|1.?|1.?.*|1.1?|1.1?.*|1.2[0-5]|1.2[0-5].*) echo "Furrow needs Go 1.26 or newer, found $$v: install it from https://go.dev/dl/" >&2; exit 1;; \
	esac

setup: go-version $(SERVERS) ## install what the tests need (apt, npm, real servers)
	@.ci/setup

web: ## bundle the tracker and the pages into web/dist
	$(GO) run ./web/build

gen: ## write docs/config.md from the structs
	$(GO) test -count=1 -run TestReferenceIsCurrent ./internal/config -update

unit: ## unit tests
	$(GO) test $(UNIT)

race: ## unit tests under the race detector, when there is a C compiler
	@if command -v gcc >/dev/null || command -v cc >/dev/null; then \
	CGO_ENABLED=1 $(GO) test -race $(UNIT); \
	else echo "SKIPPED: race detector (no C compiler)"; $(GO) test $(UNIT); fi

lint: $(LINT) ## golangci-lint, gofumpt and the rules for the tree
	$(LINT) run ./...
	@test -z "$$($(TOOLS)/gofumpt -l cmd internal web e2e bench)" || { $(TOOLS)/gofumpt -l cmd internal web e2e bench; echo "run make fmt"; exit 1; }
	@.ci/tree

$(LINT): tools/go.mod tools/go.sum
	cd tools && GOBIN=$(CURDIR)/$(TOOLS) $(GO) install tool
	@touch $(LINT)

$(TOOLS)/versitygw:
	GOBIN=$(CURDIR)/$(TOOLS) $(GO) install github.com/versity/versitygw/cmd/versitygw@v1.8.0

$(TOOLS)/toxiproxy-server: # its command is called server
	@mkdir -p $(TOOLS)/toxiproxy
	GOBIN=$(CURDIR)/$(TOOLS)/toxiproxy $(GO) install github.com/Shopify/toxiproxy/v2/cmd/server@v2.5.0
	@mv $(TOOLS)/toxiproxy/server $@ && rmdir $(TOOLS)/toxiproxy

fmt: $(LINT) ## format the Go code
	$(TOOLS)/gofumpt -w cmd internal web e2e bench

web-check: ## type check the TypeScript; the committed bundles must be those of the sources
	@if [ -d web/node_modules ]; then cd web && npx tsc --noEmit -p .; else echo "SKIPPED: TypeScript check (no npm)"; fi
	$(GO) run ./web/build
	@git diff --exit-code --stat -- web/dist || { echo "web/dist is not what the sources build: run make web and commit"; exit 1; }

e2e: build ## whole-system tests against bin/furrow
	$(GO) test -count=1 -timeout 12m ./e2e/...

fuzz: ## fuzz each target for 30 s
	@for p in $$($(GO) list ./internal/...); do \
	for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do \
	echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime 30s $$p || exit 1; done; done

soak: build ## long rounds: hundreds of kills under load
	ROUNDS=200 $(GO) test -count=1 -timeout 3h -run 'Kill' -v ./e2e/...

check: setup lint web-check race e2e ## what .ci/run runs

cover: ## coverage by package
	$(GO) test -cover $(UNIT)

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12
