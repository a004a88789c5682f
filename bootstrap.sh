#!/usr/bin/env bash
# bootstrap.sh TASK [ARGUMENTS]: from a fresh Debian 12/13 or Ubuntu 22.04/24.04 to `invoke TASK` in one command.
#
# Installs by apt only what is missing (decided by whether the command is there, not by package name), makes
# .venv, installs the project into it and runs the task. Starts no system-wide daemon and enables none: dockerd
# and sshd are only ever started inside a lab. Says one line for each thing it does; a second run does nothing.
set -euo pipefail

ROOT="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)"
readonly ROOT
readonly VENV="$ROOT/.venv"
readonly STAMP="$VENV/.swarmscope-installed"
readonly POLICY=/usr/sbin/policy-rc.d
readonly POLICY_MARK='# put here by swarmscope bootstrap.sh for the time of one installation'
readonly DEBIAN_KEYS=/usr/share/keyrings/debian-archive-keyring.gpg
readonly UNITS=(docker.service docker.socket containerd.service ssh.service ssh.socket)
# sbin is not in every user's PATH, and half of what is looked for lives there
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

say() { printf 'bootstrap: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# --- what is needed -----------------------------------------------------------------------------------------

perf_runs() { perf --version >/dev/null 2>&1; }

busybox_is_static() {
    local path
    path="$(command -v busybox)" || return 1
    ! ldd "$path" >/dev/null 2>&1
}

browser_is_there() { have chromium || have chromium-browser || have google-chrome || have google-chrome-stable; }

python_fits() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1
}

# A lab of machines was asked for, or the tests, which raise one.
machines_wanted() {
    case "$TASK $ARGUMENTS" in
        'test '*) return 0 ;;
        'lab-up '*' --kind machines '* | 'lab-up '*' --kind=machines '*) return 0 ;;
        'lab-up '*' -k machines '* | 'demo '*' -l machines '*) return 0 ;;
        'demo '*' --lab machines '* | 'demo '*' --lab=machines '*) return 0 ;;
        *) return 1 ;;
    esac
}

# What machines run on, and what their image is built with.
missing_for_machines() {
    local command
    for command in qemu-system-x86_64 qemu-img mmdebstrap mke2fs unshare; do
        have "$command" || echo "$command"
    done
    [[ -e $DEBIAN_KEYS ]] || echo debian-keys
    # root needs no user namespace to make a root file system
    ((EUID == 0)) || have newuidmap || echo newuidmap
}

find_python() {
    local candidate
    for candidate in python3 /usr/bin/python3 python3.13 python3.12 python3.11 python3.10; do
        if have "$candidate" && python_fits "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

# The names of everything missing, one a line: the command, or what stands for several.
missing_things() {
    local command
    for command in dockerd docker sshd ssh ssh-keygen ip iptables ping bpftrace trace-cmd sudo timeout setpriv zstd; do
        have "$command" || echo "$command"
    done
    perf_runs || echo perf
    busybox_is_static || echo busybox
    find_python >/dev/null || echo python
    if [[ $TASK == test ]]; then
        browser_is_there || echo browser
        # what our decoders are held against
        for command in babeltrace2 tcpdump; do have "$command" || echo "$command"; done
    fi
    if machines_wanted; then missing_for_machines; fi
}

in_words() {
    case "$1" in
        dockerd) echo 'Docker engine (dockerd)' ;;
        docker) echo 'Docker command line (docker)' ;;
        sshd) echo 'OpenSSH server (sshd; it need not run)' ;;
        ssh | ssh-keygen) echo "OpenSSH client ($1)" ;;
        ip) echo 'iproute2 (ip)' ;;
        perf) echo "perf for kernel $(uname -r)" ;;
        busybox) echo 'a statically linked busybox' ;;
        python) echo 'Python 3.10 or newer with venv and ensurepip' ;;
        browser) echo 'Chromium (only for the tests)' ;;
        qemu-system-x86_64 | qemu-img) echo "QEMU ($1)" ;;
        debian-keys) echo "the keys of Debian's archive ($DEBIAN_KEYS)" ;;
        *) echo "$1" ;;
    esac
}

# --- installing ---------------------------------------------------------------------------------------------

system_name() {
    # shellcheck disable=SC1091
    (. /etc/os-release 2>/dev/null && echo "${ID:-unknown} ${VERSION_ID:-}") || echo unknown
}

package_exists() { apt-cache show --no-all-versions "$1" >/dev/null 2>&1; }

