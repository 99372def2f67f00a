#!/usr/bin/env bash
# wheel.sh WHEEL PYTHON [pip options]: installs the wheel alone, from wheels alone, and uses it: no torch, no compiler, no checkout.
set -euo pipefail
wheel=$(readlink -f "$1") python=$2
shift 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
options=()
for option; do [ -f "$option" ] && option=$(readlink -f "$option"); options+=("$option"); done
"$python" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary=:all: "${options[@]}" "$wheel"
cd "$work"
export PATH="$work/venv/bin:$PATH"
! python -c 'import torch' 2>/dev/null || { echo "the base install brought torch" >&2; exit 1; }
codedev --help >help.txt
codedev doctor >doctor.txt
mkdir tree && cp "$work"/venv/lib/python*/site-packages/click/*.py tree/
printf '{"text": "The cat sat with the dog and that was the end of it."}\n' >notes.jsonl
cat >recipe.yaml <<'YAML'
name: wheel
sources:
  - {name: code, type: code, paths: [tree]}
  - {name: notes, type: tables, paths: [notes.jsonl]}
language: {min_score: 0.2}
quality: {code: {}}
dedup: {exact: {}}
YAML
codedev corpus build recipe.yaml --out corpus --workers 2
test -s corpus/report/index.html
codedev tokenizer train corpus --out tokenizer --vocab-size 600 --special-slots 64
codedev tokenize corpus --tokenizer tokenizer --out shards --seq-len 128
codedev trace shards 0 0
echo "wheel: passed on $("$python" --version)"
