#!/usr/bin/env bash
# Builds peerup and installs the program, its man pages and its shell completions.
#
#   scripts/install.sh                   build and install below /usr/local (with sudo where that needs it)
#   scripts/install.sh --prefix DIR      below DIR instead
#   scripts/install.sh --uninstall       remove what was installed
#   scripts/install.sh --binary FILE     install this program instead of building one
#
# DESTDIR is put before every path, for packages. Services are not touched: `peerup service-unit install` does that.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH="$HOME/.cargo/bin:$PATH"

prefix=/usr/local
binary=
action=install

fail() {
    printf 'scripts/install.sh: %s\n' "$*" >&2
    exit 1
}

while [ $# -gt 0 ]; do
    case "$1" in
        --prefix) prefix=${2:?--prefix needs a directory}; shift 2 ;;
        --binary) binary=${2:?--binary needs a file}; shift 2 ;;
        --uninstall) action=uninstall; shift ;;
        -h | --help) sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
        *) printf 'usage: scripts/install.sh [--prefix DIR] [--binary FILE] [--uninstall]\n' >&2; exit 2 ;;
    esac
done

target=${DESTDIR:-}$prefix
bash_completion=$target/share/bash-completion/completions/peerup
zsh_completion=$target/share/zsh/site-functions/_peerup
fish_completion=$target/share/fish/vendor_completions.d/peerup.fish
man_dir=$target/share/man/man1

# Only what the directory needs, so that a prefix of one's own needs no root.
as_owner() {
    local dir=$target
    while [ ! -e "$dir" ]; do dir=$(dirname "$dir"); done
    if [ -w "$dir" ]; then "$@"; else sudo "$@"; fi
}

build() {
    command -v cargo >/dev/null || fail "cargo is missing
hint: install Rust with rustup, https://rustup.rs"
    cargo build --locked --release -p peerup
    binary=target/release/peerup
}

install_all() {
    [ -n "$binary" ] || build
    [ -x "$binary" ] || fail "$binary is no program"
    made=$(mktemp -d)
    trap 'rm -rf -- "$made"' EXIT
    mkdir "$made/man"
    "$binary" man "$made/man" >/dev/null
    local shell
    for shell in bash zsh fish; do
        "$binary" completions "$shell" >"$made/$shell"
    done
    as_owner install -D -m 755 "$binary" "$target/bin/peerup"
    as_owner install -D -m 644 "$made/bash" "$bash_completion"
    as_owner install -D -m 644 "$made/zsh" "$zsh_completion"
    as_owner install -D -m 644 "$made/fish" "$fish_completion"
    local page
    for page in "$made"/man/*.1; do
        as_owner install -D -m 644 "$page" "$man_dir/$(basename "$page")"
    done
    printf 'installed: %s\n' "$target/bin/peerup"
    if [ -z "${DESTDIR:-}" ]; then
        "$target/bin/peerup" --version
        printf 'next: peerup init, then peerup service-unit install to start at boot\n'
    fi
}

uninstall_all() {
    local file
    for file in "$target/bin/peerup" "$bash_completion" "$zsh_completion" "$fish_completion" "$man_dir"/peerup.1 "$man_dir"/peerup-*.1; do
        if [ -e "$file" ]; then
            as_owner rm -f -- "$file"
            printf 'removed: %s\n' "$file"
        fi
    done
}

case "$action" in
    install) install_all ;;
    uninstall) uninstall_all ;;
esac
