#!/bin/bash
# Checks a package as an operator meets it: lintian, then installation, the program, upgrade, removal and purge in a new Debian 12 of its
# own. Usage: debian/check.sh PACKAGE.deb. Needs lintian, mandoc, mmdebstrap and systemd, and root for the chroot.
set -euo pipefail

package=$(realpath "$1")
version=$(dpkg-deb -f "$package" Version)
here=$(realpath "$(dirname "$0")/..")
work=$(mktemp -d)
root=$work/root
trap '! mountpoint -q "$root/proc" || umount "$root/proc"; rm -rf --one-file-system "$work"' EXIT

fail() { echo "FAILED: $1" >&2; exit 1; }
check() { local what=$1; shift; "$@" > "$work/out" 2>&1 || { cat "$work/out" >&2; fail "$what"; }; echo "ok: $what"; }
# What the chroot prints stays out of the way unless it fails.
in_root() { chroot "$root" env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 "$@"; }
missing() { for path in "$@"; do [ ! -e "$root$path" ] || { echo "$path is there"; return 1; }; done; }
present() { for path in "$@"; do [ -e "$root$path" ] || { echo "$path is missing"; return 1; }; done; }

check "lintian finds no error" lintian --fail-on error --suppress-tags bad-distribution-in-changes-file "$package"

mmdebstrap --quiet --variant=minbase --include=init-system-helpers bookworm "$root"
# Swift's runtime reads there where the stack ends.
mount -t proc proc "$root/proc"
cp "$package" "$root/tmp/rodpod.deb"
check "it installs, with Debian's libraries" in_root sh -c 'apt-get update -q && apt-get install -y -q --no-install-recommends /tmp/rodpod.deb man-db'
check "no library is missing" sh -c "! chroot '$root' ldd /usr/bin/rodpod | grep 'not found'"
check "no library of Swift is looked for" sh -c "! chroot '$root' ldd /usr/bin/rodpod | grep -i swift"
check "its program is of the package's version" [ "$(in_root rodpod --version)" = "$version" ]
check "the account is there" in_root id rodpod
check "its configuration is valid for the account" in_root setpriv --reuid rodpod --regid rodpod --clear-groups rodpod check-config --config /etc/rodpod/rodpod.yaml
check "the configuration is a conffile" sh -c "chroot '$root' dpkg-query -W -f '\${Conffiles}' rodpod | grep -q /etc/rodpod/rodpod.yaml"
check "the service is not started before it is configured" missing /etc/systemd/system/multi-user.target.wants/rodpod.service
check "completions, schemas, dashboard and rules are there" present /usr/share/bash-completion/completions/rodpod \
  /usr/share/zsh/vendor-completions/_rodpod /usr/share/fish/vendor_completions.d/rodpod.fish /usr/share/rodpod/asyncapi.yaml \
  /usr/share/rodpod/schemas/interaction.schema.json /usr/share/rodpod/grafana/rodpod.json /usr/share/rodpod/prometheus/rodpod.rules.yaml
for page in "$root"/usr/share/man/man1/rodpod*.1.gz "$root"/usr/share/man/man5/rodpod.yaml.5.gz; do
  zcat "$page" | mandoc -T lint -W error > "$work/out" || { cat "$work/out"; fail "the manual page ${page##*/}"; }
done
echo "ok: the manual pages"
for verb in $(in_root rodpod --help | sed -n '/^SUBCOMMANDS:/,/^$/s/^  \([a-z][a-z-]*\) .*/\1/p'); do
  [ -e "$root/usr/share/man/man1/rodpod.$verb.1.gz" ] || fail "no manual page of rodpod $verb"
done
echo "ok: every verb has its page"
check "the unit" "$here/systemd/check.sh" "$root/lib/systemd/system/rodpod.service"

# The demonstration runs on what the package has alone: Debian's libraries, in a Debian without Swift.
cp -r "$here/Tests/Fixtures/movielens-small" "$root/tmp/data"
check "the program learns" in_root rodpod demo --data /tmp/data --seconds 10

# An upgrade, over a configuration that was changed.
dpkg-deb -R "$package" "$work/next"
sed -i "s/^Version: .*/Version: $version+next/" "$work/next/DEBIAN/control"
check "a next version" dpkg-deb -Znone --root-owner-group -b "$work/next" "$root/tmp/next.deb"
sed -i 's/^  client_id: rodpod$/  client_id: changed/' "$root/etc/rodpod/rodpod.yaml"
install -d -m 700 "$root/var/lib/rodpod"
touch "$root/var/lib/rodpod/data.mdb"
check "it upgrades" in_root apt-get install -y -q /tmp/next.deb
check "the upgrade keeps the configuration" grep -q "client_id: changed" "$root/etc/rodpod/rodpod.yaml"
check "and the state" present /var/lib/rodpod/data.mdb
check "it is removed" in_root apt-get remove -y -q rodpod
check "removal keeps configuration and state" present /etc/rodpod/rodpod.yaml /var/lib/rodpod/data.mdb
check "removal takes the program" missing /usr/bin/rodpod /lib/systemd/system/rodpod.service
check "it is purged" in_root apt-get purge -y -q rodpod
check "a purge takes all" missing /etc/rodpod /var/lib/rodpod /usr/share/rodpod
