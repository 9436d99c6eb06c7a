#!/usr/bin/env bash
# What the small parts cost: lookups in a routing table, frames, the queue, checks and checksums.
#
#   scripts/microbench.sh [PATTERN]     default: all; PATTERN is part of a name, as `subnets_v4` or `lane`
#
# Prints the median of 200 samples of each, with the fastest and the slowest. A busy machine shows in the slowest, and the
# median of two runs may differ by a tenth. docs/performance.md says what the figures were.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null
PATH="$HOME/.cargo/bin:$PATH"

if [ $# -gt 1 ]; then
    echo "usage: scripts/microbench.sh [PATTERN]" >&2
    exit 2
fi
rooms=(-p peerup-router -p peerup-wire -p peerup-lane -p peerup-packet)
export DIVAN_SAMPLE_COUNT=200
# Without the packages' own tests, which know nothing of these options.
cargo bench --locked "${rooms[@]}" --benches -- "${1:-}"