package_is_installed() {
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

packages_for() {
    case "$1" in
        dockerd) echo docker.io ;;
        # a package of its own from Debian 13 on
        docker) if package_exists docker-cli; then echo docker-cli; else echo docker.io; fi ;;
        sshd) echo openssh-server ;;
        ssh | ssh-keygen) echo openssh-client ;;
        ip) echo iproute2 ;;
        ping) echo iputils-ping ;;
        timeout) echo coreutils ;;
        setpriv | unshare) echo util-linux ;;
        busybox) echo busybox-static ;;
        python) echo python3 python3-venv ;;
        perf)
            if [[ $SYSTEM == debian* ]]; then
                echo linux-perf
            elif package_exists "linux-tools-$(uname -r)"; then
                echo "linux-tools-$(uname -r)"
            else
                echo linux-tools-generic
            fi
            ;;
        qemu-system-x86_64) echo qemu-system-x86 ;;
        qemu-img) echo qemu-utils ;;
        mke2fs) echo e2fsprogs ;;
        debian-keys) echo debian-archive-keyring ;;
        newuidmap) echo uidmap ;;
        # without any font the page would be drawn without letters
        browser) echo chromium fonts-dejavu-core ;;
        *) echo "$1" ;;
    esac
}

find_sudo() {
    SUDO=()
    if ((EUID != 0)); then
        if have sudo && { sudo -n true 2>/dev/null || { [[ -t 0 ]] && sudo -v; }; }; then
            SUDO=(sudo)
        else
            fail "these are missing, and neither root nor sudo is at hand to install them: $*"
        fi
    fi
}

LOG=''
POLICY_IS_OURS=''
UNITS_BEFORE=''

clean_up() {
    # also after a failure or Ctrl-C half way: a next run would take what is there by then for its owner's
    if [[ -n $UNITS_BEFORE ]]; then disable_new_units "$UNITS_BEFORE"; fi
    UNITS_BEFORE=''
    if [[ -n $POLICY_IS_OURS ]]; then "${SUDO[@]}" rm -f "$POLICY"; fi
    POLICY_IS_OURS=''
    if [[ -n $LOG ]]; then rm -f "$LOG"; fi
    LOG=''
}

# Runs a command with its output kept back; shows the end of it only when it fails.
quietly() {
    if ! "$@" >"$LOG" 2>&1 </dev/null; then
        tail -n 25 "$LOG" >&2
        fail "failed: $*"
    fi
}

apt() {
    quietly "${SUDO[@]}" env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
        apt-get -y -q -o DPkg::Lock::Timeout=120 "$@"
}

# Package scripts start their daemons unless policy-rc.d says no.
forbid_starting() {
    if [[ ! -e $POLICY ]] || grep -qF "$POLICY_MARK" "$POLICY"; then
        POLICY_IS_OURS=yes
        printf '#!/bin/sh\n%s\nexit 101\n' "$POLICY_MARK" | "${SUDO[@]}" tee "$POLICY" >/dev/null
        "${SUDO[@]}" chmod 755 "$POLICY"
    fi
}

