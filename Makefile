# peosim: one flat Makefile. `make` builds ./peosim and never installs anything.
# Rooms are globbed: a new file in a room is built, a new tests/test_x.c is a test.
CC ?= gcc
BUILD ?= build
PREFIX ?= /usr/local
WARN := -Wall -Wextra -Wshadow -Werror
OPT ?= -O2 -g
SAN ?=
PKGS := yaml-0.1 gsl jansson
ALL_CFLAGS = -std=c11 -D_GNU_SOURCE $(WARN) $(OPT) -ffp-contract=off -I. $(SAN) $(CFLAGS)
LDLIBS := $(shell pkg-config --libs $(PKGS) 2>/dev/null || echo -lyaml -lgsl -lgslcblas -ljansson) -lmd -lm -lpthread
# MPI spreads `peosim sweep` over machines: used where it is installed, left out with `make MPI=`.
MPI ?= $(firstword $(shell for p in ompi-c mpich; do pkg-config --exists $$p && echo $$p; done))
ifneq ($(MPI),)
MPI_CFLAGS := -DPEOSIM_MPI $(patsubst -I%,-isystem %,$(shell pkg-config --cflags-only-I $(MPI)))
LDLIBS += $(shell pkg-config --libs $(MPI))
endif
LINK = $(CC) $(SAN) $(LDFLAGS) -o $@ $(filter %.o %.a,$^)

# make V=1 shows the commands.
Q := $(if $(V),,@)
SAY = $(if $(V),,@echo "$(1) $(2)")
PARALLEL := -j$(shell nproc 2>/dev/null || echo 2)

