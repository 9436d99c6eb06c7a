#!/usr/bin/env bash
# Half an hour of traffic, path changes and questions to the API, with memory that has to stay flat.
#
#   scripts/soak.sh [MINUTES]     release build, 30 minutes unless said otherwise
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH="$HOME/.cargo/bin:$PATH:/usr/sbin:/sbin"
cargo build --locked --release -p peerup -p peerup-lab --bins
exec target/release/peerup-soak "$@"
