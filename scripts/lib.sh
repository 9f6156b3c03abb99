# What the scripts share: packages, the Python environment, and saying what is going on. Sourced by bash, never run.
# Everything here can be run again and reuses what is there.

say() {
    printf '\n== %s\n' "$*" >&2
}

fail() {
    printf '\n%s: %s\n' "${0##*/}" "$*" >&2
    exit 5 # not a verdict on anything: the set-up is what failed
}

# run COMMAND...: shows the command, ready to paste, and runs it.
run() {
    printf '$ %s\n' "$(printf '%q ' "$@")" >&2
    "$@"
}

# quietly WHAT COMMAND...: its output only when it fails.
quietly() {
    local what=$1 log
    shift
    log=$(mktemp)
    printf '$ %s\n' "$(printf '%q ' "$@")" >&2
    if ! "$@" </dev/null >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        rm -f "$log"
        fail "$what failed; its last lines are above"
    fi
    rm -f "$log"
}

# need GROUP...: has the packages of groups of kvmharness/system/packages.py.
need() {
    local python packages
    need_python
    python=$(find_python)
    packages=$("$python" kvmharness/system/packages.py "$@")
    # shellcheck disable=SC2086 # one word a package
    need_packages $packages
}

# need_packages PACKAGE...: installs what is missing as root, otherwise says what to install.
need_packages() {
    if ! command -v dpkg-query >/dev/null; then
        say "this is not Debian: install yourself what corresponds to: $*"
        return
    fi
    local missing=() package installed
    installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "$@" 2>/dev/null || :)
    for package in "$@"; do
        grep -qx "$package installed" <<<"$installed" || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    if ((EUID)); then
        fail "packages are missing; install them, then run this again:
    sudo apt-get install ${missing[*]}"
    fi
    say "Installing Debian packages: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    quietly "apt-get update" apt-get update
    quietly "apt-get install" apt-get install -y --no-install-recommends "${missing[@]}"
}

# Prints the first Python that is new enough and can make environments.
find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 /usr/bin/python3; do
        [[ -n $candidate ]] && usable_python "$candidate" && command -v "$candidate" && return
    done
    return 1
}

need_python() {
    find_python >/dev/null && return
    need_packages python3 python3-venv
    find_python >/dev/null || fail "Python 3.11 or newer is needed; name one with PYTHON=/path/to/python3"
}

usable_python() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# Makes or reuses .venv with the package and all its extras; VENV_PYTHON is its interpreter afterwards.
set_up_python() {
    VENV_PYTHON=$PWD/.venv/bin/python
    local stamp=.venv/installed-from wanted
    wanted=$(sha256sum pyproject.toml)
    if [[ -f $stamp && $(<"$stamp") == "$wanted" ]] && usable_python "$VENV_PYTHON"; then
        say "Python environment: .venv is up to date"
        return
    fi
    if ! usable_python "$VENV_PYTHON"; then
        local python
        need_python
        python=$(find_python)
        say "Python environment: making .venv with $python ($("$python" -V))"
        rm -rf .venv
        quietly "making .venv" "$python" -m venv .venv
    fi
    say "Python environment: installing the package and its extras into .venv"
    quietly "pip install" "$VENV_PYTHON" -m pip install --disable-pip-version-check -e '.[all]'
    printf '%s' "$wanted" >"$stamp"
}
