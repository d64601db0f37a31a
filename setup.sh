#!/usr/bin/env bash
# Installs what Dockyard and its lab need from Debian's own archive. What is there stays as it is; run it as often as you like.
#
#   ./setup.sh            install what is missing (as root, or with sudo)
#   ./setup.sh --check    only say what is missing
#
# Exit codes: 0 everything is there; 1 an installation failed, or --check found something missing; 2 not on this system.
set -euo pipefail
export LC_ALL=C PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

here=$(cd "$(dirname "$0")" && pwd)
log="$here/.setup.log"
# QEMU 7.2 (Debian 12) crashes emulated guests with a double fault; 10.0 is stable.
least_qemu=10.0
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# What is needed, as "package: how one sees that it is there".
needed=(
    "python3: command -v python3"
    "python3-venv: python3 -c 'import venv, ensurepip'"
    "openssh-client: command -v ssh ssh-keygen"
    "openssh-server: command -v sshd"
    "qemu-system-x86: recent_qemu"
    "qemu-utils: command -v qemu-img"
    "mmdebstrap: command -v mmdebstrap"
    "uidmap: command -v newuidmap"
    "e2fsprogs: command -v mke2fs"
    "zstd: command -v zstd"
    "busybox: command -v busybox"
    "debian-archive-keyring: test -e $keyring"
    "chromium: command -v chromium"
    "jq: command -v jq"
    "promtool: promtool_at_hand"
)

say() { printf '==> %s\n' "$*"; }

stop() { # exit code, message ...
    local code=$1
    shift
    printf 'setup.sh: %s\n' "$@" >&2
    exit "$code"
}

recent_qemu() {
    local version
    version=$(qemu-system-x86_64 --version 2>/dev/null | sed -n 's/.*version \([0-9.]*\).*/\1/p' | head -n 1)
    [ -n "$version" ] && [ "$(printf '%s\n' "$least_qemu" "$version" | sort -V | head -n 1)" = "$least_qemu" ]
}

# In PATH, or taken out of its package into .tools/.
promtool_at_hand() {
    command -v promtool || [ -x "$here/.tools/promtool" ]
}

find_missing() {
    missing=()
    local line
    for line in "${needed[@]}"; do
        eval "${line#*: }" >/dev/null 2>&1 || missing+=("${line%%:*}")
    done
}

debian_release() { # 12, 13 or nothing
    (. /etc/os-release 2>/dev/null && [ "${ID:-}" = debian ] && case "${VERSION_ID:-}" in 12 | 13) echo "$VERSION_ID" ;; esac) || true
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

logged() { # what it is, command ...
    local title=$1
    shift
    say "$title"
    if ! "$@" >>"$log" 2>&1 </dev/null; then
        { grep -E '^(E|W|Err):|^dpkg: error' "$log" || tail "$log"; } | uniq | tail -n 15 >&2
        stop 1 "failed: $title" "the whole log is in $log"
    fi
}

apt_get() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=120 \
        -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@"
}

update_lists() {
    # A foreign source that is broken today must not be in the way of Debian's own.
    apt_get update || say "apt-get update reported mistakes; going on with what it got"
}

debian_mirror() {
    apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(CODENAME)' 2>/dev/null |
        sed -n 's, Debian bookworm$,,p' | head -n 1
}

write_backports() {
    local mirror
    mirror=$(debian_mirror)
    printf '%s\n' "# Added by Dockyard's setup.sh: QEMU 7.2 of Debian 12 crashes emulated guests." "Types: deb" \
        "URIs: ${mirror:-http://deb.debian.org/debian}" "Suites: bookworm-backports" "Components: main" "Signed-By: $keyring" |
        as_root tee /etc/apt/sources.list.d/dockyard-backports.sources
}

add_backports() {
    if apt-cache policy | grep -q 'n=bookworm-backports'; then return; fi
    logged "adding bookworm-backports to apt's sources (/etc/apt/sources.list.d/dockyard-backports.sources)" write_backports
    logged "reading the lists of packages again" update_lists
}

