#!/usr/bin/env bash
# How fast peerup finds, loses and finds again, as medians of real runs in the laboratory.
#
#   scripts/figures.sh [RUNS] [FIGURE…]     release build, 5 runs of every figure unless said otherwise
#
# Prints one table row per figure. Needs what scripts/test.sh needs; about 40 minutes for everything, half of it for `idle`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH="$HOME/.cargo/bin:$PATH:/usr/sbin:/sbin"
cargo build --locked --release -p peerup -p peerup-lab --bins
exec target/release/peerup-figures "$@"
