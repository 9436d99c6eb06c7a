#!/usr/bin/env bash
# Every check and every test, the same at home and in CI.
#
#   scripts/test.sh         everything, with the network laboratory (needs root, or /dev/net/tun open to the user)
#   scripts/test.sh fast    everything except the laboratory: no root, no Debian packages
#
# Installs what it needs only where it is missing: Debian packages as root, cargo-nextest and cargo-deny
# through cargo. Daemon logs of the laboratory go to PEERUP_LAB_LOGS (an empty directory; default: target/lab-logs).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null
PATH="$HOME/.cargo/bin:$PATH:/usr/sbin:/sbin"
export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-auto}"

usage() {
    echo "usage: scripts/test.sh [fast]" >&2
    exit 2
}

mode=full
case "${1:-}" in
    "") ;;
    fast) mode=fast ;;
    *) usage ;;
esac
[ $# -le 1 ] || usage

step() {
    local title=$1 began=$SECONDS
    shift
    printf '\n== %s\n' "$title"
    "$@"
    printf '== %s: done in %d s\n' "$title" "$((SECONDS - began))"
}

fail() {
    printf 'scripts/test.sh: %s\n' "$*" >&2
    exit 1
}

# command:package, one for each tool that a laboratory story ends in
laboratory_tools=(
    nft:nftables iperf3:iperf3 sshd:openssh-server ssh:openssh-client ping:iputils-ping tcpdump:tcpdump ethtool:ethtool
    nc:netcat-openbsd ip:iproute2 unshare:util-linux setpriv:util-linux ps:procps jq:jq newuidmap:uidmap curl:curl python3:python3
    nginx:nginx-light dnsmasq:dnsmasq-base
)

missing_packages() {
    local tool
    for tool in "$@"; do
        command -v "${tool%%:*}" >/dev/null || echo "${tool##*:}"
    done | sort -u | tr '\n' ' ' | sed 's/ $//'
}

install_packages() {
    local missing
    missing=$(missing_packages "$@")
    if [ -z "$missing" ]; then
        return 0
    fi
    if [ "$(id -u)" -ne 0 ]; then
        fail "these packages are missing: $missing
hint: sudo apt-get install --no-install-recommends $missing"
    fi
    command -v apt-get >/dev/null || fail "these Debian packages are missing, and there is no apt-get: $missing"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    # shellcheck disable=SC2086 # one word per package
    apt-get install -q -y --no-install-recommends $missing
    # The tests start their own servers inside namespaces. One that only this script brought in must not open a
    # port of the host.
    if [ -d /run/systemd/system ]; then
        if [[ " $missing " == *" openssh-server "* ]]; then
            systemctl disable --now ssh.service ssh.socket 2>/dev/null || true
        fi
        if [[ " $missing " == *" nginx-light "* ]]; then
            systemctl disable --now nginx.service 2>/dev/null || true
        fi
    fi
}

require_toolchain() {
    command -v cargo >/dev/null || fail "cargo is missing
hint: install Rust with rustup, https://rustup.rs"
    if ! cargo fmt --version >/dev/null 2>&1 || ! cargo clippy --version >/dev/null 2>&1; then
        rustup component add rustfmt clippy
    fi
    cargo nextest --version >/dev/null 2>&1 || cargo install --locked cargo-nextest
    cargo deny --version >/dev/null 2>&1 || cargo install --locked cargo-deny
    cargo deb --version >/dev/null 2>&1 || cargo install --locked cargo-deb --version '^3'
}

documentation() {
    # Private items are documented too, so a link to one leads somewhere.
    RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" cargo doc --locked --workspace --no-deps --document-private-items
}

# A daemon whose task panics may be restarted by its supervisor and pass its test all the same, so the logs
# are searched too: for the line of our own panic hook, and for the two lines of Rust's. A test that provokes
# a panic on purpose says so in the message: "provoked by a test".
unexpected_panics() {
    find "$1" -type f -exec awk '
        function report(text) { print text; found = 1 }
        FNR == 1 && held != "" { report(held); held = "" }
        held != "" { if (!/provoked by a test/) report(held "\n    " $0); held = "" }
        /provoked by a test/ { next }
        /ERROR.*peerup_telemetry::panics/ { report(FILENAME ":" FNR ": " $0) }
        /panicked at/ { held = FILENAME ":" FNR ": " $0 }
        END { if (held != "") report(held); exit found }
    ' {} + >&2
}

tests() {
    local result=0 filter=()
    if [ "$mode" = fast ]; then
        filter=(-E 'not (package(peerup-lab) & kind(test))')
    fi
    cargo nextest run --locked --workspace --profile ci "${filter[@]}" || result=$?
    if ! unexpected_panics "$PEERUP_LAB_LOGS"; then
        echo "scripts/test.sh: a panic nobody provoked stands in the logs above" >&2
        result=1
    fi
    return "$result"
}

# Only the directory that is ours by name is emptied: logs of an earlier run would be judged again.
prepare_logs() {
    if [ -z "${PEERUP_LAB_LOGS:-}" ]; then
        PEERUP_LAB_LOGS=$PWD/target/lab-logs
        rm -rf -- "$PEERUP_LAB_LOGS"
    fi
    mkdir -p -- "$PEERUP_LAB_LOGS"
    [ -z "$(ls -A -- "$PEERUP_LAB_LOGS")" ] || fail "PEERUP_LAB_LOGS=$PEERUP_LAB_LOGS is not empty"
    PEERUP_LAB_LOGS=$(cd -- "$PEERUP_LAB_LOGS" && pwd)
    export PEERUP_LAB_LOGS
}

prepare_logs

step "toolchain" require_toolchain
step "compiler" install_packages cc:build-essential dpkg-deb:dpkg strip:binutils
if [ "$mode" = full ]; then
    step "laboratory tools" install_packages "${laboratory_tools[@]}"
fi
step "format" cargo fmt --all --check
step "dependencies: bans, licences, sources" cargo deny --locked --config .deny.toml check bans licenses sources
step "lints" cargo clippy --locked --workspace --all-targets -- -D warnings
step "documentation" documentation
step "build" cargo build --locked --workspace --bins
step "tests" tests
step "package" scripts/package-deb.sh --check --binary target/debug/peerup
printf '\nscripts/test.sh: all green after %d s\n' "$SECONDS"
