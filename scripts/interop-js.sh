#!/usr/bin/env bash
# js-libp2p and our transports dial each other over loopback: TCP with TLS and yamux, and QUIC.
#
#   scripts/interop-js.sh         installs the locked npm packages, builds, runs four cases
#
# Not part of scripts/test.sh and CI, since it needs npm and its registry. Where npm has no Node.js for this
# platform among the locked packages, the `node` of the system is used, which has to be 22 or newer.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null
PATH="$HOME/.cargo/bin:$PATH"

# For each process of a case, in seconds.
limit=60

fail() {
    printf 'scripts/interop-js.sh: %s\n' "$*" >&2
    exit 1
}

command -v npm >/dev/null || fail "npm is not installed"
(cd tests/interop-js && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
node=tests/interop-js/node_modules/.bin/node
[ -x "$node" ] || node=$(command -v node) || fail "Node.js is not installed"
[ "$("$node" -p 'parseInt(process.versions.node)')" -ge 22 ] || fail "js-libp2p needs Node.js 22 or newer"

cargo build --locked -p peerup-transport --example interop
ours=("${CARGO_TARGET_DIR:-target}/debug/examples/interop")
js=("$node" tests/interop-js/peer.mjs)

scratch=$(mktemp -d)
listener=
dialer=
stop() {
    local pid
    for pid in $listener $dialer; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    listener=
    dialer=
}
trap 'stop; rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM

# The first line of the listener, once it is there.
address_of_listener() {
    local line
    until read -r line <"$scratch/address"; do
        kill -0 "$listener" 2>/dev/null || return 1
        sleep 0.1
    done
    printf '%s\n' "$line"
}

# Both ends are in the background, so that a signal to this script ends them at once.
transfer() {
    local -n listening=$1 dialing=$2
    local transport=$3 address
    : >"$scratch/address"
    timeout -k 5 "$limit" "${listening[@]}" listen "$transport" >"$scratch/address" 2>"$scratch/listener" &
    listener=$!
    address=$(address_of_listener) || return 1
    timeout -k 5 "$limit" "${dialing[@]}" dial "$address" >"$scratch/dialer" 2>&1 &
    dialer=$!
    wait "$dialer" || return 1
    dialer=
}

failures=0
# run CASE LISTENER DIALER TRANSPORT
run() {
    local name=$1
    if transfer "${@:2}"; then
        echo "ok $name"
    else
        echo "FAILED $name"
        head -n 20 "$scratch/listener" "$scratch/dialer" >&2 || true
        failures=$((failures + 1))
    fi
    stop
    rm -f "$scratch/listener" "$scratch/dialer"
}

run "js dials ours over TCP with TLS and yamux" ours js tcp
run "ours dials js over TCP with TLS and yamux" js ours tcp
run "js dials ours over QUIC" ours js quic
run "ours dials js over QUIC" js ours quic
[ "$failures" -eq 0 ] || fail "$failures of 4 cases failed"
