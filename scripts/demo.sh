#!/usr/bin/env bash
# See peerup work: a relay, two machines behind NATs, one code, ssh over virtual addresses.
#
#   scripts/demo.sh               installs missing Debian packages (root or sudo), builds, shows
#   scripts/demo.sh --no-build    shows what was built before
#
# PEERUP_BIN names another peerup to show. Everything runs in network namespaces that end with this script,
# also on Ctrl-C. Root is not needed where this user may open /dev/net/tun and make user namespaces.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null
PATH="$HOME/.cargo/bin:$PATH:/usr/sbin:/sbin"

fail() {
    printf 'scripts/demo.sh: %s\n' "$*" >&2
    exit 1
}

build=yes
case "${1:-}" in
    "") ;;
    --no-build) build=no ;;
    *) fail "usage: scripts/demo.sh [--no-build]" ;;
esac

# command:package
tools=(
    unshare:util-linux setpriv:util-linux ip:iproute2 nft:nftables ping:iputils-ping
    ssh:openssh-client sshd:openssh-server iperf3:iperf3
)

missing_packages() {
    local tool
    for tool in "${tools[@]}"; do
        command -v "${tool%%:*}" >/dev/null || echo "${tool##*:}"
    done
    # rustc links with cc; the package is only needed to build.
    if [ "$build" = yes ] && ! command -v cc >/dev/null; then
        echo build-essential
    fi
}

install_packages() {
    local missing sudo=()
    missing=$(missing_packages | sort -u | tr '\n' ' ')
    if [ -z "$missing" ]; then
        return 0
    fi
    command -v apt-get >/dev/null || fail "these Debian packages are missing, and there is no apt-get: $missing"
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || fail "these packages are missing: $missing
hint: as root: apt-get install --no-install-recommends $missing"
        sudo=(sudo)
    fi
    echo "installing the missing packages: $missing"
    "${sudo[@]}" apt-get update -q
    # shellcheck disable=SC2086 # one word per package
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
    # The demo starts its own sshd inside a namespace. A server that only this script brought in must not
    # open port 22 of the host.
    if [[ " $missing " == *" openssh-server "* && -d /run/systemd/system ]]; then
        "${sudo[@]}" systemctl disable --now ssh.service ssh.socket 2>/dev/null || true
    fi
}

install_packages
target=${CARGO_TARGET_DIR:-target}
if [ "$build" = yes ]; then
    command -v cargo >/dev/null || fail "cargo is missing
hint: install Rust with rustup, https://rustup.rs"
    packages=(-p peerup-lab)
    [ -n "${PEERUP_BIN:-}" ] || packages+=(-p peerup)
    echo "\$ cargo build --release --locked ${packages[*]}"
    cargo build --release --locked "${packages[@]}"
fi
[ -x "$target/release/peerup-demo" ] || fail "$target/release/peerup-demo is missing
hint: run without --no-build"
exec "$target/release/peerup-demo"
