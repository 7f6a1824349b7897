#!/bin/bash
# Runs a package's service under a real systemd, in a Debian 12 of its own that systemd-nspawn boots: start, reload, a kill, upgrade, a
# wrong configuration, removal. Usage: debian/check-service.sh PACKAGE.deb BROKER, BROKER being noida-db's binary. Needs mmdebstrap and
# systemd-container, and root.
set -euo pipefail

package=$(realpath "$1")
broker=$(realpath "$2")
work=$(mktemp -d)
root=$work/root
port=29977
cleanup() {
  [ -z "${container:-}" ] || { kill "$container"; wait "$container"; } 2> /dev/null || true
  [ -z "${kafka:-}" ] || kill "$kafka" 2> /dev/null || true
  rm -rf --one-file-system "$work"
}
trap cleanup EXIT

fail() { echo "FAILED: $1" >&2; inside journalctl --unit rodpod --no-pager --output cat | tail -20 >&2 || true; exit 1; }
# Within the container, whose first process is the one that systemd-nspawn has made.
inside() { nsenter --target "$init" --mount --pid --uts --ipc env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 "$@"; }
# Waits until the words are true.
until_true() {
  local what=$1 deadline=$((SECONDS + 60))
  shift
  until "$@" > /dev/null 2>&1; do
    [ $SECONDS -lt $deadline ] || fail "$what"
    sleep 0.2
  done
  echo "ok: $what"
}
state_is() { [ "$(inside systemctl is-active rodpod)" = "$1" ]; }
main_pid() { inside systemctl show rodpod --property MainPID --value; }
logged() { inside journalctl --unit rodpod --no-pager --output cat | grep -qF "$1"; }
runs_anew() { state_is active && [ "$(main_pid)" != "$1" ]; }

"$broker" start --only kafka --kafka-port $port --data-dir "$work/kafka" > "$work/kafka.log" 2>&1 &
kafka=$!
mmdebstrap --quiet --variant=minbase --include=systemd,systemd-sysv,dbus bookworm "$root"
cp "$package" "$root/srv/rodpod.deb"
dpkg-deb -R "$package" "$work/next"
sed -i 's/^Version: .*/&+next/' "$work/next/DEBIAN/control"
dpkg-deb -Znone --root-owner-group -b "$work/next" "$root/srv/next.deb" > /dev/null

# The network is the machine's own, where the broker is.
systemd-nspawn --quiet --directory "$root" --register=no --keep-unit --boot > "$work/boot.log" 2>&1 < /dev/null &
container=$!
booted() { init=$(pgrep --parent "$container") && [ -n "$(inside systemctl is-system-running | grep -E 'running|degraded')" ]; }
until_true "systemd has booted" booted

inside apt-get update -q > /dev/null
inside apt-get install -y -q --no-install-recommends /srv/rodpod.deb > "$work/apt.log" 2>&1 || fail "installation"
state_is inactive || fail "an installation starts nothing"
echo "ok: an installation starts nothing"
sed -i "s/^  bootstrap_servers: .*/  bootstrap_servers: 127.0.0.1:$port/" "$root/etc/rodpod/rodpod.yaml"
sed -i 's/^  cpu_priority: low/  cpu_priority: idle/' "$root/etc/rodpod/rodpod.yaml"
inside systemctl enable --now rodpod 2> /dev/null || fail "it starts"
until_true "it is ready" logged "rodpod is ready"
# The policy is the 41st field of proc_pid_stat(5), 5 being SCHED_IDLE; the unit's filter of system calls has to let the learner take it.
learner_is_idle() {
  inside sh -c "for task in /proc/$(main_pid)/task/*; do read -r name < \$task/comm; [ \$name != learner ] || cut -d' ' -f41 \$task/stat; done" | grep -qx 5
}
until_true "the learner takes what is left of the cores, as told" learner_is_idle

sed -i 's/^  level: info/  level: debug/' "$root/etc/rodpod/rodpod.yaml"
inside systemctl reload rodpod || fail "it reloads"
until_true "a reload takes the new configuration" logged "log.level: info -> debug"

before=$(main_pid)
inside kill -9 "$before"
until_true "it is started again after a kill" runs_anew "$before"

before=$(main_pid)
inside apt-get install -y -q /srv/next.deb > "$work/apt.log" 2>&1 || fail "upgrade"
until_true "an upgrade starts it again" runs_anew "$before"

echo "  nonsense: 1" >> "$root/etc/rodpod/rodpod.yaml"
inside systemctl restart rodpod 2> /dev/null && fail "a wrong configuration is refused"
until_true "a wrong configuration says what is wrong" logged "nonsense: unknown key"
[ "$(inside systemctl show rodpod --property ExecMainStatus --value)" = 78 ] || fail "it exits with 78"
# The pause before a restart is 5 s.
sleep 7
state_is failed || fail "it stays down with a wrong configuration"
echo "ok: it stays down with a wrong configuration"
sed -i '$d' "$root/etc/rodpod/rodpod.yaml"

inside systemctl restart rodpod || fail "it starts with the mended configuration"
inside apt-get remove -y -q rodpod > "$work/apt.log" 2>&1 || fail "removal"
is_gone() { [ "$(inside pgrep --full --count '^/usr/bin/rodpod run')" = 0 ]; }
until_true "a removal stops it" is_gone
