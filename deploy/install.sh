#!/bin/sh
# Puts jarvis-secretsd on a Debian host with systemd, brings it up to date, or takes it away. See docs/systemd.md.
set -eu

HOME_DIR=/opt/jarvis-secretsd          # the program: releases/NAME and current -> releases/NAME
CONFIG_DIR=/etc/jarvis-secretsd
STATE_DIR=/opt/jarvis
UNIT_DIR=/usr/local/lib/systemd/system # not /etc: what an administrator writes there stays on top
DROP_INS=/etc/systemd/system
CREDENTIALS=/etc/credstore.encrypted
SHARE_DIR=/usr/local/share             # where links to man pages and completion go
OWNER=jarvis-secretsd
SERVICE=jarvis-secretsd.service
SOCKETS="jarvis-secretsd.socket jarvis-secretsd-http.socket"
here=$(cd "$(dirname "$0")" && pwd)

usage() {
    cat <<'TEXT'
Usage: install.sh [install] [OPTIONS] [-- OPTIONS OF secretsctl init]
       install.sh remove [--purge] [--dry-run]

install  The program in a virtual environment under /opt/jarvis-secretsd, its own user, units, sockets, logrotate and
         AppArmor; a first configuration, vault and admin token where there is none; then it is started. Run again it
         is an upgrade: the new release is made beside the old one, and where it doesn't come up the old one goes on.
         Settings and state that exist are never overwritten.
remove   Stops it and takes the program and its units away. Settings, vault, keys, log and user stay, unless --purge.

  --wheels DIR            install from the wheels in DIR, without the network; made with
                          pip wheel --wheel-dir DIR ./bus ./clients/python .
                          Where ours aren't among them, they are built from the checkout.
  --python PROGRAM        the Python to use, 3.11 or newer (default: python3)
  --passphrase-file FILE  at the first install: wrap the master key under the passphrase in FILE (mode 0600), and keep
                          the passphrase as a credential that only this machine can open
  --no-start              put everything in place, start nothing
  --purge                 with remove: delete settings, vault, keys, audit log and user too; there is no way back
  -n, --dry-run           say what would be done, do nothing
  -h, --help              this text

Nothing is fetched but Python packages (from PyPI, or your mirror: PIP_INDEX_URL) and, where it is missing, Debian's
python3-venv.
TEXT
}

say() { printf '%s\n' "install.sh: $*"; }
fail() { printf '%s\n' "install.sh: $*" >&2; exit 1; }
step() { [ -z "$dry" ] || { printf 'would %s\n' "$*"; return 1; }; }
have() { command -v "$1" >/dev/null 2>&1; }
booted() { [ -d /run/systemd/system ]; }

action=install wheels='' python=python3 passphrase='' start=1 purge='' dry=''

parse() {
    while [ $# -gt 0 ]; do
        case $1 in
        install | remove) action=$1 ;;
        --wheels) wheels=$(folder "${2:?--wheels needs a folder}") ; shift ;;
        --python) python=${2:?--python needs a program} ; shift ;;
        --passphrase-file) passphrase=${2:?--passphrase-file needs a file} ; shift ;;
        --no-start) start='' ;;
        --purge) purge=1 ;;
        -n | --dry-run) dry=1 ;;
        -h | --help) usage; exit 0 ;;
        --) return ;;
        *) printf '%s\n' "install.sh: don't know '$1'; --help lists what there is" >&2; exit 2 ;;
        esac
        shift
    done
}

folder() { (cd "$1" 2>/dev/null && pwd) || fail "$1 is no folder"; }

# --- install

