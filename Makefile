# make dev    run the whole product on this machine
# make test   every check there is
# make bench  measure it
#
# Each installs missing packages on Debian and Ubuntu (as root or with passwordless sudo). Elsewhere it
# lists them.

.PHONY: dev test bench web check clients

ARGS ?=

dev:
	@./tools/need postgresql nodejs npm curl mosquitto-clients
	@$(MAKE) --no-print-directory web || echo "GraphiQL could not be fetched: /graphiql will say how to get it"
	cargo run --release -- dev $(ARGS)

test:
	@./tools/need postgresql mosquitto mosquitto-clients nodejs npm curl chromium openssl python3-venv systemd nginx-light caddy \
		g++ arduino-core-avr libmosquitto-dev prometheus
	@$(MAKE) --no-print-directory web
	@$(MAKE) --no-print-directory clients
	@$(MAKE) --no-print-directory check
	@./tools/run-tests

# The packages of the clients that the tests run; installed again only when their lists have changed.
clients: tests/node/node_modules/.package-lock.json examples/clients/node_modules/.package-lock.json \
	tests/python/.venv/installed

%/node_modules/.package-lock.json: %/package-lock.json
	cd $* && npm ci --silent --no-fund --no-audit

tests/python/.venv/installed: tests/python/requirements.txt
	cd tests/python && python3 -m venv .venv && \
		.venv/bin/pip install -q --disable-pip-version-check --no-input -r requirements.txt && touch .venv/installed

# Formatting, lints, documentation.
check:
	cargo fmt --check
	cargo clippy --all-targets --quiet -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --quiet
	@if command -v cargo-deny > /dev/null; then cargo deny --log-level error check; \
	else echo "cargo-deny is not installed: licences and advisories are not checked"; fi

# GraphiQL for the binary to embed; made again only when its sources or versions have changed. The compiler
# does not notice files that were not there before, so what embeds them is touched.
web: web/dist/graphiql.html

web/dist/graphiql.html: web/package-lock.json web/build.mjs $(wildcard web/src/*)
	@if command -v npm > /dev/null; then \
		(cd web && npm ci --silent --no-fund --no-audit && npm run --silent build) && touch src/http/pages/assets.rs; \
	else echo "Node is not installed: /graphiql will only say how to get it"; fi

bench:
	@./tools/need postgresql mosquitto
	./bench/run $(ARGS)
