# shellcheck shell=bash
# What ./run and ./test share: the packages of the one list, and the installation of what is missing.
#
# No package manager is called when everything is there: dpkg-query answers from a file, while apt would take
# locks, seconds and the network. Services that come with packages are kept from starting: a broker that
# starts by itself would hold the ports that the gateway is about to take.

# packages_of PART...: the names in these parts of the list.
packages_of() {
    local part
    for part in "$@"; do
        awk -v want="[$part]" '/^\[/ { on = ($1 == want); next } on && !/^#/ && NF { print $1 }' packages
    done
}

# packages_missing PART...: those of them that are not installed, under their own name or provided by another.
packages_missing() {
    comm -23 <(packages_of "$@" | sort -u) <(
        dpkg-query -W -f '${db:Status-Status} ${Package} ${Provides}\n' |
            awk '$1 == "installed" { gsub(/\([^)]*\)|,/, " "); for (i = 2; i <= NF; i++) print $i }' | sort -u)
}

# packages_without_services COMMAND...: runs it while no service may start.
packages_without_services() {
    local policy=/usr/sbin/policy-rc.d status=0
    if [ -e "$policy" ]; then
        "$@"
        return
    fi
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT INT TERM
    "$@" || status=$?
    rm -f "$policy"
    trap - EXIT INT TERM
    return "$status"
}

packages_install() {
    export DEBIAN_FRONTEND=noninteractive
    local install=(apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=120 "$@")
    # On a fresh system the lists are not there yet, so that a failure means: fetch them, once.
    "${install[@]}" >/dev/null 2>&1 || { apt-get update -q && "${install[@]}"; } >&2
}

# packages_ensure PART...: after it, all of them are installed, or the one line to type was printed.
packages_ensure() {
    command -v dpkg-query >/dev/null || {
        echo "this is no Debian: install what the file 'packages' lists, by your system's names" >&2
        return 0
    }
    local missing
    mapfile -t missing < <(packages_missing "$@")
    if [ "${#missing[@]}" -eq 0 ]; then
        return 0
    fi
    if [ "$(id -u)" -ne 0 ]; then
        echo "missing packages; type this line, then start again:" >&2
        echo "  sudo apt-get install --no-install-recommends ${missing[*]}" >&2
        return 1
    fi
    echo "installing: ${missing[*]}" >&2
    packages_without_services packages_install "${missing[@]}"
}
