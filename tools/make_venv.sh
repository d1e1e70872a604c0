#!/bin/sh
# Make or refresh .venv.  usage: make_venv.sh demo|dev|bench
#   demo  what `make demo` needs      dev  that, and all tools and tests
#   bench  all that, and what the benchmarks measure beside the agent
# Versions are those of constraints.txt, so that what was tested is what is installed.
# Says what is missing on this machine instead of failing in the middle.
set -eu

kind=$1
need_python="3.11"
log=.venv/install.log

refuse() {
    printf 'make venv: %s\n  remedy: %s\n' "$1" "$2" >&2
    exit 1
}

find_python() {
    for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3; do
        command -v "$candidate" >/dev/null 2>&1 || continue
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            command -v "$candidate"
            return
        fi
    done
    refuse "no Python $need_python or newer" "on Debian 12: apt install python3 python3-venv"
}

check_openssl() {
    command -v openssl >/dev/null 2>&1 || refuse "no openssl command" "on Debian: apt install openssl"
    case $(openssl version) in
        "OpenSSL 0."* | "OpenSSL 1."* | LibreSSL*)
            refuse "$(openssl version) is too old" "install OpenSSL 3.0 or newer" ;;
    esac
}

command -v git >/dev/null 2>&1 || refuse "no git command" "on Debian: apt install git"
check_openssl
python=$(find_python)
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    refuse "$python can't make virtual environments" "on Debian 12: apt install python3-venv"

# A directory that was moved or copied has an environment whose commands point elsewhere.
if [ -d .venv ] && [ "$(.venv/bin/python -c 'import sys; print(sys.prefix)' 2>/dev/null)" != "$PWD/.venv" ]; then
    echo "The environment in .venv belongs to another place or Python; making it anew."
    rm -rf .venv
fi
if [ ! -d .venv ]; then
    echo "Making .venv with $("$python" --version) ..."
    "$python" -m venv .venv
fi

case $kind in
    demo) extras="controller" ;;
    dev) extras="controller,dev" ;;
    bench) extras="controller,dev,bench" ;;
    *) refuse "unknown kind '$kind'" "use demo, dev or bench" ;;
esac
echo "Installing Peersys and what it needs ($kind) into .venv; the log is $log"
start=$(date +%s)
# pip's own lines, shortened to what moves; the whole text goes to the log.
{ .venv/bin/python -m pip install --disable-pip-version-check --no-input -c constraints.txt \
    -e ".[$extras]" 2>&1 &&
    echo "peersys-install-done"; } | tee "$log" |
    sed -n -u -e 's/^Collecting \([^ (]*\).*/  getting \1/p' \
        -e 's/^Installing collected packages:.*/  installing .../p' -e '/^ERROR/p'
tail -n 1 "$log" | grep -q '^peersys-install-done$' ||
    refuse "pip could not install everything" "read $log; check the way to the package index"
touch ".venv/.installed-$kind"
[ "$kind" = demo ] || touch .venv/.installed-demo
echo "Ready after $(($(date +%s) - start)) s."