install_qemu() { # release
    if [ "$1" = 12 ]; then
        add_backports
        logged "installing QEMU from bookworm-backports" apt_get install --no-install-recommends \
            -t bookworm-backports qemu-system-x86 qemu-utils
    else
        logged "installing QEMU" apt_get install --no-install-recommends qemu-system-x86 qemu-utils
    fi
}

# The tests start their own sshd on loopback as an ordinary process. This machine must not begin to listen because of that.
install_sshd_without_starting_it() {
    local policy=/usr/sbin/policy-rc.d made=
    if [ ! -e $policy ]; then
        made=yes
        trap "as_root rm -f $policy" EXIT
        printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
        as_root chmod 755 $policy
    fi
    local code=0
    apt_get install --no-install-recommends openssh-server || code=$?
    for unit in ssh.service ssh.socket sshd-unix-local.socket; do
        as_root deb-systemd-helper disable $unit || true
        as_root deb-systemd-helper update-state $unit || true
    done
    as_root update-rc.d ssh disable || true
    if [ -n "$made" ]; then
        as_root rm -f $policy
        trap - EXIT
    fi
    return $code
}

# The tests check alerts with it. Its package would start Prometheus here: only this one file is taken out of it.
take_promtool() { # package
    local folder code=0
    folder=$(mktemp -d)
    mkdir -p "$here/.tools"
    (cd "$folder" && apt-get -q download "$1" && dpkg-deb --fsys-tarfile ./*.deb | tar -x --strip-components=3 -C "$here/.tools" ./usr/bin/promtool) || code=$?
    rm -rf -- "$folder"
    return $code
}

install_missing() { # release
    local package others=() qemu= sshd= promtool=
    for package in "${missing[@]}"; do
        case $package in
            qemu-*) qemu=yes ;;
            openssh-server) sshd=yes ;;
            promtool) promtool=yes ;;
            *) others+=("$package") ;;
        esac
    done
    logged "reading the lists of packages" update_lists
    [ ${#others[@]} = 0 ] || logged "installing ${others[*]}" apt_get install --no-install-recommends "${others[@]}"
    [ -z "$sshd" ] || logged "installing openssh-server (for the tests; not started, not enabled)" install_sshd_without_starting_it
    [ -z "$qemu" ] || install_qemu "$1"
    local holder=promtool
    [ "$1" = 13 ] || holder=prometheus
    [ -z "$promtool" ] || logged "taking promtool out of Debian's $holder (for the tests; not installed)" take_promtool $holder
}

hint_at_subuids() {
    local user
    user=$(id -un)
    [ "$(id -u)" != 0 ] || return 0
    if ! grep -q "^$user:" /etc/subuid || ! grep -q "^$user:" /etc/subgid; then
        say "$user has no subordinate ids; without root the image is built with: sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $user"
    fi
}

main() {
    case "${1:-}" in
        "" | --check) ;;
        -h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" && exit 0 ;;
        *) stop 2 "unknown option $1; see --help" ;;
    esac
    find_missing
    if [ ${#missing[@]} = 0 ]; then
        say "everything needed is installed"
        hint_at_subuids
        return
    fi
    say "missing: ${missing[*]}"
    [ "${1:-}" != --check ] || exit 1
    local release
    release=$(debian_release)
    [ -n "$release" ] || stop 2 "this is neither Debian 12 nor Debian 13. Please install yourself what these Debian packages hold:" \
        "  ${missing[*]}" "QEMU must be $least_qemu or newer, Python 3.11 or newer. Then run this again."
    [ "$(id -u)" = 0 ] || command -v sudo >/dev/null || stop 2 "there is no sudo here. Run this once as root: $here/setup.sh"
    : >"$log"
    install_missing "$release"
    find_missing
    [ ${#missing[@]} = 0 ] || stop 1 "still missing after the installation: ${missing[*]}" "the log is in $log"
    say "everything needed is installed"
    hint_at_subuids
}

main "$@"
