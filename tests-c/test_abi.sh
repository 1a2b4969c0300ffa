#!/bin/sh
# Compares the types and functions of the header with the checked-in dump of its binary interface, so that a change
# that could break a program fails until the number of the interface is raised.
#
# usage: test_abi.sh <header> <cc>
#        test_abi.sh --update <header> <cc>     record additions, or the interface of a new number
#
# The dump is that of a library with empty functions, compiled from the header: what a C compiler makes of the
# header is the interface. test_symbols.sh shows that the real library exports the same functions.
set -eu
export LC_ALL=C

update=false
if [ "$1" = --update ]; then
    update=true
    shift
fi
header=$1 compiler=$2
here=$(cd "$(dirname "$0")" && pwd)
number=$(sed -n 's/^#define BACKEND_ABI_VERSION \([0-9]*\)$/\1/p' "$header")
dump=$here/abi-$number.xml
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# Each declaration becomes a definition. Functions take enums as int32_t, so variables bring in their constants.
"$compiler" -E -P "$header" | tr '\n' ' ' | awk -v RS=';' '
    /^ *(const )?[A-Za-z0-9_]+ [*]*(backend|metric|metrics)_[a-z0-9_]+\(/ { print $0 " { __builtin_trap(); }" }
    match($0, /enum [A-Za-z]+ *\{/) { name = substr($0, RSTART + 5, RLENGTH - 6); print "enum " name " abi_" name ";" }
' >"$folder/definitions.h"
printf '#include "%s"\n#include "definitions.h"\n' "$header" >"$folder/interface.c"
"$compiler" -g -O0 -shared -fPIC -I "$folder" "$folder/interface.c" -o "$folder/interface.so" \
    "-Wl,-soname,libpytheus_backend_rs.so.$number"
grep -q backend_new "$folder/definitions.h" && grep -q abi_MetricType "$folder/definitions.h"

# A struct that begins with its size may get fields behind its last one.
cat >"$folder/suppressions" <<'END'
[suppress_type]
  name_regexp = ^(MetricFamilyOptions|MetricsRenderOptions|MetricsServeOptions|MetricsForeign(Family|Sample)|BackendStatistics|MetricsSnapshotFamily)$
  type_kind = struct
  has_data_member_inserted_at = end
END

# compare <option>...: what has changed since the dump.
compare() { abidiff "$@" "$dump" "$folder/interface.so"; }

# Fails if a program could break. The suppression also hides fields that have changed, which the report names.
is_compatible() {
    compare --no-added-syms --suppressions "$folder/suppressions" >"$folder/report" || return 1
    compare --no-added-syms >"$folder/report" || true
    ! grep -qE "type of '|offset changed|deletion|data member change" "$folder/report"
}

if [ -e "$dump" ] && ! is_compatible; then
    cat "$folder/report"
    echo "FAILED: programs that were compiled with an earlier header could break. Undo the change, or raise" \
        "ABI_VERSION in build.rs and run $0 --update" >&2
    exit 1
fi
if $update; then
    abidw --no-show-locs --no-corpus-path --no-comp-dir-path "$folder/interface.so" --out-file "$dump"
elif [ ! -e "$dump" ] || ! compare --harmless; then
    echo "FAILED: the dump lacks an addition. Run $0 --update" >&2
    exit 1
fi