check_host() {
    [ "$(id -u)" -eq 0 ] || fail "has to run as root: sudo $0"
    have systemctl && have systemd-sysusers && have systemd-tmpfiles ||
        fail "this host has no systemd; docs/systemd.md is for those that have, deploy/Dockerfile for the others"
    [ -e /proc/self ] || fail "/proc isn't mounted here: mount -t proc proc /proc"
    [ -z "$passphrase" ] || [ -r "$passphrase" ] || fail "$passphrase can't be read"
    [ -z "$passphrase" ] || ! first_time || have systemd-creds ||
        fail "--passphrase-file needs systemd-creds (systemd 250 or newer)"
    [ -f "$here/../pyproject.toml" ] || ls "${wheels:-.}"/jarvis_secretsd-*.whl >/dev/null 2>&1 ||
        fail "run it from the checkout, or give --wheels DIR with the wheels of jarvis-secretsd"
}

first_time() { [ ! -e "$CONFIG_DIR/config.toml" ] && [ ! -e "$CONFIG_DIR/policy.yaml" ]; }

prepare_python() {
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        [ "$python" = python3 ] && have apt-get || fail "$python has no venv module: install it, or give --python"
        step "install Debian's python3 and python3-venv" || return 0
        say "installing Debian's python3-venv"
        apt-get update -qq </dev/null
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3 python3-venv </dev/null >/dev/null
    fi
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "$("$python" --version) is too old: 3.11 or newer is needed, give --python"
}

