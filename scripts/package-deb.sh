#!/usr/bin/env bash
# Makes a Debian package of peerup: program, man pages, completions.
#
#   scripts/package-deb.sh                     of a release build; target/debian/peerup_VERSION_ARCH.deb
#   scripts/package-deb.sh --binary FILE       of this program
#   scripts/package-deb.sh --check [...]       and install it into an empty root, run it there, and remove it again
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH="$HOME/.cargo/bin:$PATH:/usr/sbin:/sbin"

check=
arguments=()
while [ $# -gt 0 ]; do
    case "$1" in
        --check) check=1; shift ;;
        --binary) arguments+=(--binary "${2:?--binary needs a file}"); shift 2 ;;
        -h | --help) sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
        *) printf 'usage: scripts/package-deb.sh [--check] [--binary FILE]\n' >&2; exit 2 ;;
    esac
done

fail() {
    printf 'scripts/package-deb.sh: %s\n' "$*" >&2
    exit 1
}

command -v dpkg-deb >/dev/null || fail "dpkg-deb is missing: this needs Debian or a relative of it"
cargo deb --version >/dev/null 2>&1 || cargo install --locked cargo-deb --version '^3'

rm -rf target/package target/debian
DESTDIR=$PWD/target/package scripts/install.sh --prefix /usr "${arguments[@]}"
strip --strip-all target/package/usr/bin/peerup
# What is only looked at need not be small.
cargo deb -q -p peerup --no-build --no-strip ${check:+--fast}
package=$(echo target/debian/peerup_*.deb)
[ -f "$package" ] || fail "cargo deb made no package"
printf 'made: %s\n' "$package"
[ -n "$check" ] || exit 0

# An empty root of its own, with dpkg's database in it: nothing of this machine is touched.
root=$(mktemp -d)
trap 'rm -rf -- "$root"' EXIT
mkdir -p "$root/var/lib/dpkg"/{info,updates,triggers}
touch "$root/var/lib/dpkg/status"
in_root=(dpkg --root="$root" --log=/dev/null --force-depends --force-script-chrootless)
if [ "$(id -u)" -ne 0 ]; then in_root=(fakeroot "${in_root[@]}" --force-not-root); fi
"${in_root[@]}" --install "$package" >/dev/null 2>&1 || fail "dpkg refuses $package"
"$root/usr/bin/peerup" --version
for file in usr/share/man/man1/peerup.1.gz usr/share/bash-completion/completions/peerup usr/share/zsh/vendor-completions/_peerup; do
    [ -s "$root/$file" ] || fail "$file is not in the package"
done
"${in_root[@]}" --remove peerup >/dev/null 2>&1 || fail "dpkg cannot remove the package"
[ ! -e "$root/usr/bin/peerup" ] || fail "removing the package left /usr/bin/peerup"
printf 'installed into an empty root, run, and removed again\n'
