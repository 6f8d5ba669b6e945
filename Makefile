# peosim: one flat Makefile. `make` builds ./peosim and never installs anything.
# Rooms are globbed: a new file in a room is built, a new tests/test_x.c is a test.
CC ?= gcc
BUILD ?= build
PREFIX ?= /usr/local
WARN := -Wall -Wextra -Wshadow -Werror
OPT ?= -O2 -g
SAN ?=
PKGS := yaml-0.1 gsl jansson
CFLAGS += -std=c11 -D_GNU_SOURCE $(WARN) $(OPT) -ffp-contract=off -I. $(SAN)
LDLIBS += $(shell pkg-config --libs $(PKGS) 2>/dev/null || echo -lyaml -lgsl -lgslcblas -ljansson) -lmd -lm -lpthread
LDFLAGS += $(SAN)

ROOMS := base plan hw model sim validate
SRCS := $(filter-out $(wildcard validate/gpu_*.c),$(wildcard $(ROOMS:%=%/*.c)))
CMD_SRCS := $(wildcard cmd/*.c)
LIB_OBJS := $(SRCS:%.c=$(BUILD)/%.o) $(patsubst %.c,$(BUILD)/%.o,$(filter-out cmd/main.c,$(CMD_SRCS)))
TESTS := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/test_*.c))

all: peosim

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/libpeosim.a: $(LIB_OBJS)
	@rm -f $@
	@ar rcs $@ $^

peosim: $(BUILD)/cmd/main.o $(BUILD)/libpeosim.a
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/tests/test_%: $(BUILD)/tests/test_%.o $(BUILD)/libpeosim.a
	$(CC) $(LDFLAGS) -o $@ $^ -lcmocka $(LDLIBS)

tests: $(TESTS)
check: $(TESTS)
	@fail=0; for t in $(TESTS); do $$t >$$t.log 2>&1 && echo "ok   $$t" || { echo "FAIL $$t"; cat $$t.log; fail=1; }; done; exit $$fail

clean:
	rm -rf $(BUILD) peosim

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
.PHONY: all tests check clean
.SECONDARY:

# The flow engine: a program for anyone's sizes, benchmarks, and SimGrid beside them where it is.
$(BUILD)/a2a: $(BUILD)/tests/bench/a2a.o $(BUILD)/libpeosim.a
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/bench_%: $(BUILD)/tests/bench/bench_%.o $(BUILD)/libpeosim.a
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

CXX ?= g++
HAVE_SIMGRID := $(wildcard /usr/include/simgrid/s4u.hpp)
SIMGRID_MOST ?= 64
EXACT_MOST ?= 512
$(BUILD)/simgrid_a2a: tests/bench/simgrid_a2a.cpp
	@mkdir -p $(@D)
	$(CXX) -std=c++17 -O2 -Wall -Wextra -o $@ $< -lsimgrid

bench: $(BUILD)/bench_flow $(BUILD)/bench_heap $(if $(HAVE_SIMGRID),$(BUILD)/simgrid_a2a)
	$(BUILD)/bench_flow --exact-most $(EXACT_MOST) $(if $(HAVE_SIMGRID),--simgrid $(BUILD)/simgrid_a2a --simgrid-most $(SIMGRID_MOST))
	$(BUILD)/bench_heap

# Needs clang: build/fuzz_flow -max_total_time=60
$(BUILD)/fuzz_flow: tests/fuzz/fuzz_flow.c sim/flow.c sim/flow_fill.c sim/flow_members.c sim/flow_rates.c sim/heap.c
	@mkdir -p $(@D)
	clang -std=c11 -D_GNU_SOURCE -g -O1 -I. -fsanitize=fuzzer,address,undefined -o $@ $^ -lm
.PHONY: bench
