#!/bin/sh
# Installs the library, reads the manual pages of the side-car with mandoc and with man, and completes its options in
# bash, zsh and fish. Then it removes everything again.
#
# usage: test_side_car_pages.sh <scripts/install> <folder of the release build>
set -eu
export LC_ALL=C.UTF-8

install=$1 built=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for program in mandoc man bash zsh fish; do
    command -v "$program" >/dev/null || {
        echo "FAILED: the test needs $program: run it by make test-c, which installs it" >&2
        exit 1
    }
done

fail() {
    echo "FAILED: $1" >&2
    exit 1
}

"$install" install "$built" /usr "$folder"
command=$folder/usr/bin/pytheus-backend-rs
share=$folder/usr/share

# A page for the command and one for each of its subcommands, which the page of the command names.
subcommands=$("$command" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z][a-z-]*\)  .*/\1/p')
[ -n "$subcommands" ] || fail "the side-car has no subcommands"
for name in pytheus-backend-rs $(printf 'pytheus-backend-rs-%s ' $subcommands); do
    page=$share/man/man1/$name.1
    [ -e "$page" ] || fail "there is no page $name.1"
    warnings=$(mandoc -T lint -W warning "$page" 2>&1) || true
    [ -z "$warnings" ] || fail "mandoc: $warnings"
    warnings=$(man --warnings=all -l "$page" 2>&1 >"$folder/page" </dev/null)
    [ -z "$warnings" ] || fail "man: $warnings"
    grep -q '^NAME' "$folder/page" && grep -q "$name  *- " "$folder/page" || fail "man does not show $name.1"
done
grep -q 'serve' "$share/man/man1/pytheus-backend-rs.1" || fail "the page of the command does not name serve"
MANPATH=$share/man man --where pytheus-backend-rs-serve >/dev/null || fail "man does not find the page"

# expect <shell> <typed so far> <found> <wanted>...
expect() {
    shell=$1 typed=$2 found=$3
    shift 3
    for wanted in "$@"; do
        printf '%s\n' "$found" | grep -qx -e "$wanted" || fail "$shell completes '$typed' to '$found', without $wanted"
    done
}

# Loads the installed file as an interactive bash does, by bash-completion, and completes the last word.
in_bash() {
    XDG_DATA_DIRS=$share bash --norc --noprofile -c '
        . /usr/share/bash-completion/bash_completion
        _completion_loader "$1"
        complete -p "$1" >/dev/null || exit 1
        function=$(complete -p "$1" | sed "s/.* -F \([^ ]*\) .*/\1/")
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        "$function" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf "%s\n" "${COMPREPLY[@]}"' bash "$@" 2>"$folder/log" || { cat "$folder/log"; fail "bash"; }
}

# shellcheck disable=SC2086 # a list of names
expect bash 'pytheus-backend-rs ' "$(in_bash pytheus-backend-rs '')" $subcommands
expect bash 'dump --' "$(in_bash pytheus-backend-rs dump --)" --store --format --name --verbose --help
expect bash 'dump --format o' "$(in_bash pytheus-backend-rs dump --format o)" openmetrics
expect bash 'serve --l' "$(in_bash pytheus-backend-rs serve --l)" --listen

in_fish() {
    fish --no-config -c "source $share/fish/vendor_completions.d/pytheus-backend-rs.fish; complete -C '$1'" | cut -f 1
}
# shellcheck disable=SC2086
expect fish 'pytheus-backend-rs ' "$(in_fish 'pytheus-backend-rs ')" $subcommands
expect fish 'dump --' "$(in_fish 'pytheus-backend-rs dump --')" --store --format --name --verbose --help
expect fish 'dump --format o' "$(in_fish 'pytheus-backend-rs dump --format o')" openmetrics

# zsh finds the function by the first line of the file. It completes only on a terminal, so here it gets one.
cat >"$folder/in_zsh" <<'END'
zmodload zsh/zpty
TERM=dumb zpty shell zsh -f -i
zpty -w shell "PROMPT=; fpath=($1 \$fpath); autoload -U compinit && compinit -u -D; print -r READY\$((6 * 7))"
zpty -r -m shell output "*READY42*"
zpty -w -n shell "$2"$'\t'
zpty -r -m shell output "*$3*"
print -r -- "$output"
zpty -d shell
END
timeout 60 zsh -f "$folder/in_zsh" "$share/zsh/site-functions" 'pytheus-backend-rs dump --' '--store' >"$folder/list" ||
    fail "zsh completes nothing"
grep -q -e '--format *-- ' "$folder/list" || fail "zsh completes to $(cat "$folder/list")"

"$install" uninstall "$built" /usr "$folder"
left=$(find "$folder/usr" ! -type d)
[ -z "$left" ] || fail "uninstall left $left"
