#!/usr/bin/env bash
# Fills .venv. Called by the Makefile, which decides from stamp files what is still to be done:
#
#   setup.sh check          the Python asked for, and the one that made .venv, can be used
#   setup.sh package        base.txt and the package itself, editable
#   setup.sh docs           docs.txt
#   setup.sh test           test.txt and torch.txt
#
# PYTHON names the interpreter; without it, the first Python 3.11 on PATH is taken.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly wanted=3.11 venv=.venv
readonly busy=$venv/.busy
readonly again="'make clean', then the same command again"

stop() {
    echo "set-up: $1" >&2
    exit 1
}

version_of() { # prints e.g. 3.11.7, or nothing when "$1" is no Python
    "$1" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null || true
}

is_wanted() { [[ $1 == "$wanted" || $1 == "$wanted".* ]]; }

find_python() { # sets $python
    local candidate
    python=${PYTHON:-}
    if [[ -z $python ]]; then
        for candidate in python$wanted python3 python; do
            if is_wanted "$(version_of "$candidate")"; then
                python=$candidate
                return
            fi
        done
        python=python3
    fi
    check_python "$python"
}

check_python() {
    local found
    found=$(version_of "$1")
    is_wanted "$found" || stop "Python $wanted is needed; $1 is ${found:+Python }${found:-no Python that\
 starts}: choose one with 'make … PYTHON=/path/to/python$wanted'"
}

check_venv() {
    if [[ -e $busy || ! -e $venv/pyvenv.cfg ]]; then return; fi # to be made, or made again
    local found home
    found=$(version_of "$venv/bin/python")
    is_wanted "$found" || stop "$venv needs Python $wanted; it was made by ${found:+Python\
 }${found:-a Python that is gone}: $again"
    home=$(cat "$venv/.made" 2>/dev/null || echo "$PWD")
    [[ $home == "$PWD" ]] || stop "$venv was made in $home and cannot be moved: $again"
}

check() {
    local machine
    machine="$(uname -s) $(uname -m)"
    [[ $machine == "Linux x86_64" ]] || stop "lingvo and tensorflow-text come for Linux x86_64 only;\
 this machine is $machine"
    if [[ -n ${PYTHON:-} ]]; then check_python "$PYTHON"; fi
    check_venv
}

make_venv() {
    if [[ -e $busy ]]; then
        echo "set-up: the last one was cut short: starting again"
        rm -rf "$venv"
    fi
    if [[ -e $venv/pyvenv.cfg ]]; then return; fi
    find_python
    "$python" -c 'import ensurepip, venv' 2>/dev/null || stop "$python cannot make virtual\
 environments (no venv or ensurepip): on Debian and Ubuntu, 'apt install python$wanted-venv'"
    mkdir -p "$venv"
    touch "$busy"
    echo "set-up: making $venv with $python"
    "$python" -m venv "$venv"
}

pip() { # errors alone: warnings about a machine's own pip configuration help nobody here
    "$venv/bin/python" -m pip "$1" --quiet --quiet "${@:2}"
}

announce() { # says what is waited for: "$1" is a file of requirements/
    echo "set-up: installing $1 ($(grep -c == "$1" || true) packages; a download can take minutes)"
}

install() { # uv where there is one; a complete lock needs no resolver
    announce "$1"
    if command -v uv >/dev/null; then
        uv pip install --quiet --python "$venv/bin/python" --no-deps -r "$1"
    else
        pip install --no-deps -r "$1"
    fi
}

package() {
    install requirements/base.txt
    echo "set-up: installing codegen-pax itself"
    pip install --no-deps --no-build-isolation --editable .
}

docs() { install requirements/docs.txt; }

test_() {
    install requirements/test.txt
    # Never by uv: it does not find every build of PyTorch that pip does.
    announce requirements/torch.txt
    pip install -c requirements/base.txt -c requirements/docs.txt -c requirements/test.txt \
        -r requirements/torch.txt
}

# One at a time; the kernel lets go of the lock however the process ends. $busy stays behind a
# process that was killed: packages may then be half there, and only a fresh start is certain.
fill() {
    exec 9<requirements/base.txt
    flock --nonblock 9 || {
        echo "set-up: waiting for another set-up of $venv to end"
        flock 9
    }
    make_venv
    touch "$busy"
    "$1"
    echo "$PWD" >"$venv/.made"
    rm "$busy"
}

export PIP_DISABLE_PIP_VERSION_CHECK=1
check
case ${1:-} in
check) ;;
package) fill package ;;
docs) fill docs ;;
test) fill test_ ;;
*) stop "unknown step '${1:-}'; expected check, package, docs or test" ;;
esac
