# trt_lane: every stage is a file made from files; `make help` lists what can be asked for.
#
#   weights + frames -> scales.npz -> model.onnx -> engine + artifact.json -> summary.json
#
# What decides the content is in the path: build/<model>/<recipe>/<target>/. Weights and data are
# not, so their identity lies in build/<model>/*.stamp, rewritten only when it changes.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules --no-print-directory

MODEL ?= ufld
RECIPE ?= int8_selective_focus
TARGET ?= auto
DATA ?= synthetic
WEIGHTS ?=
BATCH ?= 1
SIGN ?=
BUDGET_MS ?=
PLUGINS_LIBRARY ?=
FRAMES ?= 500
BUDGET ?= 0.3
BUDGET_FRAMES ?= 150
BUDGET_MINUTES ?= 5
SENSITIVITY_OPTIONS ?=
PYTHON ?= python3
BUILD ?= build

VENV := .venv
PY := $(VENV)/bin/python
# Wheels that need no compiler; the CPU build of torch lies on the build machine or comes from PyPI.
EXTRAS := workshop,dev

# ---- the choices, checked before anything is made ---------------------------------------------
FAMILIES := $(filter-out _%,$(patsubst trt_lane/models/%.py,%,$(wildcard trt_lane/models/[a-z]*.py)))
KNOWN_RECIPES := $(patsubst calibrators/recipes/%.toml,%,$(wildcard calibrators/recipes/*.toml))
SIMULATED = $(patsubst calibrators/recipes/%.toml,%,$(shell \
	grep -lE '^ *bits *= *[2-7]( |\#|$$)' calibrators/recipes/*.toml))
TARGETS := $(patsubst engines/targets/%.toml,%,$(wildcard engines/targets/*.toml))
ARM := aarch64
ARM_TARGETS := $(patsubst engines/targets/%.toml,%,$(shell grep -l '^machine *= *"$(ARM)"' engines/targets/*.toml))
MACHINE := $(shell uname -m)
FAMILY := $(firstword $(subst ., ,$(MODEL)))
GOALS := $(or $(MAKECMDGOALS),help)

CLOSE := import difflib, sys; \
	print(*(f"did you mean {m}? " for m in difflib.get_close_matches(sys.argv[1], sys.argv[2:], 1)))
define refuse
$(error no $(1) '$(2)'; $(shell $(PYTHON) -c '$(CLOSE)' '$(2)' $(3)) known: $(3)$(4))
endef
COMMA := ,
one_word = $(and $(filter 1,$(words $($(1)))),$(if $(findstring ',$($(1))),,yes))
whole_number = $(shell [[ '$($(1))' =~ ^[1-9][0-9]{0,6}$$ ]] && echo yes)

ifneq ($(filter engine calibrate float-onnx export build bundle sensitivity bench stamps,$(GOALS)),)
  $(foreach name,MODEL RECIPE TARGET DATA BUILD $(foreach v,WEIGHTS SIGN BUDGET_MS PLUGINS_LIBRARY,$(if $($(v)),$(v))),$(if $(call one_word,$(name)),,\
	$(error $(name) is '$($(name))'; expected one word: make splits at spaces, so give a path \
	without spaces or quotes, or a link to it (ln -s))))
  $(foreach name,BATCH FRAMES BUDGET_FRAMES BUDGET_MINUTES,$(if $(or $(call whole_number,$(name)),$(and $(call one_word,$(name)),$(filter BUDGET_MINUTES=inf,$(name)=$($(name))))),,\
	$(error $(name) is '$($(name))'; expected a whole number from 1$(if $(filter BUDGET_MINUTES,$(name)),$(COMMA) or inf))))
  ifeq ($(filter $(FAMILY),$(FAMILIES)),)
    $(call refuse,MODEL,$(MODEL),$(FAMILIES), (variants: make models))
  endif
  ifeq ($(filter $(RECIPE),$(KNOWN_RECIPES)),)
    $(call refuse,RECIPE,$(RECIPE),$(KNOWN_RECIPES))
  endif
  ifneq ($(and $(filter engine export build bundle bench,$(GOALS)),$(filter $(RECIPE),$(SIMULATED))),)
    $(error RECIPE=$(RECIPE) has less than 8 bits: a simulation, which TensorRT cannot run; \
	for an engine choose one of $(filter-out $(SIMULATED),$(KNOWN_RECIPES)); for its figures run: \
	make quant-table MODELS='$(MODEL)' RECIPES='$(RECIPE)', \
	or python -m calibrators $(MODEL) --recipe $(RECIPE) --out scales.npz)
  endif
  ifeq ($(filter $(TARGET),auto $(TARGETS)),)
    $(call refuse,TARGET,$(TARGET),auto $(TARGETS))
  endif
  ifneq ($(shell printf '%s' '$(BUDGET)' | grep -cvE '^(0*[0-9]{1,2}|0*[0-9]{0,2}\.[0-9]+|0*100(\.0+)?|none)?$$'),0)
    $(error BUDGET is '$(BUDGET)'; expected points of F1 or accuracy from 0 to 100, e.g. 0.3, or none)
  endif
  ifneq ($(and $(filter engine,$(GOALS)),$(filter-out 1,$(BATCH))),)
    $(error BATCH=$(BATCH) is for export, build and bundle; make engine measures one frame at a time)
  endif
  ifneq ($(and $(filter engine build bench,$(GOALS)),$(filter $(TARGET),$(ARM_TARGETS)),$(filter-out $(ARM),$(MACHINE))),)
    $(error an engine for TARGET=$(TARGET) is built on the device itself, this is $(MACHINE); run: \
	make bundle MODEL=$(MODEL) TARGET=$(TARGET), and on the device: trt-lane install BUNDLE)
  endif
  ifneq ($(and $(SIGN),$(if $(wildcard $(SIGN)),,missing)),)
    $(error no file SIGN=$(SIGN); expected the private key that signs the bundle)
  endif
  ifneq ($(and $(PLUGINS_LIBRARY),$(if $(wildcard $(PLUGINS_LIBRARY)),,missing)),)
    $(error no file PLUGINS_LIBRARY=$(PLUGINS_LIBRARY); expected the library that make plugins makes)
  endif
  ifneq ($(WEIGHTS),)
    ifeq ($(wildcard $(WEIGHTS)),)
      $(error no file WEIGHTS=$(WEIGHTS); expected a checkpoint, or nothing for the bundled weights)
    endif
  endif
endif

# The GPU that is here, else TensorRT-RTX ahead of time (x86-64), else the CPU.
ifeq ($(TARGET),auto)
  HAVE_GPU := $(shell command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU && \
	$(PYTHON) -c 'import tensorrt' 2>/dev/null && echo yes)
  # What is timed here must run here: without a GPU the CPU's engine.
  AHEAD := $(if $(filter bench,$(GOALS)),cpu,$(if $(filter x86_64,$(MACHINE)),rtx,cpu))
  GOAL_TARGET := $(if $(HAVE_GPU),local,$(AHEAD))
else
  GOAL_TARGET := $(TARGET)
endif

# ---- the files of one build --------------------------------------------------------------------
CALIBRATION_DATA := $(if $(filter synthetic,$(DATA)),synthetic:calibration,$(DATA))
TEST_DATA := $(if $(filter synthetic,$(DATA)),synthetic:test,$(DATA))
# Scenes that neither calibration nor the test has.
BUDGET_DATA := $(if $(filter synthetic,$(DATA)),synthetic:calibration:seed=1,$(DATA))
DATA_PATH := $(wildcard $(if $(filter synthetic%,$(DATA)),,$(or $(word 2,$(subst :, ,$(DATA))),$(DATA))))
BUNDLED := weights/$(MODEL).safetensors
WEIGHTS_FILE := $(or $(WEIGHTS),$(wildcard $(BUNDLED)))
# Some families read files beside the checkpoint; which ones only their code knows.
COMPANIONS := $(if $(WEIGHTS),$(shell grep -ql companions trt_lane/models/$(FAMILY).py && \
	dirname '$(WEIGHTS)'))
WEIGHTS_OPTION := $(if $(WEIGHTS),--weights '$(WEIGHTS)')

MODEL_DIR := $(BUILD)/$(MODEL)
RECIPE_DIR := $(MODEL_DIR)/$(RECIPE)
TARGET_DIR := $(RECIPE_DIR)/$(GOAL_TARGET)$(if $(filter-out 1,$(BATCH)),-b$(BATCH))
WEIGHTS_STAMP := $(MODEL_DIR)/weights.stamp
DATA_STAMP := $(MODEL_DIR)/data.stamp
FRAMES_STAMP := $(MODEL_DIR)/frames.stamp
BUDGET_STAMP := $(MODEL_DIR)/budget.stamp
ALL_INT8 := $(RECIPE_DIR)/all_int8.npz
SCALES := $(RECIPE_DIR)/scales.npz
REFERENCE := $(RECIPE_DIR)/reference.npz
FLOAT_ONNX := $(MODEL_DIR)/float.onnx
INT8_ONNX := $(TARGET_DIR)/model.onnx
ARTIFACT := $(TARGET_DIR)/artifact.json
BUNDLE := $(TARGET_DIR)/$(MODEL)-$(RECIPE)-$(GOAL_TARGET).tar
SUMMARY := $(TARGET_DIR)/summary.json
# A CPU runs what the workstation builds; every other device builds of the bundle itself.
CPU_ENGINE := $(if $(filter cpu,$(GOAL_TARGET)),$(ARTIFACT))

NETWORK_CODE := trt_lane/models/$(FAMILY).py $(wildcard trt_lane/models/_*.py) trt_lane/model.py trt_lane/image.py
CALIBRATION_CODE := $(wildcard calibrators/*.py) trt_lane/scales.py
BUDGET_CODE := $(wildcard calibrators/budget/*.py calibrators/sensitivity/*.py)
EXPORT_CODE := $(addprefix engines/,export.py constants.py qdq.py typed.py lint.py graph_index.py)
BUILD_CODE := $(addprefix engines/,attach.py build.py card.py compat.py graph_index.py inspect.py layer_table.py macs.py \
	package.py $(notdir $(wildcard engines/cpu_*.py))) $(wildcard trt_lane/building/*.py)

.PHONY: help setup wheel engine calibrate float-onnx export build bundle sensitivity models test test-all lint weights pictures clean stamps
.PHONY: plugins plugins-host plugins-resources plugins-coverage gpu-check
.DEFAULT_GOAL := help

help: ## this list
	@echo 'make engine MODEL=ufld       a verified INT8 engine of the bundled demo, start here'
	@echo 'make engine MODEL=lstr.tusimple WEIGHTS=FILE DATA=tusimple:DIR'
	@echo
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | \
		awk -F'\t' '{printf "  %-14s %s\n", $$1, $$2}'
	@echo
	@echo '  MODEL    $(MODEL)   families: $(FAMILIES)'
	@echo '  RECIPE   $(RECIPE)   $(KNOWN_RECIPES)'
	@echo '  TARGET   $(TARGET)   $(TARGETS)'
	@echo '  WEIGHTS  a checkpoint; empty: the bundled one'
	@echo '  DATA     synthetic, culane:DIR, tusimple:DIR, curvelanes:DIR, llamas:DIR, images:DIR or'
	@echo '           video:FILE: calibrates without labels; scores with them where there are any'
	@echo '  BUDGET   $(BUDGET)   points of F1 or accuracy (without labels: of agreement with float) that INT8'
	@echo '           may cost; the layers that this takes stay in FP16. none: everything in INT8'
	@echo '  FRAMES   $(FRAMES)   frames that the result is measured on'

# ---- installing --------------------------------------------------------------------------------
setup: $(VENV)/installed ## make .venv and install everything

$(VENV)/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "$(PYTHON) is $$($(PYTHON) -V 2>&1); expected 3.10 or newer; run: make PYTHON=python3.11 ..." >&2; exit 2; }
	@echo "==> installing into $(VENV) (once, a few minutes)"
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install -qq --disable-pip-version-check torch==2.13.0
	@$(PY) -m pip install -qq --disable-pip-version-check --editable '.[$(EXTRAS)]'
	@touch $@

# ---- from weights and frames to an engine ------------------------------------------------------
engine: $(VENV)/installed ## MODEL, RECIPE, TARGET, WEIGHTS, DATA, BUDGET: calibrate, export, lint, build, verify
	@$(MAKE) stamps
	@if $(MAKE) -q $(SUMMARY); then \
		echo "nothing to do: $(TARGET_DIR) is up to date"; echo; cat $(TARGET_DIR)/summary.txt; \
	else $(MAKE) $(SUMMARY); fi

calibrate: $(VENV)/installed ## only as far as scales.npz
	@$(MAKE) stamps
	@$(MAKE) $(SCALES)

float-onnx: $(VENV)/installed ## only the float ONNX, which needs no calibration
	@$(MAKE) stamps
	@$(MAKE) $(FLOAT_ONNX)

export: $(VENV)/installed ## only as far as the linted Q/DQ ONNX
	@$(MAKE) stamps
	@$(MAKE) $(INT8_ONNX)

build: $(VENV)/installed ## only as far as the engine
	@$(MAKE) stamps
	@$(MAKE) $(ARTIFACT)

bundle: $(VENV)/installed ## one archive for `trt-lane install`; SIGN=KEY BUDGET_MS=40 PLUGINS_LIBRARY=FILE BATCH=cameras
	@$(MAKE) stamps
	@$(MAKE) $(INT8_ONNX) $(FLOAT_ONNX) $(CPU_ENGINE)
	@echo "==> bundle     $(BUNDLE)"
	@$(PY) -m engines bundle $(INT8_ONNX) --float-onnx $(FLOAT_ONNX) --scales $(SCALES) \
		--target $(GOAL_TARGET) --data '$(TEST_DATA)' --plugin-sources plugins --out $(BUNDLE) \
		$(if $(CPU_ENGINE),--engine $(TARGET_DIR)/engine.onnx) $(if $(PLUGINS_LIBRARY),--plugins '$(PLUGINS_LIBRARY)') \
		$(if $(BUDGET_MS),--budget-ms '$(BUDGET_MS)') $(if $(SIGN),--sign '$(SIGN)')

sensitivity: $(VENV)/installed ## why did INT8 lose my lanes? report and picture; SENSITIVITY_OPTIONS=--all-layers
	@$(MAKE) stamps
	@$(MAKE) $(ALL_INT8)
	@$(PY) -m calibrators.sensitivity $(MODEL) --scales $(ALL_INT8) $(WEIGHTS_OPTION) \
		--data '$(BUDGET_DATA)' --out $(RECIPE_DIR)/sensitivity $(SENSITIVITY_OPTIONS)

# A stamp holds what make cannot see in file times: which file, which data, how many frames, what budget.
stamp = cmp -s $(1).new $(1) && rm $(1).new || mv $(1).new $(1)
stamps:
	@mkdir -p $(MODEL_DIR)
	@{ echo '$(WEIGHTS_FILE)'; test -z '$(WEIGHTS_FILE)' || stat -Lc '%s %.Y' $(WEIGHTS_FILE); \
		test -z '$(COMPANIONS)' || find -L $(COMPANIONS) -maxdepth 1 -type f -printf '%f %s %T@\n' | sort; } \
		> $(WEIGHTS_STAMP).new; $(call stamp,$(WEIGHTS_STAMP))
	@{ echo '$(DATA)'; test -z '$(DATA_PATH)' || \
		find -L $(DATA_PATH) -type f -printf '%p %s %T@\n' | sort; } | sha256sum \
		> $(DATA_STAMP).new; $(call stamp,$(DATA_STAMP))
	@echo '$(FRAMES)' > $(FRAMES_STAMP).new; $(call stamp,$(FRAMES_STAMP))
	@echo '$(or $(BUDGET),none) $(BUDGET_FRAMES) $(BUDGET_MINUTES)' > $(BUDGET_STAMP).new; $(call stamp,$(BUDGET_STAMP))

$(ALL_INT8): $(WEIGHTS_STAMP) $(DATA_STAMP) calibrators/recipes/$(RECIPE).toml $(CALIBRATION_CODE) $(NETWORK_CODE)
	@echo "==> calibrate  $(MODEL) by $(RECIPE)"
	@$(PY) -m calibrators $(MODEL) --recipe $(RECIPE) $(WEIGHTS_OPTION) --data '$(CALIBRATION_DATA)' --out $@

$(SCALES): $(ALL_INT8) $(BUDGET_STAMP) $(BUDGET_CODE)
	@echo "==> plan       what stays in float for a budget of $(or $(BUDGET),none)"
	@$(PY) -m calibrators.budget $(MODEL) --scales $(ALL_INT8) $(WEIGHTS_OPTION) \
		--recipe $(RECIPE) --data '$(CALIBRATION_DATA)' --budget '$(or $(BUDGET),none)' \
		--budget-data '$(BUDGET_DATA)' --budget-frames $(BUDGET_FRAMES) --budget-minutes $(BUDGET_MINUTES) \
		--out $@ --reference $(REFERENCE)

$(FLOAT_ONNX): $(WEIGHTS_STAMP) $(EXPORT_CODE) $(NETWORK_CODE)
	@echo "==> export     float ONNX"
	@$(PY) -m engines export $(MODEL) $(WEIGHTS_OPTION) --out $@

$(INT8_ONNX): $(SCALES) engines/targets/$(GOAL_TARGET).toml $(EXPORT_CODE)
	@echo "==> export     explicit Q/DQ ONNX for $(GOAL_TARGET), linted"
	@$(PY) -m engines export $(MODEL) $(WEIGHTS_OPTION) --scales $(SCALES) --target $(GOAL_TARGET) --out $@ \
		$(if $(filter-out 1,$(BATCH)),--batch $(BATCH))
	@$(PY) -m engines lint $@

$(ARTIFACT): $(INT8_ONNX) engines/targets/$(GOAL_TARGET).toml $(BUILD_CODE)
	@echo "==> build      engine for $(GOAL_TARGET)"
	@rm -rf $(TARGET_DIR)/.build.* # of a build that was killed
	@$(PY) -m engines build $(INT8_ONNX) --target $(GOAL_TARGET) --scales $(SCALES) --out $(TARGET_DIR) \
		--timing-cache $(BUILD)/timing-$(GOAL_TARGET).cache

$(SUMMARY): $(ARTIFACT) $(FLOAT_ONNX) $(FRAMES_STAMP) $(DATA_STAMP)
	@echo "==> verify     float, Q/DQ graph and engine on the same frames"
	@$(PY) -m engines verify $(TARGET_DIR) --float-onnx $(FLOAT_ONNX) --int8-onnx $(INT8_ONNX) \
		--reference $(REFERENCE) --data '$(TEST_DATA)' --frames $(FRAMES)

# ---- compiled decoders and CUDA plugins ----------------------------------------------------------
PLUGINS := $(BUILD)/plugins
PLUGIN_CODE := $(wildcard plugins/*.* plugins/*/*.*) trt_lane/plugin_fields.py
HOST_LIBRARY := $(PLUGINS)/libtrt_lane_host.so
TENSORRT_INCLUDE_DIR ?=
# On a vehicle there is no .venv.
PLUGIN_PY = $(or $(wildcard $(PY)),$(PYTHON))
FIND_NVCC = import sys; sys.path.insert(0, "plugins/common"); import resources; print(resources.nvcc() or "")

plugins: ## the CUDA library; TENSORRT_INCLUDE_DIR=DIR of NvInfer.h: with its TensorRT plugins
	@nvcc=$$($(PLUGIN_PY) -c '$(FIND_NVCC)'); \
		test -n "$$nvcc" || { echo "no nvcc here; run: $(PLUGIN_PY) -m pip install '.[cuda]'" >&2; exit 2; }; \
		export LIBRARY_PATH="$$(dirname "$$nvcc")/../lib$${LIBRARY_PATH:+:$$LIBRARY_PATH}"; \
		cmake -S plugins -B $(PLUGINS)/cmake -DCMAKE_CUDA_COMPILER="$$nvcc" \
			-DTENSORRT_INCLUDE_DIR='$(TENSORRT_INCLUDE_DIR)' --log-level=STATUS | grep -E 'left out|TensorRT' && \
		cmake --build $(PLUGINS)/cmake && cp $(PLUGINS)/cmake/libtrt_lane_plugins.so $(PLUGINS)/

plugins-host: $(HOST_LIBRARY) ## decoders compiled for this machine's CPU; needs a C++ compiler only

$(HOST_LIBRARY): $(PLUGIN_CODE)
	@$(PLUGIN_PY) plugins/common/generate.py $(PLUGINS)/generated
	@echo "==> $(CXX)        $@"
	@$(CXX) -std=c++17 -O3 -ffp-contract=off -fno-trapping-math -fPIC -shared -fvisibility=hidden -Wall -Wextra \
		-I plugins -I $(PLUGINS)/generated plugins/host.cpp plugins/common/registry.cpp -o $@.new
	@mv $@.new $@

plugins-resources: ## write down each kernel's registers and shared memory (plugins/*/resources.txt)
	@$(PLUGIN_PY) plugins/common/resources.py --write

plugins-coverage: $(VENV)/installed ## which lines of the kernels the tests run, on the CPU
	@$(PY) tests/plugins/kernel_coverage.py

gpu-check: $(VENV)/installed ## on a GPU: every kernel and plugin against numpy, sanitized, timed; one report
	@$(PY) tests/plugins/gpu_check.py --only-device
	@$(MAKE) plugins
	@$(PY) tests/plugins/gpu_check.py --out $(BUILD)/gpu_check.json
	@$(PY) -m pytest -q -m gpu

# ---- everything else ---------------------------------------------------------------------------
wheel: $(VENV)/installed ## what rides in the car, as one wheel in dist/
	@rm -rf build/lib build/bdist.*
	@$(PY) -m pip wheel -q --disable-pip-version-check --no-deps --wheel-dir dist . && ls dist/*.whl

models: $(VENV)/installed ## list all models with size, official score and licence
	@$(VENV)/bin/trt-lane models

# MODELS may say weights and data, RECIPES a factor on their steps: see the command's --help.
MODELS ?= ufld
RECIPES ?= int8_minmax int8_percentile int8_entropy int8_mse int8_aciq int8_selective_focus
SEEDS ?= 0
PEERS ?=
TABLE_OPTIONS ?=

quant-table: $(VENV)/installed ## MODELS, RECIPES, SEEDS, PEERS=all: every method side by side; resumable
	@$(PY) -m benchmarks quant-table '$(MODELS)' '$(RECIPES)' '$(SEEDS)' \
		$(if $(PEERS),--peers '$(PEERS)') $(TABLE_OPTIONS)

BENCH_OPTIONS ?=

bench: $(VENV)/installed ## MODEL, TARGET …: latency by stage, scenarios and accuracy: report.json, report.html
	@$(MAKE) stamps
	@$(MAKE) -s TARGET=$(GOAL_TARGET) $(ARTIFACT) $(FLOAT_ONNX)
	@echo "==> bench      $(TARGET_DIR)"
	@$(PY) -m benchmarks run $(TARGET_DIR) --float-onnx $(FLOAT_ONNX) --data '$(TEST_DATA)' \
		--frames $(FRAMES) $(BENCH_OPTIONS)

# Reports, or their folders; without BASE the baseline of NEW's target.
BASE ?=
NEW ?=
VERDICT ?= $(BUILD)/verdict.json

bench-compare: $(VENV)/installed ## BASE, NEW: no worse, worse or not comparable, figure by figure (VERDICT=FILE)
	@test -n '$(NEW)' || { echo 'no report NEW=...; expected what make bench wrote' >&2; exit 2; }
	@$(PY) -m benchmarks compare $(if $(BASE),'$(BASE)') '$(NEW)' --out '$(VERDICT)'

# Not an engine's target alone: peaks are of a device (benchmarks/roofline/devices).
DEVICE = $(if $(filter auto,$(TARGET)),all,$(TARGET))
REPORT ?=

ifneq ($(filter roofline,$(GOALS)),)
  ifeq ($(filter $(FAMILY),$(FAMILIES)),)
    $(call refuse,MODEL,$(MODEL),$(FAMILIES), (variants: make models))
  endif
endif

roofline: $(VENV)/installed ## MODEL, TARGET=agx-orin|jetson-orin|rtx4090|all…: the least time per layer (REPORT=FILE)
	@$(MAKE) TARGET=auto stamps
	@$(MAKE) -s TARGET=auto $(FLOAT_ONNX)
	@$(PY) -m benchmarks roofline $(FLOAT_ONNX) --target '$(DEVICE)' $(if $(REPORT),--report '$(REPORT)')

# MODELS may say weights and data as for the table; RAY=auto|ray://HOST:PORT|local:N for a cluster.
SWEEP_TARGETS ?= cpu
RAY ?=
SWEEP_OPTIONS ?=

sweep: $(VENV)/installed ## MODELS, RECIPES, SEEDS, SWEEP_TARGETS, RAY: many engines on whole data sets, in shards
	@$(PY) -m benchmarks sweep '$(MODELS)' '$(RECIPES)' '$(SEEDS)' '$(SWEEP_TARGETS)' \
		--work $(BUILD)/sweep --out $(BUILD)/sweep/sweep $(if $(RAY),--ray '$(RAY)') $(SWEEP_OPTIONS)

test: $(VENV)/installed ## the tests that CI runs
	@echo "==> tests"
	@$(PY) -m pytest -q

test-all: $(VENV)/installed ## all tests that need no GPU, the slow ones and those of Ray too
	@$(PY) -c 'import ray' 2>/dev/null || { echo "==> installing Ray (80 MB)"; \
		$(PY) -m pip install -qq --disable-pip-version-check --editable '.[cluster]' || \
		echo "no Ray for this machine: its tests are skipped"; }
	@echo "==> all tests"
	@$(PY) -m pytest -q -m 'not gpu'

CPP = $(foreach d,plugins plugins/* tests/plugins tests/backends,$(foreach e,h cpp cu,$(wildcard $(d)/*.$(e))))
lint: $(VENV)/installed ## ruff, clang-format and layering
	@echo "==> lint"
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/clang-format --dry-run -Werror $(CPP)

# MODELS has a default, the quantisation table's; only one that the user gave counts here.
TRAINED = $(if $(filter file undefined,$(origin MODELS)),$(MODEL),$(MODELS))

weights: $(VENV)/installed ## MODEL, or MODELS in turn: train bundled weights (20 minutes to an hour each on 2 cores; resumable)
	@echo "==> train      $(TRAINED)"
	@$(PY) -m training $(TRAINED)

pictures: $(VENV)/installed ## remake the README's pictures (after `make engine MODEL=ufld`)
	@$(PY) -m trt_lane.datasets.synthetic --lanes --out docs/synthetic_roads.svg
	@$(PY) -c "import cv2; from trt_lane.svg import svg_of; open('docs/lanes.svg', 'wb').write(\
		svg_of(cv2.imread('$(TARGET_DIR)/lanes.png'), 1000))"

clean: ## remove build/ (keeps .venv)
	rm -rf $(BUILD)
