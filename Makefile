# The daily commands. Each sets up what it needs in .venv; PYTHON=python3.12 picks another interpreter.
PYTHON ?= python3
BIN := .venv/bin
# Tests mostly wait for a server, a lease, a process: two for each processor.
WORKERS ?= $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN))))

# Many programs are started, each from the same sources: they are compiled once, also where the machine says not to.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-consul test-kerberos test-oldest test-wheel soak fleet lint bench servers docs site release clean

demo: .venv/demo           ## the earthquake demo: three services over an embedded NATS
	$(BIN)/python -m examples.quakes

test: servers              ## all tests, on real servers: NATS, RabbitMQ, Kafka, etcd
	$(BIN)/pytest -n $(WORKERS) --dist worksteal

test-consul: servers       ## the registry on a real Consul, which is built first: 20 minutes, and Go is needed
	tests/servers/build-consul
	EVENTMICRO_REQUIRE=consul $(BIN)/pytest -n $(WORKERS) tests/conformance/test_consul_registry.py tests/integration/consul

test-kerberos: servers     ## logins to Kafka by tickets, against a KDC of MIT's Kerberos, which is installed first
	tests/servers/install-kerberos
	$(BIN)/pip install -q -e '.[kerberos]'
	EVENTMICRO_REQUIRE=kerberos,kafka $(BIN)/pytest tests/integration/kafka/test_kerberos.py

test-wheel: servers        ## the tests against the built wheel, apart from the sources
	rm -rf build/wheel && mkdir -p build/wheel
	$(BIN)/python -m hatchling build -t wheel -d build/wheel/dist
	$(BIN)/python -m venv --system-site-packages build/wheel/venv
	$(BIN)/python -c "import site; print(*site.getsitepackages(), sep='\n')" \
		> $$(build/wheel/venv/bin/python -c "import site; print(site.getsitepackages()[0])")/dev.pth
	build/wheel/venv/bin/python -m pip install -q --no-deps --force-reinstall build/wheel/dist/*.whl
	cp -r tests docs *.md pyproject.toml build/wheel/
	cd build/wheel && venv/bin/python -P -m pytest -n auto tests/unit tests/wire tests/conformance/test_nats.py

test-oldest: .venv/dev     ## the unit and wire tests with the oldest version of each dependency, minutes
	@mkdir -p build/oldest
	$(BIN)/python -m tests.oldest > build/oldest/constraints.txt
	$(BIN)/python -m venv --clear build/oldest/venv
	build/oldest/venv/bin/pip install -q -c build/oldest/constraints.txt -e '.[all,demo]' $$($(BIN)/python -m tests.oldest tools)
	build/oldest/venv/bin/python -m pytest -n $(WORKERS) --dist worksteal tests/unit tests/wire

soak: servers              ## clusters of three nodes under faults, minutes: EVENTS=100000 SEED=7 BROKERS=jetstream,kafka
	$(BIN)/python -m tests.soak

fleet: servers             ## clients of other frameworks beside ours, killed meanwhile, minutes: EVENTS=100000 KILLS=40 BROKERS=kafka
	$(BIN)/python -m tests.fleet

lint: .venv/dev            ## style, types, those of docs/ and examples/ too, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/python -m tests.documented

bench: servers             ## beside hand-written clients and FastStream, in one run; SCALE=1: what very many cost
	$(BIN)/python -m benchmarks $(if $(SCALE),--scale)

servers: .venv/kafka       ## what tests start; where one cannot be had, they say so and are skipped
	@tests/servers/install-rabbitmq || echo "RabbitMQ could not be installed: its tests are skipped"
	@tests/servers/install-etcd || echo "etcd could not be installed: its tests are skipped"
	@tests/servers/install-asyncapi || echo "AsyncAPI's parser could not be installed: its tests are skipped"

docs: .venv/dev           ## what docs/ takes from the code: brokers.md, settings.md
	$(BIN)/python docs/update.py

site: .venv/site           ## the documentation in build/site, with every link checked and the docstrings as reference
	$(BIN)/python docs/site.py

release: .venv/release    ## wheel and sdist in build/release/dist, held to what a release is; uploads nothing
	$(BIN)/python -m tests.release

clean:
	rm -rf .venv build dist .cache

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "No venv here. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }

.venv/demo: .venv/bin/python pyproject.toml
	$(BIN)/pip install -q -e '.[demo]'
	@touch $@

.venv/dev: .venv/bin/python pyproject.toml
	$(BIN)/pip install -q -e '.[dev]'
	@touch $@

.venv/site: .venv/dev
	$(BIN)/pip install -q -e '.[site]'
	@touch $@

.venv/release: .venv/dev
	$(BIN)/pip install -q -e '.[release]'
	@touch $@

.venv/kafka: .venv/dev tests/servers/kafka.py tests/servers/kafka_jars.py
	@$(BIN)/python -m tests.servers && touch $@ || echo "Kafka could not be fetched: its tests are skipped"