ROOMS := base plan hw model sim validate
SRCS := $(filter-out $(wildcard validate/gpu_*.c),$(wildcard $(ROOMS:%=%/*.c)))
CMD_SRCS := $(wildcard cmd/*.c)
LIB_OBJS := $(SRCS:%.c=$(BUILD)/%.o) $(patsubst %.c,$(BUILD)/%.o,$(filter-out cmd/main.c,$(CMD_SRCS)))
TESTS := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/test_*.c))
FUZZ := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/fuzz/fuzz_*.c))

all: deps peosim

deps:
	@./setup.sh show

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(call SAY,cc  ,$@)
	$(Q)$(CC) $(CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/cmd/sweep_mpi.o: ALL_CFLAGS += $(MPI_CFLAGS)

$(BUILD)/libpeosim.a: $(LIB_OBJS)
	@rm -f $@
	@ar rcs $@ $^

$(BUILD)/peosim: $(BUILD)/cmd/main.o $(BUILD)/libpeosim.a
	$(call SAY,link,$@)
	$(Q)$(LINK) $(LDLIBS)

peosim: $(BUILD)/peosim
	@cp -f $< $@

$(BUILD)/tests/test_%: $(BUILD)/tests/test_%.o $(BUILD)/libpeosim.a
	$(call SAY,link,$@)
	$(Q)$(LINK) -lcmocka $(LDLIBS)

# Without libFuzzer: a driver of our own with a fixed generator. `make libfuzzer` links clang's.
FUZZ_MAIN ?= $(BUILD)/tests/fuzz/standalone.o
$(BUILD)/tests/fuzz/fuzz_%: $(BUILD)/tests/fuzz/fuzz_%.o $(filter %.o,$(FUZZ_MAIN)) $(BUILD)/libpeosim.a
	$(call SAY,link,$@)
	$(Q)$(LINK) $(filter-out %.o,$(FUZZ_MAIN)) $(LDLIBS)

$(BUILD)/tests/bench/%: $(BUILD)/tests/bench/%.o $(BUILD)/libpeosim.a
	$(call SAY,link,$@)
	$(Q)$(LINK) $(LDLIBS)

tests: $(TESTS) $(FUZZ)
check: tests $(if $(wildcard cmd/main.c),$(BUILD)/peosim)
	@CC=$(CC) tests/run.sh $(BUILD)

# Two steps, so that the second sees what the first has installed.
test:
	@./setup.sh install test
	@$(MAKE) --no-print-directory $(PARALLEL) check

demo:
	@./setup.sh install demo
	@$(MAKE) --no-print-directory $(PARALLEL) peosim
	./peosim run configs/dpsk_ep64.yaml
	@echo "Results and pictures: results/dpsk_ep64/" && ls results/dpsk_ep64

asan:
	@$(MAKE) --no-print-directory $(PARALLEL) check BUILD=build-asan OPT="-O1 -g" FUZZ_RUNS=20000 \
		SAN="-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"

libfuzzer:
	@$(MAKE) --no-print-directory $(PARALLEL) BUILD=build-fuzz CC=clang SAN="-fsanitize=fuzzer-no-link,address,undefined" \
		FUZZ_MAIN=-fsanitize=fuzzer $(FUZZ:$(BUILD)/%=build-fuzz/%)

golden-update: $(BUILD)/peosim
	tests/golden.sh --update $(BUILD)/peosim
	git diff --stat -- tests/golden

# Formatting differs between versions of clang-format: 14 decides.
CLANG_FORMAT := $(or $(shell command -v clang-format-14),clang-format)
FORMATTED = $(shell find base plan hw model sim kernels validate cmd tests -name '*.[ch]' -o -name '*.cu')
format:
	$(CLANG_FORMAT) -i $(FORMATTED)
format-check:
	@if $(CLANG_FORMAT) --version | grep -q 'version 14\.'; \
	then $(CLANG_FORMAT) --dry-run --Werror $(FORMATTED); \
	else echo "format check skipped: it needs clang-format 14, found $$($(CLANG_FORMAT) --version)"; fi

SHARE = $(DESTDIR)$(PREFIX)/share/peosim
install: peosim
	install -D -m 755 peosim $(DESTDIR)$(PREFIX)/bin/peosim
	install -d $(SHARE)/hw $(SHARE)/configs/models $(SHARE)/configs/capacity $(SHARE)/plots
	install -m 644 -t $(SHARE)/hw $(wildcard hw/*.yaml)
	install -m 644 -t $(SHARE)/configs $(wildcard configs/*.yaml)
	install -m 644 -t $(SHARE)/configs/models $(wildcard configs/models/*.json)
	install -m 644 -t $(SHARE)/configs/capacity $(wildcard configs/capacity/*.yaml)
	install -m 644 -t $(SHARE)/plots $(wildcard plots/*)
	install -m 644 -t $(SHARE) LICENSE

clean:
	rm -rf build build-clang build-asan build-fuzz peosim

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
.PHONY: all deps tests check test demo asan libfuzzer golden-update format format-check install clean
.SECONDARY:

$(BUILD)/a2a: $(BUILD)/tests/bench/a2a.o $(BUILD)/libpeosim.a
	$(call SAY,link,$@)
	$(Q)$(LINK) $(LDLIBS)

$(BUILD)/bench_%: $(BUILD)/tests/bench/bench_%.o $(BUILD)/libpeosim.a
	$(call SAY,link,$@)
	$(Q)$(LINK) $(LDLIBS)

# Medians of the engines; not timed tests. BENCH_FLAGS go to the flow engine's bench.
bench: $(BUILD)/bench_layer $(patsubst tests/bench/%.c,$(BUILD)/%,$(filter-out tests/bench/bench_layer.c,$(wildcard tests/bench/bench_*.c)))
	@for b in $^; do echo "== $$b"; $$b $(BENCH_FLAGS) || exit 1; done

# The README's accuracy tables, from a folder of public measurements.
DATA ?= $(or $(PEOSIM_DATA),../shared/data)
accuracy: peosim
	@hw/accuracy.sh $(DATA)

# Runs every command that README.md shows, puts its output there, draws its pictures again.
readme: peosim
	@validate/readme.sh
	@./peosim run configs/dpsk_ep64.yaml >/dev/null
	@cp results/dpsk_ep64/timeline.png results/dpsk_ep64/gain_batch.png plots/gallery/

.PHONY: bench accuracy readme

# Fits all shipped profiles again from such a folder.
profiles: peosim
	@hw/rebuild.sh $(DATA) --groups=false
.PHONY: profiles