make_release() {
    release=$HOME_DIR/releases/$(date -u +%Y%m%dT%H%M%SZ)-$$
    step "make a virtual environment in $HOME_DIR/releases and install the program${wheels:+ from $wheels}" || return 0
    say "making $release"
    umask 022
    mkdir -p "$HOME_DIR/releases"
    trap 'rm -rf "$release"' EXIT
    "$python" -m venv "$release"
    if [ -n "$wheels" ] && ls "$wheels"/jarvis_secretsd-*.whl >/dev/null 2>&1; then
        pip install --no-index --find-links "$wheels" jarvis-secretsd
    else
        pip install ${wheels:+--no-index --find-links "$wheels"} "$here/../bus" "$here/../clients/python" "$here/.."
    fi
    mkdir -p "$release/libexec" "$release/share"
    install -m 0755 "$here/systemd/refresh-credentials" "$here/systemd/follow-config" "$release/libexec/"
    cp -R "$here" "$release/share/deploy"
    if [ -d "$here/../docs" ]; then cp -R "$here/../docs" "$release/share/docs"; fi
    if [ -d "$here/../docs/man" ]; then
        for section in 1 8; do
            install -D -m 0644 -t "$release/share/man/man$section" "$here"/../docs/man/*.$section
        done
    fi
    "$release/bin/jarvis-secretsd" --version >/dev/null || fail "the new release doesn't run; nothing else was changed"
    for shell in bash zsh fish; do
        completion=$release/share/$(completion_of $shell)
        mkdir -p "$(dirname "$completion")"
        "$release/bin/secretsctl" completion $shell >"$completion"
    done
}

# Where each shell looks for it, below /usr/local/share.
completion_of() {
    case $1 in
    bash) echo bash-completion/completions/secretsctl ;;
    zsh) echo zsh/site-functions/_secretsctl ;;
    fish) echo fish/vendor_completions.d/secretsctl.fish ;;
    esac
}

# Man pages and completion are links to the release in force, made anew with each one.
link_for_people() {
    unlink_for_people
    for link in $(cd "$HOME_DIR/current/share" && find man bash-completion zsh fish -type f 2>/dev/null); do
        mkdir -p "$(dirname "$SHARE_DIR/$link")"
        ln -sfn "$HOME_DIR/current/share/$link" "$SHARE_DIR/$link"
    done
}

unlink_for_people() {
    for folder in man/man1 man/man8 bash-completion/completions zsh/site-functions fish/vendor_completions.d; do
        [ -d "$SHARE_DIR/$folder" ] || continue
        find "$SHARE_DIR/$folder" -maxdepth 1 -lname "$HOME_DIR/current/share/*" -delete
        rmdir "$SHARE_DIR/$folder" 2>/dev/null || continue
        [ "${folder%/*}" = man ] || rmdir "$SHARE_DIR/${folder%/*}" 2>/dev/null || true
    done
}

pip() { "$release/bin/python" -m pip --disable-pip-version-check --quiet "$@" </dev/null; }

# A file that an administrator may have changed is replaced only while it is as an earlier release shipped it.
put_settings_file() {
    source=$here/$1 target=$2
    if [ -e "$target" ] && ! cmp -s "$source" "$target" &&
        ! cmp -s "$HOME_DIR/current/share/deploy/$1" "$target" 2>/dev/null; then
        say "$target was changed here and is left as it is; the new one is $HOME_DIR/current/share/deploy/$1"
    elif step "write $target"; then
        install -D -m 0644 "$source" "$target"
    fi
}

put_units() { install -D -m 0644 -t "$UNIT_DIR" "$1"/*.service "$1"/*.socket; }

put_system_files() {
    if step "write units to $UNIT_DIR, sysusers and tmpfiles to /usr/local/lib"; then
        put_units "$here/systemd"
        install -D -m 0644 "$here/systemd/jarvis-secretsd.sysusers" /usr/local/lib/sysusers.d/jarvis-secretsd.conf
        install -D -m 0644 "$here/systemd/jarvis-secretsd.tmpfiles" /usr/local/lib/tmpfiles.d/jarvis-secretsd.conf
        systemd-sysusers /usr/local/lib/sysusers.d/jarvis-secretsd.conf
        systemd-tmpfiles --create /usr/local/lib/tmpfiles.d/jarvis-secretsd.conf
    fi
    put_settings_file logrotate/jarvis-secretsd /etc/logrotate.d/jarvis-secretsd
    other=$(grep -ls "$STATE_DIR/audit/audit.jsonl" /etc/logrotate.d/* 2>/dev/null | grep -v '/jarvis-secretsd$' || true)
    [ -z "$other" ] || say "$other rotates the audit log too, and logrotate refuses two entries for a file: remove it"
    if have apparmor_parser; then
        put_settings_file apparmor/jarvis-secretsd /etc/apparmor.d/jarvis-secretsd
        if [ -z "$dry" ] && [ -e /sys/kernel/security/apparmor/profiles ]; then
            apparmor_parser --replace /etc/apparmor.d/jarvis-secretsd || say "AppArmor didn't take the profile (above)"
        fi
    fi
}

make_settings() {
    first_time || return 0
    step "make a first configuration, policy, vault and admin token (secretsctl init)" || return 0
    umask 077
    "$release/bin/secretsctl" init --config-dir "$CONFIG_DIR" --state-dir "$STATE_DIR" --unix-socket \
        --token-dir "$CONFIG_DIR/tokens" ${passphrase:+--passphrase-file "$passphrase"} "$@" >/dev/null
    if [ -n "$passphrase" ]; then
        mkdir -p -m 0700 "$CREDENTIALS"
        systemd-creds encrypt --name=secretsd-passphrase "$passphrase" "$CREDENTIALS/secretsd-passphrase" 2>/dev/null ||
            fail "the passphrase couldn't be made a credential; \`systemd-creds setup\` may say why. Then: " \
                "systemd-creds encrypt --name=secretsd-passphrase $passphrase $CREDENTIALS/secretsd-passphrase"
    fi
    umask 022
    made_settings=1
}

# The state of an earlier installation may belong to another user. Only plain files with one name are given away: a
# link that somebody put there must not hand over what lies elsewhere.
own_state() {
    [ -z "$dry" ] || { printf 'would give the files of the state to %s\n' "$OWNER"; return 0; }
    state_folders "$release" | while read -r one; do
        [ -d "$one" ] || continue
        chown -h "$OWNER:$OWNER" "$one"
        find "$one" -xdev -maxdepth 1 -type f -links 1 ! -user "$OWNER" -exec chown -h "$OWNER:$OWNER" {} +
    done
}

state_folders() {
    "$1/bin/python" -I "$1/libexec/follow-config" --config "$CONFIG_DIR/config.toml" --show-folders 2>/dev/null ||
        printf '%s\n' "$STATE_DIR/secrets" "$STATE_DIR/audit"
}

# config.toml says which sockets there are; a mistake in it is told, and stops us before anything running is touched.
follow_config() {
    [ -z "$dry" ] || { printf 'would fit the units to %s/config.toml\n' "$CONFIG_DIR"; return 0; }
    followed=$("$release/bin/python" -I "$release/libexec/follow-config" --config "$CONFIG_DIR/config.toml" \
        --units "$DROP_INS") || fail "correct the configuration and run this again; what runs was left alone"
    wanted=$(printf '%s\n' "$followed" | sed -n 's/^enable //p')
}

switch_to() {
    ln -sfn "$1" "$HOME_DIR/current.new"
    mv -T "$HOME_DIR/current.new" "$HOME_DIR/current"
}

go_live() {
    if [ -n "$dry" ]; then
        printf 'would make it the current release, link secretsctl, its man pages and completion into /usr/local%s\n' "${start:+, and start it}"
        return 0
    fi
    previous=$(readlink "$HOME_DIR/current" 2>/dev/null || true)
    switch_to "$release"
    trap - EXIT
    ln -sfn "$HOME_DIR/current/bin/secretsctl" /usr/local/bin/secretsctl
    link_for_people
    # shellcheck disable=SC2086 — a list of units
    systemctl --quiet enable $SERVICE $wanted
    for socket in $SOCKETS; do
        case " $(echo $wanted) " in *" $socket "*) ;; *) systemctl --quiet disable --now "$socket" 2>/dev/null || true ;; esac
    done
    if ! booted; then
        say "systemd doesn't run here: everything is in place, and starts with the next boot"
        return 0
    fi
    systemctl daemon-reload
    [ -n "$start" ] || { say "in place, not started: systemctl start jarvis-secretsd"; return 0; }
    if systemctl restart $SERVICE; then
        # shellcheck disable=SC2086
        systemctl start $wanted
    else
        roll_back
    fi
}

roll_back() {
    journalctl --no-pager -o cat -n 20 -u $SERVICE >&2 2>/dev/null || true
    if [ -n "$previous" ] && [ -d "$previous" ]; then
        say "the new release doesn't come up (above): back to $previous" >&2
        switch_to "$previous"
        link_for_people
        put_units "$previous/share/deploy/systemd"
        systemctl daemon-reload
        rm -rf "$release"
        systemctl reset-failed $SERVICE 2>/dev/null || true
        systemctl restart $SERVICE || fail "the old one doesn't either: journalctl -u jarvis-secretsd"
        fail "the old release serves again; the new one is taken away"
    fi
    fail "it doesn't come up: the reason is above, and in journalctl -u jarvis-secretsd"
}

# The release before stays, for a way back by hand.
forget_old_releases() {
    [ -z "$dry" ] || return 0
    for one in "$HOME_DIR"/releases/*; do
        case $one in "$release" | "$previous") ;; *) rm -rf "$one" ;; esac
    done
}

report() {
    [ -z "$dry" ] || return 0
    say "$("$release/bin/jarvis-secretsd" --version) is in place"
    [ -n "$made_settings" ] || return 0
    cat <<TEXT
Next:
  export JARVIS_CLIENT_ID=admin JARVIS_CLIENT_TOKEN_FILE=$CONFIG_DIR/tokens/admin.token
  printf 'a value' | secretsctl put first_secret
  secretsctl doctor
Services that use the Unix socket need the group jarvis-secrets: usermod -aG jarvis-secrets SERVICE_USER
TEXT
}

# --- remove

remove() {
    [ "$(id -u)" -eq 0 ] || fail "has to run as root: sudo $0 remove"
    folders=$(state_folders "$HOME_DIR/current")
    if step "stop and disable $SERVICE and its sockets"; then
        # shellcheck disable=SC2086
        systemctl --quiet disable $SERVICE $SOCKETS 2>/dev/null || true
        # shellcheck disable=SC2086
        ! booted || systemctl stop $SERVICE $SOCKETS 2>/dev/null || true
    fi
    if have apparmor_parser && [ -z "$dry" ] && [ -e /sys/kernel/security/apparmor/profiles ]; then
        apparmor_parser --remove /etc/apparmor.d/jarvis-secretsd 2>/dev/null || true
    fi
    for path in "$UNIT_DIR/$SERVICE" "$UNIT_DIR/jarvis-secretsd.socket" "$UNIT_DIR/jarvis-secretsd-http.socket" \
        "$DROP_INS/$SERVICE.d/50-config.conf" "$DROP_INS/jarvis-secretsd.socket.d/50-config.conf" \
        "$DROP_INS/jarvis-secretsd-http.socket.d/50-config.conf" \
        /usr/local/lib/sysusers.d/jarvis-secretsd.conf /usr/local/lib/tmpfiles.d/jarvis-secretsd.conf \
        /etc/logrotate.d/jarvis-secretsd /etc/apparmor.d/jarvis-secretsd "$HOME_DIR"; do
        if [ -e "$path" ] && step "delete $path"; then rm -rf "$path"; fi
    done
    if [ "$(readlink /usr/local/bin/secretsctl 2>/dev/null)" = "$HOME_DIR/current/bin/secretsctl" ] &&
        step "delete /usr/local/bin/secretsctl"; then
        rm -f /usr/local/bin/secretsctl
    fi
    if step "delete the links to man pages and completion below $SHARE_DIR"; then unlink_for_people; fi
    [ -n "$dry" ] || ! booted || systemctl daemon-reload
    if [ -n "$purge" ]; then
        purge_state
    elif [ -z "$dry" ]; then
        say "removed. Kept: $CONFIG_DIR, the user $OWNER, and the state in" $folders
        say "to delete those too: $0 remove --purge"
    fi
}

# Only what is known to be ours; a folder with anything else in it stays.
purge_state() {
    for one in $folders; do
        [ -d "$one" ] || continue
        step "delete keys, vault and log in $one" || continue
        find "$one" -xdev -maxdepth 1 -type f \( -name 'vault.json*' -o -name 'master.key*' -o -name 'audit.*' \
            -o -name '.secretsd.reserve*' \) -delete
        # What restores moved aside, and what one that was interrupted left, is the old state and as secret.
        find "$one" -xdev -mindepth 1 -maxdepth 1 -type d \( -name 'before-restore-[0-9]*' -o -name .restore \
            -o -name .pruning \) -exec rm -rf {} +
        rmdir "$one" 2>/dev/null || say "$one holds something else and stays"
    done
    if step "delete $CONFIG_DIR, the credentials in $CREDENTIALS, the user $OWNER and the group jarvis-secrets"; then
        rmdir "$STATE_DIR" 2>/dev/null || true
        rm -rf "$CONFIG_DIR"
        rm -f "$CREDENTIALS"/secretsd-*
        rmdir "$CREDENTIALS" 2>/dev/null || true
        userdel "$OWNER" 2>/dev/null || true
        groupdel jarvis-secrets 2>/dev/null || true
        say "purged: settings, keys, vault and log are gone"
    fi
}

# --- main

parse "$@"
if [ $# -gt 0 ]; then
    # What follows `--` is for secretsctl init.
    while [ $# -gt 0 ] && [ "$1" != -- ]; do shift; done
    [ $# -eq 0 ] || shift
fi
previous='' wanted='' made_settings=''
case $action in
install)
    [ -z "$purge" ] || fail "--purge goes with remove"
    check_host
    prepare_python
    make_release
    put_system_files
    make_settings "$@"
    own_state
    follow_config
    go_live
    forget_old_releases
    report
    ;;
remove) remove ;;
esac
