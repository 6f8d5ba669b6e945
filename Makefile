# peosim: one flat Makefile. `make` builds ./peosim and never installs anything.
# Rooms are globbed: a new file in a room is built, a new tests/test_x.c is a test.
CC ?= gcc
BUILD ?= build
PREFIX ?= /usr/local
WARN := -Wall -Wextra -Wshadow -Werror
OPT ?= -O2 -g
SAN ?=
PKGS := yaml-0.1 gsl jansson sqlite3
ALL_CFLAGS = -std=c11 -D_GNU_SOURCE $(WARN) $(OPT) -ffp-contract=off -I. $(SAN) $(CFLAGS)
LDLIBS := $(shell pkg-config --libs $(PKGS) 2>/dev/null || echo -lyaml -lgsl -lgslcblas -ljansson -lsqlite3) -lmd -lm -lpthread -ldl
# MPI spreads `peosim sweep` over machines and passes NCCL's id: used where it is installed, left out
# with `make MPI=`.
MPI ?= $(firstword $(shell for p in ompi-c mpich; do pkg-config --exists $$p 2>/dev/null && echo $$p; done))
ifneq ($(MPI),)
MPI_CFLAGS := -DPEOSIM_MPI $(patsubst -I%,-isystem %,$(shell pkg-config --cflags-only-I $(MPI)))
LDLIBS += $(shell pkg-config --libs $(MPI))
endif
LINK = $(CC) $(SAN) $(LDFLAGS) -o $@ $(filter %.o %.a,$^)

# make V=1 shows the commands.
Q := $(if $(V),,@)
SAY = $(if $(V),,@echo "$(1) $(2)")
PARALLEL := -j$(shell nproc 2>/dev/null || echo 2)

# From the lowest room to the highest; validate/gpu_* and validate/bench/ belong to the GPU half.
ROOMS := base plan trace hw model model/law model/policy sim sim/flow calib study serve report validate cmd
LIB_SRCS := $(filter-out cmd/main.c $(wildcard validate/gpu_*.c),$(wildcard $(ROOMS:%=%/*.c)))
LIB_OBJS := $(LIB_SRCS:%.c=$(BUILD)/%.o)
TESTS := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/*/test_*.c))
TESTS := $(filter-out $(BUILD)/tests/gpu/%,$(TESTS))
FUZZ := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/fuzz/fuzz_*.c))

all: deps peosim

