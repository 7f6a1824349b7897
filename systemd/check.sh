#!/bin/sh
# Checks the unit and its account without a running systemd: `systemd-analyze verify` has nothing to say, and the exposure level of
# `systemd-analyze security` is at most 1.5. Usage: systemd/check.sh [UNIT]
set -eu

here=$(dirname "$(realpath "$0")")
unit=$(realpath "${1:-$here/rodpod.service}")
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

# `verify` wants the programs to exist, so it sees a copy of the unit that names a stand-in.
sed "s|/usr/bin/rodpod|/bin/true|" "$unit" > "$root/rodpod.service"
complaints=$(SYSTEMD_LOG_LEVEL=warning systemd-analyze verify --man=no "$root/rodpod.service" 2>&1) || {
  printf '%s\n' "$complaints" >&2
  exit 1
}
if [ -n "$complaints" ]; then
  printf '%s\n' "$complaints" >&2
  exit 1
fi

systemd-sysusers --dry-run "$here/rodpod.sysusers" > /dev/null

# The threshold is in tenths.
systemd-analyze security --no-pager --offline=true --threshold=15 "$root/rodpod.service"
