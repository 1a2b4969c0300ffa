#!/bin/sh
# Installs the library with `cargo cinstall` and with scripts/install, and compares what both have installed: the files,
# the SONAME, the header, the exported functions, and what pkg-config says. Then a program is built with the files of
# `cargo cinstall` by pkg-config and by CMake.
#
# usage: test_cinstall.sh <scripts/install> <folder of the release build> <cc> <c++> <cmake> <pkg-config>
#
# It needs cargo-c: cargo install cargo-c. `make test-long` runs it.
set -eu
export LC_ALL=C

install=$1 built=$2 cc=$3 cxx=$4 cmake=$5 pkg_config=$6
source=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

fail() {
    echo "FAILED: $1" >&2
    exit 1
}

"$install" install "$built" /usr "$folder/make"
# Debian's cargo-c would choose a folder of the architecture.
(cd "$source" && cargo cinstall --release --locked --package pytheus_backend_rs --prefix /usr \
    --libdir /usr/lib --destdir "$folder/cargo" >"$folder/log" 2>&1) || { cat "$folder/log"; fail "cargo cinstall"; }
made=$folder/make/usr cargo=$folder/cargo/usr

# The side-car is another crate: `cargo install --path side-car`.
files() { (cd "$1" && find . ! -type d | grep -v -e '^./bin/' -e '/man1/' -e '-completion' -e /fish/ -e /zsh/ | sort); }
files "$made" >"$folder/made"
files "$cargo" >"$folder/cargo_files"
diff "$folder/made" "$folder/cargo_files" || fail "cargo cinstall installs other files (>) than make install (<)"
for file in $(cat "$folder/made"); do
    case $file in
    *.so* | *.a | *.pc) ;;
    *) cmp "$made/$file" "$cargo/$file" || fail "$file differs" ;;
    esac
    [ "$(readlink "$made/$file")" = "$(readlink "$cargo/$file")" ] ||
        [ "$(basename "$(readlink -f "$made/$file")")" = "$(basename "$(readlink -f "$cargo/$file")")" ] ||
        fail "$file leads elsewhere"
done

of() { readelf -d "$1/lib/libpytheus_backend_rs.so" | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p'; }
[ -n "$(of "$made")" ] && [ "$(of "$made")" = "$(of "$cargo")" ] || fail "the SONAME is $(of "$cargo")"
exported() { nm -D --defined-only "$1/lib/libpytheus_backend_rs.so" | sed 's/.* //' | sort; }
[ "$(exported "$made")" = "$(exported "$cargo")" ] || fail "cargo cinstall exports other functions"

# Without the folders, which the two name in different ways.
says() {
    PKG_CONFIG_SYSROOT_DIR='' PKG_CONFIG_PATH=$1/lib/pkgconfig PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1 \
        "$pkg_config" --define-variable=prefix="$1" "$2" pytheus_backend_rs
}
[ "$(says "$made" --modversion)" = "$(says "$cargo" --modversion)" ] || fail "the versions of the .pc files differ"
field() { sed -n "s/^$2: //p" "$1/lib/pkgconfig/pytheus_backend_rs.pc"; }
for name in Name Description Version Libs Cflags; do
    [ -n "$(field "$made" $name)" ] && [ "$(field "$made" $name)" = "$(field "$cargo" $name)" ] ||
        fail "$name of the .pc file is '$(field "$cargo" $name)', and not '$(field "$made" $name)'"
done
for library in $(field "$made" Libs.private | sed "s/.*}//") -lpthread -ldl -lm; do
    field "$cargo" Libs.private | grep -q -e "$library" || fail "the .pc file does not name $library"
done

program=$source/tests-c/consumer
# shellcheck disable=SC2046 # lists of options
"$cc" -std=c99 "$program/consumer.c" -I "$cargo/include" -L "$cargo/lib" $(says "$cargo" --libs) \
    "-Wl,-rpath,$cargo/lib" -o "$folder/consumer"
"$folder/consumer" | grep -qx 'consumed_total 1' || fail "a program that uses the library does not count"
"$cmake" -S "$program" -B "$folder/cmake" -DCMAKE_PREFIX_PATH="$cargo" \
    -DWANTED_VERSION="$(says "$cargo" --modversion)" -DCMAKE_C_COMPILER="$cc" -DCMAKE_CXX_COMPILER="$cxx" \
    >"$folder/log" 2>&1 || { cat "$folder/log"; fail "cmake"; }
"$cmake" --build "$folder/cmake" >"$folder/log" 2>&1 || { cat "$folder/log"; fail "the build by cmake"; }
for built in c_shared c_static cpp_shared cpp_static; do
    "$folder/cmake/$built" | grep -qx 'consumed_total 1' || fail "$built does not count"
done