deps:
	@./setup.sh show

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(call SAY,cc  ,$@)
	$(Q)$(CC) $(CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/study/sweep_mpi.o $(BUILD)/validate/team_mpi.o: ALL_CFLAGS += $(MPI_CFLAGS)

$(BUILD)/libpeosim.a: $(LIB_OBJS)
	@rm -f $@
	@ar rcs $@ $^

$(BUILD)/peosim: $(BUILD)/cmd/main.o $(BUILD)/libpeosim.a
	$(call SAY,link,$@)
	$(Q)$(LINK) $(LDLIBS)

peosim: $(BUILD)/peosim
	@cp -f $< $@

$(TESTS): %: %.o $(BUILD)/libpeosim.a
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
# Two steps here too: what is missing is named before a compiler meets it.
check:
	@./setup.sh need test
	@$(MAKE) --no-print-directory run-tests
run-tests: tests $(BUILD)/peosim
	@CC="$(CC)" tests/run.sh $(BUILD)

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

# Lines and branches that the CPU tests run, per room; fails under 90% of a room's lines.
coverage:
	@$(MAKE) --no-print-directory $(PARALLEL) check BUILD=build-cov OPT="-O0 -g" SAN=--coverage TEST_TIMEOUT=600
	@tests/coverage.sh build-cov

libfuzzer:
	@$(MAKE) --no-print-directory $(PARALLEL) BUILD=build-fuzz CC=clang SAN="-fsanitize=fuzzer-no-link,address,undefined" \
		FUZZ_MAIN=-fsanitize=fuzzer $(FUZZ:$(BUILD)/%=build-fuzz/%)

# Minutes of libFuzzer per reader; what it learns grows tests/corpus/fuzz.
FUZZ_SECONDS ?= 900
fuzz-long: libfuzzer
	nice tests/fuzz/long.sh build-fuzz $(FUZZ_SECONDS) $(FUZZ_ONLY)

golden-update: $(BUILD)/peosim
	tests/golden.sh --update $(BUILD)/peosim
	git diff --stat -- tests/golden

# Formatting differs between versions of clang-format: 14 decides.
CLANG_FORMAT := $(or $(shell command -v clang-format-14),clang-format)
FORMATTED = $(shell find base plan trace hw model sim calib study serve report kernels validate cmd tests -name '*.[ch]' -o -name '*.cu')
format:
	$(CLANG_FORMAT) -i $(FORMATTED)
format-check:
	@if $(CLANG_FORMAT) --version | grep -q 'version 14\.'; \
	then $(CLANG_FORMAT) --dry-run --Werror $(FORMATTED); \
	else echo "format check skipped: it needs clang-format 14, found $$($(CLANG_FORMAT) --version)"; fi

# Mistakes that compilers let pass: the checks of .clang-tidy, over the CPU half.
CLANG_TIDY := $(or $(shell command -v clang-tidy-14),clang-tidy)
TIDY := $(LIB_SRCS:%=tidy-%) tidy-cmd/main.c
$(TIDY): tidy-%:
	$(Q)$(CLANG_TIDY) --quiet $* -- -std=c11 -D_GNU_SOURCE -I. 2>/dev/null
tidy:
	@command -v $(CLANG_TIDY) >/dev/null || { echo "make tidy needs clang-tidy (Debian: apt install clang-tidy)"; exit 1; }
	@$(MAKE) --no-print-directory $(PARALLEL) -k $(TIDY) && echo "clang-tidy: clean"
.PHONY: tidy $(TIDY)

SHARE = $(DESTDIR)$(PREFIX)/share/peosim
install: peosim
	install -D -m 755 peosim $(DESTDIR)$(PREFIX)/bin/peosim
	install -d $(SHARE)/hw/profiles/engines $(SHARE)/configs/models $(SHARE)/configs/serve $(SHARE)/configs/capacity $(SHARE)/configs/serve-plan $(SHARE)/configs/launch $(SHARE)/plots
	install -m 644 -t $(SHARE)/hw/profiles $(wildcard hw/profiles/*.yaml)
	install -m 644 -t $(SHARE)/hw/profiles/engines $(wildcard hw/profiles/engines/*.yaml)
	install -m 644 -t $(SHARE)/configs $(wildcard configs/*.yaml)
	install -m 644 -t $(SHARE)/configs/models $(wildcard configs/models/*.json)
	install -m 644 -t $(SHARE)/configs/serve $(wildcard configs/serve/*.yaml)
	install -m 644 -t $(SHARE)/configs/capacity $(wildcard configs/capacity/*.yaml)
	install -m 644 -t $(SHARE)/configs/serve-plan $(wildcard configs/serve-plan/*.yaml)
	install -m 644 -t $(SHARE)/configs/launch $(wildcard configs/launch/*.sh)
	install -m 644 -t $(SHARE)/plots $(wildcard plots/*.gp)
	install -d $(SHARE)/report/page $(SHARE)/report/vendor
	install -m 644 -t $(SHARE)/report/page $(wildcard report/page/*)
	install -m 644 -t $(SHARE)/report/vendor $(wildcard report/vendor/*)
	install -m 644 -t $(SHARE) LICENSE
	install -d $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/bash-completion/completions \
		$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	./peosim man >$(DESTDIR)$(PREFIX)/share/man/man1/peosim.1
	for c in $$(./peosim help | sed -n 's/^  \([a-z-]*\) .*/\1/p'); do \
		./peosim man $$c >$(DESTDIR)$(PREFIX)/share/man/man1/peosim-$$c.1 || exit 1; done
	./peosim completion bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/peosim
	./peosim completion fish >$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/peosim.fish

clean:
	rm -rf build build-clang build-asan build-fuzz build-cov peosim

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
.PHONY: coverage fuzz-long all deps tests check run-tests test demo asan libfuzzer golden-update format format-check install clean
.SECONDARY:

# Programs to measure with, at the end of the build folder: build/a2a SIZES.csv runs the flow engine on
# anyone's matrix of flow sizes.
$(BUILD)/a2a: $(BUILD)/tests/bench/a2a.o $(BUILD)/libpeosim.a
	$(call SAY,link,$@)
	$(Q)$(LINK) $(LDLIBS)

$(BUILD)/bench_%: $(BUILD)/tests/bench/bench_%.o $(BUILD)/libpeosim.a
	$(call SAY,link,$@)
	$(Q)$(LINK) $(LDLIBS)

CXX ?= g++
HAVE_SIMGRID := $(wildcard /usr/include/simgrid/s4u.hpp)
$(BUILD)/simgrid_a2a: tests/bench/simgrid_a2a.cpp
	$(call SAY,c++,$@)
	$(Q)mkdir -p $(@D) && $(CXX) -std=c++17 -O2 -Wall -Wextra -o $@ $< -lsimgrid

# Medians, not timed tests; SimGrid on the same sizes where it is installed. Larger ones take minutes.
SIMGRID_MOST ?= 64
EXACT_MOST ?= 320
bench: peosim $(addprefix $(BUILD)/bench_,layer flow heap) $(if $(HAVE_SIMGRID),$(BUILD)/simgrid_a2a)
	$(BUILD)/bench_layer
	$(BUILD)/bench_flow --exact-most $(EXACT_MOST) \
		$(if $(HAVE_SIMGRID),--simgrid $(BUILD)/simgrid_a2a --simgrid-most $(SIMGRID_MOST))
	$(BUILD)/bench_heap
	tests/bench/bars.sh ./peosim

# The README's accuracy tables: of public measurements, from their folder, and of layers on GPUs.
DATA ?= $(or $(PEOSIM_DATA),../shared/data)
accuracy: peosim
	@mkdir -p docs/results
	@docs/tables/accuracy.sh $(DATA) docs/results
	@docs/tables/coverage.sh >docs/results/coverage.md.new && mv docs/results/coverage.md.new docs/results/coverage.md
	@PEOSIM_DATA=$(DATA) docs/tables/readme.sh 'docs/tables/(evidence|heldout).sh'

# Runs every command that README.md shows, puts its output there, draws its pictures again.
readme: peosim
	@docs/tables/readme.sh
	@./peosim run configs/dpsk_ep64.yaml >/dev/null
	@cp results/dpsk_ep64/timeline.png results/dpsk_ep64/gain_batch.png plots/gallery/
	@./peosim why configs/dpsk_ep64.yaml --batch 128 >/dev/null; ./peosim recommend configs/dpsk_ep64.yaml >/dev/null
	@cp results/dpsk_ep64/why.png results/dpsk_ep64/recommend.png plots/gallery/
	@./peosim sweep configs/sweep_nic.yaml --restart >/dev/null && cp results/sweep_nic/gainmap_nic_Gbitps.png plots/gallery/gainmap_nic.png
	@$(MAKE) --no-print-directory gallery-compare

# Predicted above measured, from the evidence.
SPANS := results/compare/026-peo-b128
gallery-compare: peosim
	@./peosim validate configs/h200x4_paced.yaml --pace-GBps 47 --pace-us 5 --no-plots --quiet \
		--measured validate/evidence/2026-11-21-h200x4/paced --output-dir results/compare >/dev/null
	@./peosim diff $(SPANS)-predicted-spans.csv $(SPANS)-measured-spans.csv --names predicted,measured \
		--output-dir results/compare/diff >/dev/null && cp results/compare/diff/compare.png plots/gallery/

.PHONY: bench accuracy readme gallery-compare

# Fits all shipped profiles again from such a folder.
profiles: peosim
	@calib/rebuild.sh $(DATA) --groups=false
.PHONY: profiles
# The GPU half: the same program with kernels/, validate/gpu_*.c and validate/bench/, in a build folder of its own.
# STATIC=1 links the libraries that a GPU machine may lack; NCCL and cuBLASLt stay shared, and MPI is
# left out unless asked for: GPU_MPI=ompi-c.
CUDA_HOME ?= /usr/local/cuda
NCCL_HOME ?=
STATIC ?=
GPU_BUILD := build-gpu
NVCC = $(CUDA_HOME)/bin/nvcc
GPU_ARCH := -gencode=arch=compute_90a,code=sm_90a
NVCCFLAGS ?= -O3 -std=c++17 -Xcompiler -Wall,-Wextra,-Wno-unused-parameter
GPU_INCLUDE := -isystem $(CUDA_HOME)/include $(if $(NCCL_HOME),-isystem $(NCCL_HOME)/include)
# The wheel nvidia-nccl-cu13 has libnccl.so.2 alone, in a folder that no loader knows.
NCCL_LIB = $(if $(NCCL_HOME),-L$(NCCL_HOME)/lib -Wl$(COMMA)-rpath$(COMMA)$(abspath $(NCCL_HOME))/lib \
	$(if $(wildcard $(NCCL_HOME)/lib/libnccl.so),-lnccl,-l:libnccl.so.2),-lnccl)
COMMA := ,
GPU_LIBS = -L$(CUDA_HOME)/lib64 -L$(CUDA_HOME)/lib -L/usr/local/lib \
	$(NCCL_LIB) -lcublasLt -lcudart_static -ldl -lrt
# Headers of CUDA 13's CUPTI, from the toolkit; the library itself is looked for at run time.
CUPTI_HEADER := $(shell grep -ls CUpti_ActivityKernel10 $(CUDA_HOME)/include/cupti_activity.h \
	$(CUDA_HOME)/extras/CUPTI/include/cupti_activity.h)
CUPTI_CFLAGS := $(if $(CUPTI_HEADER),-DPEOSIM_CUPTI -isystem $(dir $(firstword $(CUPTI_HEADER))))
GPU_KERNELS := $(patsubst %.cu,$(GPU_BUILD)/%.o,$(wildcard kernels/*.cu)) $(patsubst %.c,$(GPU_BUILD)/%.o,$(wildcard kernels/*.c))
GPU_HOST := $(patsubst %.c,$(GPU_BUILD)/%.o,$(wildcard validate/gpu_*.c validate/bench/*.c))
GPU_COMMON := $(patsubst $(BUILD)/%,$(GPU_BUILD)/%,$(LIB_OBJS))
GPU_TESTS := $(patsubst %.c,$(GPU_BUILD)/%,$(wildcard tests/gpu/test_*.c))
GPU_BENCHES := $(patsubst %.c,$(GPU_BUILD)/%,$(wildcard tests/gpu/bench_*.c))
# What they share: every other file beside them.
GPU_TEST_COMMON := $(patsubst %.c,$(GPU_BUILD)/%.o,$(filter-out tests/gpu/test_% tests/gpu/bench_%,$(wildcard tests/gpu/*.c)))
STATIC_LIBS := -l:libyaml.a -l:libgsl.a -l:libgslcblas.a -l:libjansson.a -l:libsqlite3.a -l:libmd.a -lm -lpthread
GPU_MPI ?= $(if $(STATIC),,$(MPI))
GPU_MPI_CFLAGS = -DPEOSIM_MPI $(patsubst -I%,-isystem %,$(shell pkg-config --cflags-only-I $(GPU_MPI)))
GPU_MPI_LIBS = $(if $(GPU_MPI),$(shell pkg-config --libs $(GPU_MPI)))
GPU_LDLIBS = $(if $(STATIC),$(STATIC_LIBS) -static-libstdc++ -static-libgcc,$(LDLIBS)) $(GPU_MPI_LIBS)

$(GPU_BUILD)/kernels/%.o: kernels/%.cu
	@mkdir -p $(@D)
	$(call SAY,nvcc,$<)
	$(Q)$(NVCC) $(NVCCFLAGS) $(GPU_ARCH) -I. $(GPU_INCLUDE) -MMD -MP -c $< -o $@

# What the microbenchmarks' files say they were measured with; rewritten only when it has changed.
$(GPU_BUILD)/commit.h: commit-look
	@mkdir -p $(@D)
	@echo "#define PEOSIM_COMMIT \"$$(git describe --always --dirty 2>/dev/null)\"" >$@.new; \
	if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi
$(GPU_BUILD)/validate/gpu_session.o: $(GPU_BUILD)/commit.h
$(GPU_BUILD)/validate/gpu_session.o: CPPFLAGS += -include $(GPU_BUILD)/commit.h
$(GPU_BUILD)/validate/gpu_cupti.o: CPPFLAGS += $(CUPTI_CFLAGS)
.PHONY: commit-look

ifneq ($(GPU_MPI),)
$(GPU_BUILD)/study/sweep_mpi.o $(GPU_BUILD)/validate/team_mpi.o: ALL_CFLAGS += $(GPU_MPI_CFLAGS)
endif
# The references of the checks run on the CPU, next to the GPUs: worth optimising.
$(GPU_BUILD)/validate/gpu_data.o: OPT := -O3 -g
$(GPU_BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(call SAY,cc,$<)
	$(Q)$(CC) $(CPPFLAGS) $(ALL_CFLAGS) -DPEOSIM_GPU $(GPU_INCLUDE) -MMD -MP -c $< -o $@

$(GPU_BUILD)/peosim: $(GPU_BUILD)/cmd/main.o $(GPU_COMMON) $(GPU_HOST) $(GPU_KERNELS)
	$(call SAY,link,$@)
	$(Q)g++ $(LDFLAGS) -o $@ $(filter %.o,$^) $(GPU_LIBS) $(GPU_LDLIBS)

$(GPU_BUILD)/tests/gpu/%: $(GPU_BUILD)/tests/gpu/%.o $(GPU_TEST_COMMON) $(GPU_KERNELS) $(GPU_BUILD)/base/err.o \
		$(GPU_BUILD)/base/log.o $(GPU_BUILD)/base/watch.o
	$(call SAY,link,$@)
	$(Q)g++ $(LDFLAGS) -o $@ $(filter %.o,$^) $(GPU_LIBS) -lm -lpthread $(if $(STATIC),-static-libstdc++ -static-libgcc)

$(GPU_BUILD)/tests/gpu/test_cupti: $(GPU_BUILD)/validate/gpu_cupti.o

gpu:
	@./setup.sh need-gpu "$(CUDA_HOME)" "$(NCCL_HOME)"
	@$(MAKE) --no-print-directory gpu-half
gpu-half: $(GPU_BUILD)/peosim $(GPU_TESTS) $(GPU_BENCHES)
	@cp -f $< peosim

# Each test says "skipped" of what it could not run here; all of that is told again at the end.
gpu-test: gpu
	@fail=0; log=$(GPU_BUILD)/gpu-test.log; : >$$log; \
	for t in $(GPU_TESTS) "tests/gpu/validate.sh $(GPU_BUILD)/peosim" "tests/gpu/launch.sh $(GPU_BUILD)/peosim"; do \
		echo "== $$t"; $$t >$$log.one 2>&1 || fail=1; cat $$log.one; \
		sed -n "/skipped/s|^|$${t%% *}: |p" $$log.one >>$$log; done; rm -f $$log.one; \
	if [ -s $$log ]; then echo "gpu-test: not run here:"; cat $$log; else echo "gpu-test: nothing was skipped"; fi; \
	exit $$fail

# The kernels' small tests under compute-sanitizer, and their speeds beside what they are held against.
gpu-sanitize: gpu
	@tests/gpu/sanitize.sh $(GPU_BUILD)
gpu-speed: gpu
	@tests/gpu/speed.sh speed.csv $(GPU_BUILD)

-include $(shell find $(GPU_BUILD) -name '*.d' 2>/dev/null)
.PHONY: gpu gpu-half gpu-test gpu-sanitize gpu-speed

# A wheel for pip, self-contained but for glibc: dist/peosim-*.whl (see packaging/).
wheel:
	@./setup.sh install wheel
	@packaging/wheel.sh
.PHONY: wheel

# Random configurations through properties, hostile names, kills at random moments: minutes to hours.
TORTURE_PLANS ?= 100000
BOUND_PLANS ?= 100000
TORTURE_NAMES ?= 1000
$(BUILD)/tests/torture/%: $(BUILD)/tests/torture/%.o $(BUILD)/libpeosim.a
	$(call SAY,link,$@)
	$(Q)$(LINK) $(LDLIBS)
torture: peosim $(BUILD)/tests/torture/properties $(BUILD)/tests/torture/bound $(BUILD)/tests/torture/fidelity
	nice $(BUILD)/tests/torture/properties $(TORTURE_PLANS)
	nice $(BUILD)/tests/torture/fidelity 300 7919
	nice $(BUILD)/tests/torture/bound $(BOUND_PLANS)
	PEOSIM=./peosim nice tests/torture/kill.sh
	PEOSIM=./peosim nice tests/torture/full.sh
	PEOSIM=./peosim nice tests/torture/jobs.sh
	PEOSIM=./peosim nice tests/check_hostile.sh $(TORTURE_NAMES)
.PHONY: torture
