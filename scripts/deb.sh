#!/bin/bash
# Makes build/skein_VERSION_ARCHITECTURE.deb of what is built. packaging/ has what a package adds to `make install`.
# One commit gives the same package each time, byte for byte. DEBFULLNAME and DEBEMAIL name the maintainer.
set -euo pipefail
cd "$(dirname "$0")/.."
umask 022
for tool in dpkg-deb dpkg-shlibdeps; do
    command -v $tool >/dev/null || { echo "$tool is missing: apt-get install dpkg-dev" >&2; exit 1; }
done

# A commit that isn't the release itself comes before it.
version=$(sed -n 's/.*number = "\(.*\)"/\1/p' Sources/skein/Version.swift)
if commit=$(git log -1 --format=%cd.%h --date=format:%Y%m%d%H%M 2>/dev/null); then
    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
    export SOURCE_DATE_EPOCH
    tag=$(git describe --tags --exact-match 2>/dev/null || true)
    [ "$tag" = "v$version" ] || version="$version~git$commit"
fi
architecture=$(dpkg --print-architecture)

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
root=$folder/root
documents=$root/usr/share/doc/skein
make --no-print-directory install DESTDIR="$root" PREFIX=/usr >/dev/null
install -D -m 644 packaging/tmpfiles.conf "$root/usr/lib/tmpfiles.d/skein.conf"
for unit in packaging/*.service packaging/*.socket; do
    install -D -m 644 "$unit" "$root/usr/lib/systemd/system/${unit##*/}"
done
install -D -m 644 -t "$documents/examples" packaging/examples/*
install -m 644 -t "$documents" packaging/copyright README.md
gzip -9n <CHANGELOG.md >"$documents/changelog.gz"
# Where Debian's zsh looks.
mv "$root/usr/share/zsh/site-functions" "$root/usr/share/zsh/vendor-completions"
find "$root/usr/share/man" -type f -exec gzip -9n {} +

# What the programs are linked with, by the packages that have it here; the library among them is our own.
mkdir -p "$folder/debian" "$root/DEBIAN"
printf 'Source: skein\n\nPackage: skein\nArchitecture: any\n' >"$folder/debian/control"
echo 'libskein 0 skein' >"$folder/debian/shlibs.local"
depends=$(cd "$folder" && dpkg-shlibdeps -O -xskein -lroot/usr/lib root/usr/bin/skein root/usr/libexec/skein/skein-export root/usr/libexec/skein/skein-agent root/usr/lib/*.so)

size=$(du -k --apparent-size -s "$root/usr" | cut -f1)
sed -e "s|@VERSION@|$version|; s|@ARCHITECTURE@|$architecture|; s|@SIZE@|$size|; s|@DEPENDS@|${depends#*=}|" \
    -e "s|@MAINTAINER@|${DEBFULLNAME:-The Skein maintainers} <${DEBEMAIL:-skein@localhost}>|" \
    packaging/control.in >"$root/DEBIAN/control"
install -m 755 -t "$root/DEBIAN" packaging/postinst packaging/postrm
install -m 644 -t "$root/DEBIAN" packaging/triggers
(cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"

name=skein_${version}_$architecture.deb
dpkg-deb --root-owner-group --build "$root" "$folder/$name" >/dev/null
mkdir -p build
rm -f build/skein_*.deb
mv "$folder/$name" build/
echo "build/$name"
