#!/usr/bin/env python3
"""`make deb`: what is in the package, and a bare Debian 12 that installs it, uses it and is as before when it is gone."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT / "Tests/Commands"))

import harness  # noqa: E402
from harness import Skip, test  # noqa: E402
from system import System, bare_system  # noqa: E402

FILES = """usr/bin/skein usr/include/skein.h usr/lib/libskein-preload.so usr/lib/libskein.so usr/lib/libskein.so.0
usr/lib/pkgconfig/skein.pc usr/lib/systemd/system/skein-relay@.service
usr/lib/systemd/system/skein-export@.service usr/lib/systemd/system/skein-export@.socket usr/lib/tmpfiles.d/skein.conf
usr/libexec/skein/skein-agent
usr/libexec/skein/skein-export
usr/share/bash-completion/completions/skein usr/share/doc/skein/README.md usr/share/doc/skein/changelog.gz
usr/share/doc/skein/copyright usr/share/doc/skein/examples/relay.conf usr/share/doc/skein/examples/export.conf usr/share/doc/skein/examples/service.conf
usr/share/doc/skein/examples/skein.conf usr/share/fish/vendor_completions.d/skein.fish usr/share/man/man1/skein.1.gz
usr/share/man/man3/libskein.3.gz usr/share/man/man5/skein.conf.5.gz usr/share/zsh/vendor-completions/_skein""".split()
FILES.sort()
PROGRAM = "#include <skein.h>\nint main(void) { return STPsocket(PF_STP, SOCK_STREAM, PF_STP) < 0; }\n"


def output(*words, **options):
    result = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=600, **options)
    assert result.returncode == 0, f"{words} ended with {result.returncode}: {result.stdout[-500:]}{result.stderr[-500:]}"
    return result.stdout


class Made:
    """What the tests share, in their order: the package, then the system that gets it."""
    package: pathlib.Path
    system: System
    before: dict


def system():
    if not hasattr(Made, "system"):
        raise Skip("there is no bare system: see above")
    return Made.system


@test("make deb makes a package of all files, which belong to root and which nobody else may write")
def _(folder):
    said = output("make", "--no-print-directory", "deb", cwd=CHECKOUT)
    Made.package = CHECKOUT / said.splitlines()[-1]
    lines = [line.split(None, 5) for line in output("dpkg-deb", "-c", Made.package).splitlines()]
    found = sorted(line[5].removeprefix("./").split(" -> ")[0] for line in lines if line[0][0] != "d")
    assert found == FILES, set(found) ^ set(FILES)
    assert {line[1] for line in lines} == {"root/root"}
    loose = [line for line in lines if line[0][0] != "l" and "w" in line[0][5] + line[0][8]]
    assert not loose, loose
    output("dpkg-deb", "--extract", Made.package, folder)
    output("dpkg-deb", "--control", Made.package, folder / "control")
    output("md5sum", "--check", "--strict", "--quiet", "control/md5sums", cwd=folder)


@test("the package's unit and its drop-in pass systemd's checker")
def _(folder):
    if not shutil.which("systemd-analyze"):
        raise Skip("needs systemd-analyze")
    output("dpkg-deb", "--extract", Made.package, folder)
    units = folder / "usr/lib/systemd/system"
    (units / "some.service").write_text("[Service]\nExecStart=/bin/true\n")
    (units / "some.service.d").mkdir()
    shutil.copy(folder / "usr/share/doc/skein/examples/service.conf", units / "some.service.d")
    for name in ("relay", "export"):
        unit = units / f"skein-{name}@.service"
        unit.write_text(unit.read_text().replace("=/usr/bin/skein", f"={folder}/usr/bin/skein"))
    for unit in ("some.service", "skein-relay@one.service", "skein-export@one.service", "skein-export@one.socket"):
        result = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True,
                                env=os.environ | {"SYSTEMD_UNIT_PATH": f"{units}:"})
        assert result.returncode == 0 and unit not in result.stderr, result


@test("a bare Debian 12 with the packages that it depends on installs it")
def _(folder):
    depends = output("dpkg-deb", "--field", Made.package, "Depends")
    names = re.findall(r"([a-z0-9.+-]+) ?(?:\(|,|$)", depends.strip())
    assert "libc6" in names and "libxxhash0" in names and "libgnutls30" in names and "libnbd0" in names and "liburing2" in names and "skein" not in names, depends
    # What the demo moves its file with.
    Made.system = bare_system([*names, "curl", "python3"])
    Made.before = Made.system.files()
    shutil.copy(Made.package, Made.system.root / "tmp/skein.deb")
    Made.system.run("dpkg", "--install", "/tmp/skein.deb")
    assert "skein 0" in Made.system.run("skein", "version")


@test("there the demo's file goes through shared memory")
def _(folder):
    demo = system().root / "tmp/demo"
    for name in ("scripts", "build"):
        (demo / name).mkdir(parents=True)
    shutil.copy(CHECKOUT / "scripts/demo.sh", demo / "scripts")
    said = system().run("env", "SKEIN_BIN=/usr/bin/skein", "SKEIN_DEMO_MEBIBYTES=64", "/tmp/demo/scripts/demo.sh")
    assert "shared memory: the checksum is that of the file" in said and "no connection over TCP" in said, said


@test("there programs find the library, its header and pkg-config file, and root's first use makes the runtime folder")
def _(folder):
    root = system().root
    flags = output("pkg-config", "--cflags", "--libs", "skein", env=os.environ | {
        "PKG_CONFIG_LIBDIR": str(root / "usr/lib/pkgconfig"), "PKG_CONFIG_SYSROOT_DIR": str(root),
        "PKG_CONFIG_ALLOW_SYSTEM_LIBS": "1", "PKG_CONFIG_ALLOW_SYSTEM_CFLAGS": "1"}).split()
    output("gcc", "-x", "c", "-", *flags, "-o", root / "tmp/program", input=PROGRAM)
    system().run("/tmp/program")
    made = (root / "run/skein").stat()
    assert made.st_mode & 0o7777 == 0o1777 and made.st_uid == 0, oct(made.st_mode)


@test("purged it leaves nothing behind")
def _(folder):
    system().run("dpkg", "--purge", "skein")
    after = system().files()
    changed = {path for path in Made.before.keys() | after.keys() if Made.before.get(path) != after.get(path)}
    assert not changed, sorted(changed)[:20]


def main():
    (CHECKOUT / "build/test").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="package-", dir=CHECKOUT / "build/test") as folder:
        return harness.run_all(pathlib.Path(folder))


if __name__ == "__main__":
    sys.exit(main())
