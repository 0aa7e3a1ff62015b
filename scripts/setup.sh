#!/usr/bin/env bash
# Makes everything that the Makefile's targets need, and is quick when it is there already:
# missing system libraries and a C++ compiler (Debian family), a virtual environment in .venv, the pinned packages
# of constraints.txt and this package itself, editable.
#
# usage: scripts/setup.sh [dependency group ...]        (default: dev)
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# --- system libraries: what napari's window, OpenGL and a virtual display need on Linux ---------

missing_system_packages() {
    local sonames
    sonames=$(PATH="$PATH:/sbin:/usr/sbin" ldconfig -p)
    while read -r soname package; do
        grep -q "^[[:space:]]*$soname " <<<"$sonames" || echo "$package"
    done <<'LIBRARIES'
libGL.so.1 libgl1
libEGL.so.1 libegl1
libOpenGL.so.0 libopengl0
libdbus-1.so.3 libdbus-1-3
libfontconfig.so.1 libfontconfig1
libglib-2.0.so.0 libglib2.0-0
libxkbcommon-x11.so.0 libxkbcommon-x11-0
libxcb-cursor.so.0 libxcb-cursor0
libxcb-icccm.so.4 libxcb-icccm4
libxcb-image.so.0 libxcb-image0
libxcb-keysyms.so.1 libxcb-keysyms1
libxcb-randr.so.0 libxcb-randr0
libxcb-render-util.so.0 libxcb-render-util0
libxcb-shape.so.0 libxcb-shape0
libxcb-xinerama.so.0 libxcb-xinerama0
libxcb-xkb.so.1 libxcb-xkb1
LIBRARIES
    command -v Xvfb >/dev/null || echo xvfb
    # torch.compile asks for it.
    command -v "${CXX:-g++}" >/dev/null || echo g++
    local package
    for package in libgl1-mesa-dri fonts-dejavu-core; do
        dpkg -s "$package" >/dev/null 2>&1 || echo "$package"
    done
}

apt() {
    if [ "$(id -u)" = 0 ]; then
        DEBIAN_FRONTEND=noninteractive apt-get "$@"
    else
        sudo -n env DEBIAN_FRONTEND=noninteractive apt-get "$@"
    fi
}

install_system_packages() {
    [ "$(uname -s)" = Linux ] || return 0
    if ! command -v apt-get >/dev/null; then
        command -v Xvfb >/dev/null || fail "Xvfb is missing; install your distribution's Xvfb, Mesa OpenGL and xcb libraries."
        return 0
    fi
    local packages
    packages=$(missing_system_packages)
    [ -n "$packages" ] || return 0
    if [ "$(id -u)" != 0 ] && ! sudo -n true 2>/dev/null; then
        fail "system libraries are missing; run: sudo apt-get install" $packages
    fi
    echo "setup: installing system packages:" $packages
    apt update -qq
    # shellcheck disable=SC2086  # one argument a package
    apt install -y -qq --no-install-recommends $packages >/dev/null
}

# --- Python ------------------------------------------------------------------------------------

find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "no Python 3.11 or newer was found; install one, or name it: make PYTHON=/path/to/python3 ..."
}

make_environment() {
    .venv/bin/python -c '' 2>/dev/null && return 0
    local python
    python=$(find_python)
    echo "setup: making .venv with $("$python" --version)"
    if ! "$python" -m venv --clear .venv >/dev/null 2>&1; then
        # Debian splits venv from Python.
        echo "setup: installing the system package python3-venv"
        { apt update -qq && apt install -y -qq python3-venv >/dev/null; } ||
            fail "$python cannot make a virtual environment; run: sudo apt-get install python3-venv"
        "$python" -m venv --clear .venv
    fi
}

install_packages() {
    local python=.venv/bin/python group groups=()
    for group in "$@"; do groups+=(--group "$group"); done
    echo "setup: installing packages (some minutes the first time)"
    # Dependency groups need pip 25.1.
    "$python" -m pip install -qq --disable-pip-version-check -c constraints.txt pip
    "$python" -m pip install -qq --disable-pip-version-check -c constraints.txt -e ".[all]" "${groups[@]}"
}

[ $# -gt 0 ] || set -- dev
install_system_packages
make_environment
stamp=.venv/setup-$(IFS=-; echo "$*")
key=$(cat pyproject.toml constraints.txt scripts/setup.sh | cksum)" $PWD"
if [ "$(cat "$stamp" 2>/dev/null)" != "$key" ]; then
    install_packages "$@"
    echo "$key" >"$stamp"
fi
