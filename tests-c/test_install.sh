#!/bin/sh
# Installs the library, moves the tree, and builds programs outside of it with the installed files only: C and C++, by
# pkg-config and by CMake, with the shared and with the static library. Then it removes the library again.
#
# usage: test_install.sh <scripts/install> <folder of the release build> <cc> <c++> <cmake> <pkg-config> <readelf>
set -eu
export LC_ALL=C

install=$1 built=$2 cc=$3 cxx=$4 cmake=$5 pkg_config=$6 readelf=$7
consumer=$(cd "$(dirname "$0")/consumer" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# A compiler's own variables must not lead into the tree of the sources.
unset CPATH C_INCLUDE_PATH CPLUS_INCLUDE_PATH LIBRARY_PATH LD_LIBRARY_PATH

fail() {
    echo "FAILED: $1" >&2
    exit 1
}

# prints_the_scrape <program>
prints_the_scrape() {
    "$1" | grep -qx 'consumed_total 1' || fail "$1 did not count"
}

# needs_the_library <program>
needs_the_library() {
    "$readelf" -d "$1" | grep -q 'NEEDED.*libpytheus_backend_rs\.so\.'
}

"$install" install "$built" /opt/metrics "$folder/stage"
# cargo-c reads the version of the library's file in Cargo.toml.
capi=$(sed -n '/^\[package.metadata.capi.library\]$/,/^$/s/^version = "\(.*\)"$/\1/p' "$consumer/../../Cargo.toml")
[ -e "$folder/stage/opt/metrics/lib/libpytheus_backend_rs.so.$capi" ] ||
    fail "Cargo.toml names version $capi of the library in package.metadata.capi.library, and not the one of the header"
# The installed files find each other wherever they are.
mv "$folder/stage/opt/metrics" "$folder/moved"
root=$folder/moved
"$root/bin/pytheus-backend-rs" --version >/dev/null || fail "the side-car does not run"

export PKG_CONFIG_PATH="$root/lib/pkgconfig"
of() { "$pkg_config" "$@" pytheus_backend_rs; }
warnings="-Wall -Wextra -Wpedantic -Werror"
static="$(of --variable=static_library) $(of --variable=static_libs)"
for language in c cpp; do
    case $language in
    c) compiler="$cc -std=c99" ;;
    cpp) compiler="$cxx -std=c++17" ;;
    esac
    source=$consumer/consumer.$language
    # shellcheck disable=SC2086 # lists of options
    $compiler $warnings "$source" $(of --cflags --libs) "-Wl,-rpath,$root/lib" -o "$folder/shared_$language"
    # shellcheck disable=SC2086
    $compiler $warnings "$source" $(of --cflags) $static -o "$folder/static_$language"
    prints_the_scrape "$folder/shared_$language"
    prints_the_scrape "$folder/static_$language"
    needs_the_library "$folder/shared_$language" || fail "shared_$language does not use the shared library"
    needs_the_library "$folder/static_$language" && fail "static_$language uses the shared library"
done

version=$(of --modversion)
"$cmake" -S "$consumer" -B "$folder/cmake" -DCMAKE_PREFIX_PATH="$root" -DWANTED_VERSION="$version" \
    -DCMAKE_C_COMPILER="$cc" -DCMAKE_CXX_COMPILER="$cxx" >"$folder/log" 2>&1 || { cat "$folder/log"; fail "cmake"; }
"$cmake" --build "$folder/cmake" >"$folder/log" 2>&1 || { cat "$folder/log"; fail "the build by cmake"; }
for program in c_shared c_static cpp_shared cpp_static; do
    prints_the_scrape "$folder/cmake/$program"
done
for other in 0.0.9 99.0; do
    if "$cmake" -S "$consumer" -B "$folder/other" -DCMAKE_PREFIX_PATH="$root" -DWANTED_VERSION="$other" \
        -DCMAKE_C_COMPILER="$cc" -DCMAKE_CXX_COMPILER="$cxx" >"$folder/log" 2>&1; then
        fail "find_package accepted version $version for $other"
    fi
    grep -q "compatible with requested version \"$other\"" "$folder/log" || fail "cmake failed for another reason"
done

mkdir -p "$folder/stage/opt" && mv "$root" "$folder/stage/opt/metrics"
"$install" uninstall "$built" /opt/metrics "$folder/stage"
left=$(find "$folder/stage" ! -type d)
[ -z "$left" ] || fail "uninstall left $left"
"$install" install "$built" relative "$folder" 2>/dev/null && fail "a relative prefix was accepted"
exit 0
