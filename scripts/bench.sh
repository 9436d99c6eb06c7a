#!/usr/bin/env bash
# peerup beside the bare link and beside other overlays: throughput, processor time, round trips, memory, bad links.
# Everything is measured in turns in one run, on hosts and links in namespaces of their own; release build.
#
#   scripts/bench.sh [OPTION…]        all subjects that are installed, all figures, all links: about 90 minutes
#   scripts/bench.sh --quick          one round of TCP and echo on a clean cable: two minutes
#   scripts/bench.sh --install        first installs the other overlays: Debian's, and those of crates.io into
#                                     PEERUP_BENCH_PROGRAMS (default: ~/.cache/peerup-bench), never into this repository
#   scripts/bench.sh list             says which subjects are installed
#   scripts/bench.sh report RUN.json… one table and picture of runs that were measured apart
#
# Options: --subjects raw,gotatun,peerup  --figures tcp1,tcp4,reverse,rtt,udp,start  --profiles cable,no-offload,low,…
#          --rounds N  --seconds N  --minutes N (no measurement begins later)  --out DIR;  --help tells the rest.
# Writes run.json (every value), table.md and chart.svg to target/bench. Takes a machine with nothing else to do.
#
# As root it lets namespaces use cubic, bbr and large send buffers while it runs, where the machine does not (and says so).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH="$HOME/.cargo/bin:$PATH:/usr/sbin:/sbin"
programs=${PEERUP_BENCH_PROGRAMS:-${XDG_CACHE_HOME:-$HOME/.cache}/peerup-bench}

# Versions that docs/performance.md speaks of.
rivals=(boringtun-cli@0.7.1 gotatun-cli@0.10.2)

install_rivals() {
    if command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
        apt-get update -q
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
            iperf3 ethtool nebula wireguard-go wireguard-tools
    else
        echo "scripts/bench.sh: not root: nebula, wireguard-go, wireguard-tools, iperf3 and ethtool are not installed here" >&2
    fi
    local rival
    for rival in "${rivals[@]}"; do
        cargo install --locked --root "$programs" "$rival"
    done
}

undo=()
restore() {
    local command
    for command in "${undo[@]}"; do
        eval "$command"
    done
}
trap restore EXIT

allowed=/proc/sys/net/ipv4/tcp_allowed_congestion_control
allow_congestion_controls() {
    local before name wanted=
    before=$(cat $allowed)
    for name in cubic bbr; do
        case " $before " in *" $name "*) ;; *) wanted+=" $name" ;; esac
    done
    if [ -z "$wanted" ]; then
        return 0
    fi
    if echo "$before$wanted" 2>/dev/null >$allowed; then
        undo+=("echo '$before' >$allowed")
        echo "net.ipv4.tcp_allowed_congestion_control is \"$before$wanted\" while this runs; it was \"$before\""
    else
        echo "scripts/bench.sh: namespaces may not choose$wanted here" >&2
    fi
}

# A daemon that is the host's root may have a send buffer of any size; in a namespace it gets what this allows. Programs that
# ask for no buffer, like iperf3, do not notice.
wmem=/proc/sys/net/core/wmem_max
allow_send_buffers() {
    local before wanted=16777216
    before=$(cat $wmem)
    if [ "$before" -ge $wanted ]; then
        return 0
    fi
    if echo $wanted 2>/dev/null >$wmem; then
        undo+=("echo '$before' >$wmem")
        echo "net.core.wmem_max is $wanted while this runs; it was $before"
    else
        echo "scripts/bench.sh: send buffers stay at $before bytes here" >&2
    fi
}

if [ "${1:-}" = --install ]; then
    install_rivals
    shift
fi
cargo build --locked --release -p peerup -p peerup-lab --bins
case "${1:-}" in
    report) target/release/peerup-bench "$@" ;;
    list) target/release/peerup-bench "$@" --programs "$programs/bin" ;;
    *)
        allow_congestion_controls
        allow_send_buffers
        target/release/peerup-bench run --programs "$programs/bin" "$@"
        ;;
esac