# Only units that came with this installation; what was there before stays as its owner had it.
disable_new_units() {
    local unit new=() now=() failed=''
    for unit in "${UNITS[@]}"; do
        if [[ " $1 " != *" $unit "* ]] && [[ -e /lib/systemd/system/$unit ]]; then new+=("$unit"); fi
    done
    ((${#new[@]})) || return 0
    if have systemctl; then
        if [[ -d /run/systemd/system ]]; then now=(--now); fi
        "${SUDO[@]}" systemctl disable "${now[@]}" "${new[@]}" >"$LOG" 2>&1 || failed=yes
    else
        # package scripts make the links of systemd and of SysV init also where neither is there; their tool
        # for taking them back wants to know the package
        for unit in "${new[@]}"; do
            "${SUDO[@]}" env DPKG_MAINTSCRIPT_PACKAGE="${unit%.*}" deb-systemd-helper disable "$unit" \
                >"$LOG" 2>&1 || failed=yes
            if [[ -e /etc/init.d/${unit%.service} ]]; then
                "${SUDO[@]}" update-rc.d "${unit%.service}" disable >"$LOG" 2>&1 || failed=yes
            fi
        done
    fi
    if [[ -n $failed ]]; then
        tail -n 5 "$LOG" >&2
        say "could not switch off all of these, do it yourself: ${new[*]}"
    else
        say "left switched off: ${new[*]}"
    fi
}

units_there() {
    local unit
    for unit in "${UNITS[@]}"; do if [[ -e /lib/systemd/system/$unit ]]; then printf '%s ' "$unit"; fi; done
}

install_missing() {
    local thing package things=() packages=() words=''
    mapfile -t things < <(missing_things)
    ((${#things[@]})) || return 0
    for thing in "${things[@]}"; do words+="${words:+, }$(in_words "$thing")"; done
    case "$SYSTEM" in
        'debian 12' | 'debian 13' | 'ubuntu 22.04' | 'ubuntu 24.04') ;;
        *) fail "this is $SYSTEM; packages are installed on Debian 12/13 and Ubuntu 22.04/24.04 only." \
            "Install these yourself, then run this again: $words" ;;
    esac
    if [[ $SYSTEM == ubuntu* && " ${things[*]} " == *' browser '* ]]; then
        say 'Chromium is a snap on Ubuntu and is not installed from here: tests in a browser are skipped'
        mapfile -t things < <(printf '%s\n' "${things[@]}" | grep -vx browser)
    fi
    # what is installed and still not usable (perf of another kernel) no installation will mend
    if [[ " ${things[*]} " == *' perf '* ]] && have perf && package_is_installed "$(packages_for perf)"; then
        say "perf is installed but does not run on kernel $(uname -r): collectors that need it are left out"
        mapfile -t things < <(printf '%s\n' "${things[@]}" | grep -vx perf)
    fi
    [[ -n ${things[*]-} ]] || return 0
    find_sudo "$words"
    LOG="$(mktemp)"
    trap clean_up EXIT
    trap 'exit 130' INT TERM HUP
    say 'apt-get update'
    apt update
    for thing in "${things[@]}"; do
        if [[ -n $thing ]]; then for package in $(packages_for "$thing"); do packages+=("$package"); done; fi
    done
    mapfile -t packages < <(printf '%s\n' "${packages[@]}" | sort -u)
    say "apt-get install ${packages[*]}"
    UNITS_BEFORE=" $(units_there)"
    forbid_starting
    apt install --no-install-recommends "${packages[@]}"
    clean_up
    trap - EXIT INT TERM HUP
}

# --- the project --------------------------------------------------------------------------------------------

# What the environment must have been made from: `dev` (for the tests) has everything that `base` has.
wanted_stamp() { printf '%s %s' "$1" "$(sha256sum <"$ROOT/pyproject.toml" | cut -d' ' -f1)"; }

install_project() {
    local kind=base target=. stamp='' python
    if [[ $TASK == test ]]; then kind=dev target='.[dev]'; fi
    if [[ -x $VENV/bin/python && -f $STAMP ]] && "$VENV/bin/python" -c 'import invoke' 2>/dev/null; then
        stamp="$(<"$STAMP")"
    fi
    if [[ $stamp == "$(wanted_stamp "$kind")" || $stamp == "$(wanted_stamp dev)" ]]; then return; fi
    # once for the tests, always for the tests: an update must not leave them with old tools
    if [[ -f $STAMP && $(<"$STAMP") == dev* ]]; then kind=dev target='.[dev]'; fi
    rm -f "$STAMP"
    LOG="$(mktemp)"
    trap clean_up EXIT
    trap 'exit 130' INT TERM HUP
    if ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
        python="$(find_python)" || fail 'no Python 3.10 or newer with venv and ensurepip is here'
        say "making .venv with $python"
        rm -rf "$VENV"
        quietly "$python" -m venv "$VENV"
    fi
    say "installing the project into .venv ($kind)"
    quietly "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-input -e "$target"
    say 'compiling the decoders (once)'
    quietly "$VENV/bin/python" -m swarmscope.trace.compiling
    wanted_stamp "$kind" >"$STAMP"
    clean_up
    trap - EXIT INT TERM HUP
}

if (($# == 0)) || [[ $1 == -* ]]; then
    say 'usage: ./bootstrap.sh TASK [ARGUMENTS]   for example: ./bootstrap.sh demo'
    exit 2
fi
readonly TASK="$1"
# with a blank around each, to be looked through word by word
ARGUMENTS=" ${*:2} "
readonly ARGUMENTS
SYSTEM="$(system_name)"
readonly SYSTEM

cd -- "$ROOT"
# two at once (a demo beside the tests) take turns here; the lock is on the folder itself and leaves no file
exec 9<"$ROOT"
if have flock; then flock 9; fi
install_missing
install_project
exec 9<&-
exec "$VENV/bin/python" -m invoke "$@"
