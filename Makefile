# One command for each thing one does here. `make` alone lists them.

# Compiled dependencies live outside the clone, so that the demo, the tests and CI of any clone share one build.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/provincial-hub/target
export CARGO_TERM_COLOR ?= auto

STACK := deploy/local/stack.sh

.DEFAULT_GOAL := help
.PHONY: help up down status clean demo run test lint fmt verify bench bench-peers

help: ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "  make %-12s %s\n", $$1, $$2 }'

demo: ## everything on a fresh clone: build, load a one-stop shop, run the hub, change rows live, reconcile
	@deploy/local/demo.sh

run: ## the demo's system and the hub, and stay up
	@deploy/local/demo.sh stay

up: ## start the private Kafka and PostgreSQL (data in .local/)
	@$(STACK) up

down: ## stop what this checkout started
	@$(STACK) down

status: ## what runs, on which port, and where its log is
	@$(STACK) status

clean: ## stop, and remove .local/ (downloads and builds stay in ~/.cache/provincial-hub)
	@$(STACK) clean

test: ## all tests; starts what they need
	@$(STACK) up pg18 mariadb
	@deploy/local/claim.sh
	cargo build --workspace --bins
	cargo test --workspace --no-fail-fast

lint: ## formatting, clippy, licences and advisories
	@deploy/local/claim.sh
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	@if cargo deny --version >/dev/null 2>&1; then \
		cargo deny --log-level error check; \
	else \
		echo "cargo-deny is absent, so deny.toml is not checked here: 'cargo install --locked cargo-deny' (several minutes of building) adds it"; \
	fi

fmt: ## format the sources
	cargo fmt --all

verify: lint test ## what CI runs

bench: ## the figures of the hub, release build, against what the servers themselves can do
	@$(STACK) up mariadb
	@deploy/local/claim.sh
	cargo build --release -p hub-cli -p hub-tests-bench
	$(CARGO_TARGET_DIR)/release/hub-bench run

bench-peers: ## the same tables through Debezium beside the hub
	@$(STACK) up
	@deploy/local/claim.sh
	cargo build --release -p hub-cli -p hub-tests-bench
	$(CARGO_TARGET_DIR)/release/hub-bench peers
