# Sourced by the other scripts: creates and updates the virtual environments.
# The scripts use .venv; other versions of Python have .venv-3.12 and so on.
# shellcheck shell=bash

root="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)"
venv="$root/.venv"

# Otherwise each of the many processes would compile Motoko again.
unset PYTHONDONTWRITEBYTECODE

# Print the first Python that is new enough; $PYTHON overrides the choice.
find_python() {
    local candidate
    for candidate in "${PYTHON:-python3}" python3.13 python3.12 python3.11 python3.14 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    echo "No Python of version 3.11 or later was found; select one with PYTHON=..." >&2
    return 1
}

# Print a Python of version $1 that can create virtual environments, from PATH or pyenv.
find_version() {
    local candidate
    for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/"python$1"; do
        if "$candidate" -c 'import ensurepip, venv' 2>/dev/null &&
            [ "$(version_of "$candidate")" = "$1" ]; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    return 1
}

# Print the version of a Python, such as 3.12.
version_of() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'
}

# ensure_environment [EXTRA]: install the package with an extra, unless it is already installed from
# this directory and pyproject.toml. $venv is the environment, $PYTHON creates it.
ensure_environment() {
    local python target stamp
    if ! "$venv/bin/python" -c '' 2>/dev/null; then
        python="$(find_python)" || return
        echo "Creating the virtual environment ${venv##*/} with $python ..." >&2
        "$python" -m venv --clear "$venv" || {
            echo "$python cannot create virtual environments; on Debian: apt install python3-venv" >&2
            return 1
        }
    fi
    target="$root${1:+[$1]}"
    stamp="$venv/motoko-installed${1:+-$1}"
    if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$(wanted "$target")" ]; then
        echo "Installing Motoko${1:+ with the '$1' extra} into ${venv##*/} ..." >&2
        "$venv/bin/python" -m pip install -qq --disable-pip-version-check --editable "$target" ||
            return
        wanted "$target" >"$stamp"
    fi
}

# Print the sources of an up-to-date environment.
wanted() {
    printf '%s ' "$1"
    cksum <"$root/pyproject.toml"
}
