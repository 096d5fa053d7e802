#!/bin/sh
# Makes .venv with Pointsman installed from this folder: `environment.sh run`, then `environment.sh dev` for the tools,
# then `environment.sh bench` for what it is measured beside.
# PYTHON names the interpreter to use; otherwise the first of python3, python3.14 ... python3.11 that is new enough.
set -eu
cd "$(dirname "$0")/../.."
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
# setuptools warns at every editable install that folders may shadow packages; here the names differ
export PYTHONWARNINGS=ignore

say() { printf '%s\n' "$*" >&2; }

new_enough() {
    command -v "$1" >/dev/null 2>&1 && "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        new_enough "$PYTHON" && { echo "$PYTHON"; return; }
        say "PYTHON=$PYTHON is not Python 3.11 or newer"
        exit 1
    fi
    for each in python3 python3.14 python3.13 python3.12 python3.11; do
        new_enough "$each" && { echo "$each"; return; }
    done
    say "needed: Python 3.11 or newer (or name it: make PYTHON=/path/to/python3.12)"
    exit 1
}

# Debian and Ubuntu keep what `python -m venv` needs in a package of its own.
install_venv_module() {
    package="python$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
        export DEBIAN_FRONTEND=noninteractive
        apt-get -q -y -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 update >&2
        apt-get -q -y -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 install --no-install-recommends "$package" >&2
    else
        say "needed: the venv module of $1; on Debian or Ubuntu: sudo apt-get install $package"
        exit 1
    fi
}

make_venv() {
    python=$(find_python)
    "$python" -c 'import ensurepip, venv' 2>/dev/null || install_venv_module "$python"
    "$python" -m venv --clear .venv
    # --group, for the tools, came with pip 25.1
    .venv/bin/python -m pip install -q --upgrade 'pip>=25.1'
}

# The folders by their import names, for the type checker.
make_links() {
    mkdir -p .links/pointsman
    for each in schemas models streams infra; do
        ln -sfn "../../$each" ".links/pointsman/$each"
    done
}

case "${1:-}" in
    run)
        .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null &&
            .venv/bin/python -m pip --version >/dev/null 2>&1 || make_venv
        .venv/bin/python -m pip install -q -e .
        ;;
    dev)
        .venv/bin/python -m pip install -q --group dev
        make_links
        ;;
    bench)
        .venv/bin/python -m pip install -q --group bench
        ;;
    *)
        say "usage: environment.sh run|dev|bench"
        exit 2
        ;;
esac
