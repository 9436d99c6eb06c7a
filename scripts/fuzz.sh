#!/usr/bin/env bash
# Looks for input that breaks a parser: every property test of the rooms that read foreign bytes, again and
# again with fresh seeds and many cases, until the time is over.
#
#   scripts/fuzz.sh [MINUTES] [CASES]     default: 10 minutes, 20000 cases per property and round
#
# A failing case is kept in the room's proptest-regressions folder; commit it, and every test run replays it.
# The coverage-guided targets, which need nightly, are in tests/fuzz.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null
PATH="$HOME/.cargo/bin:$PATH"

minutes=${1:-10}
export PROPTEST_CASES=${2:-20000}
if ! [[ $minutes =~ ^[1-9][0-9]*$ && $PROPTEST_CASES =~ ^[1-9][0-9]*$ ]]; then
    echo "usage: scripts/fuzz.sh [MINUTES] [CASES]" >&2
    exit 2
fi

rooms=(-p peerup-wire -p peerup-packet -p peerup-router -p peerup-lane -p peerup-config -p peerup-trust -p peerup-membership -p peerup-types)
deadline=$((SECONDS + minutes * 60))
round=0
while [ "$SECONDS" -lt "$deadline" ]; do
    round=$((round + 1))
    printf '== round %d, %d s left\n' "$round" "$((deadline - SECONDS))"
    cargo test --locked --release "${rooms[@]}"
done
printf 'scripts/fuzz.sh: %d rounds of %d cases, nothing found\n' "$round" "$PROPTEST_CASES"
