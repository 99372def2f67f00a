#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Checks what neither test suite can see: versions that must agree, and the size of the fixture.
set -eu

cd "$(dirname "$0")/.."

version_of() {
    sed -n 's/.*version"\{0,1\} *[=:] *"\([^"]*\)".*/\1/p' "$1" | head -n 1
}

rust=$(version_of Cargo.toml)
js=$(version_of package.json)
if [ "$rust" != "$js" ]; then
    echo "Cargo.toml says $rust and package.json says $js" >&2
    exit 1
fi

size=$(wc -c < fixtures/identity.bin)
if [ "$size" -ne 64 ]; then
    echo "fixtures/identity.bin holds $size bytes, not 64" >&2
    exit 1
fi
echo "versions and fixture: ok ($rust)"
