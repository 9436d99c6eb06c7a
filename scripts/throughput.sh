#!/usr/bin/env bash
# What the tunnel and a proxy leave of the wire, as shares of raw TCP between the same two hosts, in one run.
#
#   scripts/throughput.sh [ROUNDS]     release build, 5 rounds unless said otherwise, 15 s each
#
# Prints a table. Needs what scripts/test.sh needs, and a machine with nothing else to do.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH="$HOME/.cargo/bin:$PATH:/usr/sbin:/sbin"
cargo build --locked --release -p peerup -p peerup-lab --bins
exec target/release/peerup-throughput "$@"
