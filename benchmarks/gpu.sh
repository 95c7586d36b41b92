#!/usr/bin/env bash
# Everything that a GPU has to be asked, in one command and at most eight minutes, from the checkout:
#
#   benchmarks/gpu.sh                 # PYTHON=python3.12 OUT=results benchmarks/gpu.sh
#   benchmarks/gpu.sh --rehearse      # the same at toy sizes on the CPU, in Triton's interpreter
#
# Nothing is installed or downloaded. Results are written as they come, into OUT (out/gpu): gpu.json, gpu.md and
# tests.txt. SECONDS_AT_MOST (465) bounds the whole. Without a GPU the rehearsal runs.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-python3}
out=${OUT:-out/gpu}
end=$(($(date +%s) + ${SECONDS_AT_MOST:-465}))
export PYTHONPATH="$PWD:$PWD/benchmarks${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
export CUBLAS_WORKSPACE_CONFIG=:4096:8  # what deterministic algorithms ask of cuBLAS
export PYG_KGREC_BACKEND=auto

arguments=("$@")
if [[ " $* " != *" --rehearse "* ]] && ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
  echo "PyTorch sees no GPU here: this is the rehearsal"
  arguments+=(--rehearse)
fi
if [[ " ${arguments[*]-} " == *" --rehearse "* ]]; then
  export TRITON_INTERPRET=1 CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1
else
  export TRITON_INTERPRET=0
fi

# A kernel that goes wrong can take the process with it: then the next part runs in a new one.
for _ in 1 2 3 4 5 6 7 8; do
  left=$((end - $(date +%s)))
  ((left > 5)) || break
  timeout --kill-after=5 $((left + 5)) "$python" -m gpu --out "$out" --end "$end" ${arguments[@]+"${arguments[@]}"}
  code=$?
  ((code <= 2 || code == 124 || code == 137)) && exit $code
  arguments+=(--resume)
done
exit 1
