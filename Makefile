# Everything here works on a bare Debian 12 with Go, gcc, git and make, as root:
# what else is needed, `setup` installs. Tools are built from pinned modules.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

VERSION ?= $(shell scripts/version)
DIST    ?= dist
GO      ?= go
PATH    := $(PATH):/usr/local/go/bin:/usr/sbin:/sbin
export PATH

tools  := packaging/tools
lint   := bin/golangci-lint
nfpm   := bin/nfpm
vmtier := bin/vmtier

## help: what there is to make (the default)
.PHONY: help
help:
	@echo "make TARGET, where TARGET is"
	@sed -n 's/^## \([a-z-]*\): /  \1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12

## demo: two real guests, attached and shown, in namespaces of their own (2 min)
.PHONY: demo
demo: setup-demo build
	@$(GO) build -o bin/vmnetd-demo ./internal/demo
	@exec bin/vmnetd-demo -vmnetd bin/vmnetd

## demo-failover: a redundant uplink fails and is exchanged under guests, in a VM (2 min)
.PHONY: demo-failover
demo-failover: setup-test build $(vmtier)
	@$(GO) build -o bin/vmnetd-demo ./internal/demo
	@exec $(vmtier) run -guest -- $(CURDIR)/bin/vmnetd-demo -vmnetd $(CURDIR)/bin/vmnetd -failover

# -count=1: the tests of the program as a whole build it themselves, which the
# cache of results does not see.
## test: all checks and all tests (15 min on 2 cores)
.PHONY: test
test: setup-test build lint deb
	VMNETD_REQUIRE=netns,libvirt $(GO) test -race -count=1 -timeout 20m ./...
	@$(MAKE) --no-print-directory test-vm

## test-vm: the tests that need bond, team, vlan and bridge, in a VM (20 min)
.PHONY: test-vm
test-vm: setup-test $(vmtier)
	$(vmtier) test

## vm-shell: a shell in that VM, to try things
.PHONY: vm-shell
vm-shell: setup-test $(vmtier)
	@exec $(vmtier) shell

## bench: attach, detach, frames and failover, measured; against the floor and libvirt
.PHONY: bench
bench: setup-bench build $(vmtier)
	$(GO) build -o bin/vmnetd-bench ./internal/bench
	CGO_ENABLED=0 $(GO) build -o bin/vmnetd-blaster ./internal/datapath/blaster
	exec bin/vmnetd-bench -vmnetd bin/vmnetd

## build: bin/vmnetd
.PHONY: build
build:
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)' -o bin/vmnetd ./cmd/vmnetd

## deb: the Debian package, in dist/
.PHONY: deb
deb: build $(nfpm)
	packaging/build-deb bin/vmnetd $(nfpm) '$(VERSION)' '$(DIST)'

## lint: static checks
.PHONY: lint
lint: $(lint)
	$(lint) run ./...
	$(GO) mod verify

## setup: install what demo and test need and this machine lacks
.PHONY: setup setup-demo setup-test setup-bench
setup: setup-test
setup-demo setup-test setup-bench:
	@scripts/setup $(@:setup-%=%)

## clean: remove what was built
.PHONY: clean
clean:
	rm -rf bin dist

# The first build of the linter takes three minutes; Go's build cache keeps it.
$(lint): $(tools)/go.mod $(tools)/go.sum
	@echo "building golangci-lint"
	@cd $(tools) && $(GO) build -o ../../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

.PHONY: $(vmtier)
$(vmtier):
	@$(GO) build -o $@ ./internal/vmtest/vmtier

$(nfpm): $(tools)/nfpm/go.mod $(tools)/nfpm/go.sum
	@echo "building nfpm"
	@cd $(tools)/nfpm && $(GO) build -o ../../../$@ github.com/goreleaser/nfpm/v2/cmd/nfpm
