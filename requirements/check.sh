#!/bin/sh
# Looks whether this machine can hold cexdex, and names the Python to use: requirements/check.sh GIGABYTES [PYTHON]
# Prints the interpreter and ends with 0, or says in one sentence what is missing and what mends it, and ends with 2.
set -u

main() {
    platform "$(uname -s)" "$(uname -m)"
    python=$(interpreter "${2:-}") || stop "cexdex needs Python 3.11, 3.12 or 3.13 and ${2:-this machine} has none: $(get "python3 python3-venv")."
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        stop "$python has no venv module (Debian and Ubuntu split it off): $(get "python3-venv")."
    "$python" -c 'import sys; sys.exit(sys.maxsize < 2**32)' ||
        stop "$python is a 32-bit Python and ClickHouse needs 64 bits: make PYTHON=/path/to/python3."
    free=$(df -Pk . | awk 'NR == 2 {print int($4 / 1048576)}')
    [ "$free" -ge "$1" ] ||
        stop "only $free GB of disk are free here and $1 GB are needed: clone cexdex on a larger disk, or free some space."
    echo "$python"
}

platform() {
    case "$1 $2" in
        "Linux x86_64" | "Linux aarch64" | "Linux arm64" | "Darwin x86_64" | "Darwin arm64") ;;
        MINGW* | MSYS* | CYGWIN*) stop "cexdex runs on Windows inside WSL2 only: wsl --install." ;;
        *) stop "cexdex runs on Linux and macOS, x86-64 and arm64, and this is $1 $2: use the container of docker-compose.yml." ;;
    esac
    [ -e /etc/alpine-release ] &&
        stop "ClickHouse's wheel needs glibc and Alpine has musl: use the container of docker-compose.yml."
    return 0
}

# The first that answers and is of a version we know; one that has venv before one that has not.
interpreter() {
    candidates=${1:-python3.13 python3.12 python3.11 python3}
    for need in 'import venv, ensurepip' 'pass'; do
        for name in $candidates; do
            "$name" -c "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13)); " 2>/dev/null &&
                "$name" -c "$need" 2>/dev/null && echo "$name" && return 0
        done
    done
    return 1
}

get() {
    if command -v apt-get >/dev/null; then echo "apt install $1"
    elif command -v dnf >/dev/null; then echo "dnf install python3.12"
    elif command -v brew >/dev/null; then echo "brew install python@3.13"
    else echo "install it from python.org, or make PYTHON=/path/to/python3"
    fi
}

stop() {
    echo "cexdex: $1" >&2
    exit 2
}

main "$@"
