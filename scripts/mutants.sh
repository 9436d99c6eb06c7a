#!/usr/bin/env bash
# Plants one bug after another (tests/sim/mutations/*.patch) in a copy of the workspace and asserts that the simulated
# network finds each. Not part of the checks: it builds the machines once per bug. Names as arguments choose some.
set -euo pipefail

cd "$(dirname "$0")/.."
root=$PWD
copy=${MUTANTS_DIR:-$(mktemp -d)}
[ -n "${MUTANTS_DIR:-}" ] || trap 'rm -rf "$copy"' EXIT
mkdir -p "$copy"

fresh() {
    git -C "$root" ls-files -z --cached --others --exclude-standard | tar -C "$root" --null -T - -cf - --ignore-failed-read |
        tar -C "$copy" -xmf - # with the time of the copy: what a former run planted is built anew
}

stories() {
    cargo nextest run --manifest-path "$copy/Cargo.toml" --target-dir "$copy/target" -p peerup-sim --cargo-quiet "$@"
}

chosen=("$@")
[ ${#chosen[@]} -gt 0 ] || for patch in tests/sim/mutations/*.patch; do chosen+=("$(basename "$patch" .patch)"); done

fresh
stories --status-level fail || { echo "the stories fail without any bug" >&2; exit 1; }
missed=()
for name in "${chosen[@]}"; do
    patch=$root/tests/sim/mutations/$name.patch
    patch -d "$copy" -p1 -s <"$patch"
    found=$(stories --status-level fail 2>&1 | grep -om1 'stories [a-z_]*::[a-z_0-9]*' || true)
    patch -d "$copy" -p1 -s -R <"$patch"
    if [ -n "$found" ]; then
        echo "found   $name ($found)"
    else
        echo "MISSED  $name"
        missed+=("$name")
    fi
done
[ ${#missed[@]} -eq 0 ]
