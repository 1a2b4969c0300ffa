#!/bin/sh
# Compares what the shared library exports with what the header declares, with the checked-in list, and
# with what the test programs use, so that no change of the ABI and no untested function goes unnoticed.
#
# usage: test_symbols.sh library header exported_symbols.txt c-compiler nm readelf test-program...
set -eu
export LC_ALL=C

library=$1 header=$2 list=$3 compiler=$4 nm=$5 readelf=$6
shift 6
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failed=0

# same <what is expected> <what there is> <sentence>
same() {
  if ! diff -u "$1" "$2"; then
    echo "FAILED: $3" >&2
    failed=1
  fi
}

"$nm" -D --defined-only "$library" | awk '{ print $NF }' | sort >"$folder/exported"
grep -v '^#' "$list" | sort >"$folder/listed"
# Function names are what stands before a parenthesis and is no function pointer.
"$compiler" -E -P "$header" | tr '\n' ' ' | grep -oE '\b(backend|metric|metrics)_[a-z0-9_]+ *\(' |
  tr -d ' (' | sort >"$folder/declared"
for program in "$@"; do
  "$nm" -D --undefined-only "$program" | awk '{ print $NF }'
done | sort -u | comm -12 - "$folder/exported" >"$folder/used"

same "$folder/listed" "$folder/exported" \
  "the library does not export what $list says. If the ABI is meant to change: change the list, and raise ABI_VERSION in build.rs if older programs could break"
same "$folder/exported" "$folder/declared" "the header does not declare what the library exports"
same "$folder/exported" "$folder/used" "no test program uses some functions"

abi_version=$(sed -n 's/^#define BACKEND_ABI_VERSION \([0-9]*\)$/\1/p' "$header")
"$readelf" -d "$library" | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p' >"$folder/soname"
echo "libpytheus_backend_rs.so.$abi_version" >"$folder/soname_by_header"
sed -n 's/^# SONAME: //p' "$list" >"$folder/soname_listed"
same "$folder/soname_listed" "$folder/soname" "the SONAME is not the listed one"
same "$folder/soname_by_header" "$folder/soname" "the SONAME is not that of the header's BACKEND_ABI_VERSION"

# The library has threads and fork handlers, which must not lose their code: it must stay loaded.
if ! "$readelf" -d "$library" | grep -q NODELETE; then
  echo "FAILED: $library is not linked with -z nodelete" >&2
  failed=1
fi
# libgcc_s and the C library, and nothing that a user would have to install.
"$readelf" -d "$library" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | grep -vE '^(libc|libm|libgcc_s|libpthread|libdl|ld-linux[a-z0-9-]*)\.so' >"$folder/foreign" || true
if [ -s "$folder/foreign" ]; then
  echo "FAILED: $library needs other libraries:" >&2
  cat "$folder/foreign" >&2
  failed=1
fi
exit "$failed"
