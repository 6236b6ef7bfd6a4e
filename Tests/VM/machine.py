"""The virtual machine: Debian's kernel for clouds, and a file system in memory made of this machine's own programs."""

import gzip
import os
import pathlib
import re
import shutil
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
CACHE = HERE.parents[1] / "build" / "vm"
PROGRAMS = ("busybox", "nbd-client", "mkfs.ext4", "e2fsck")
MODULES = ("virtio_pci", "virtio_net", "nbd")
SEARCH = f"{os.environ['PATH']}:/usr/sbin:/sbin"


def kernel():
    """The folder of the kernel's package, unpacked: nothing of it is installed."""
    said = subprocess.run(["apt-cache", "depends", "linux-image-cloud-amd64"], capture_output=True, text=True, check=True)
    name = re.search(r"Depends: (linux-image-\d\S+)", said.stdout)
    assert name, "apt-get has no package linux-image-cloud-amd64: it wants an 'apt-get update'"
    folder = CACHE / name[1]
    if not folder.exists():
        shutil.rmtree(CACHE, ignore_errors=True)
        CACHE.mkdir(parents=True)
        subprocess.run(["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", name[1]], cwd=CACHE, check=True)
        unpacked = CACHE / "unpacked"
        subprocess.run(["dpkg-deb", "-x", next(CACHE.glob("*.deb")), unpacked], check=True)
        unpacked.rename(folder)
    return folder


def with_needs(module, files):
    """A module's file behind those that it needs."""
    file = files[module.replace("-", "_")]
    needs = re.search(rb"\0depends=([^\0]*)\0", file.read_bytes())[1].decode()
    return [other for need in needs.split(",") if need for other in with_needs(need, files)] + [file]


def libraries(program):
    """What the loader loads for it, the loader included."""
    said = subprocess.run(["ldd", program], capture_output=True, text=True)
    return [pathlib.Path(path) for path in re.findall(r"(/\S+) \(0x", said.stdout)]


def initrd(root, path):
    """Lays the file system out in a folder, and packs it."""
    files = {file.stem.replace("-", "_"): file for file in root.glob("lib/modules/*/kernel/**/*.ko")}
    order = list(dict.fromkeys(file for module in MODULES for file in with_needs(module, files)))
    folder = path.with_suffix(".files")
    for name in ("bin", "modules", "etc"):
        (folder / name).mkdir(parents=True)
    for file in order:
        shutil.copy(file, folder / "modules")
    (folder / "modules" / "order").write_text("".join(f"{file.name}\n" for file in order))
    for name in PROGRAMS:
        program = shutil.which(name, path=SEARCH)
        shutil.copy(program, folder / "bin" / name)
        for library in libraries(program):
            place = folder / library.relative_to("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, place)
    # mke2fs asks it for the features of ext4.
    shutil.copy("/etc/mke2fs.conf", folder / "etc")
    shutil.copy(HERE / "guest.sh", folder / "init")
    (folder / "init").chmod(0o755)
    names = b"\0".join(str(name.relative_to(folder)).encode() for name in sorted(folder.rglob("*")))
    archive = subprocess.run(["cpio", "--create", "--null", "--format=newc", "--owner=0:0", "--quiet"], input=names + b"\0", cwd=folder,
                             capture_output=True, check=True).stdout
    path.write_bytes(gzip.compress(archive, 1))
    return path


def command(folder, port):
    """What starts the machine: its console is standard input and output, its network card reaches this host's loopback."""
    root = kernel()
    return ["qemu-system-x86_64", "-accel", "tcg", "-m", "512", "-smp", "1", "-nographic", "-no-reboot", "-nodefaults",
            "-serial", "stdio", "-kernel", next(root.glob("boot/vmlinuz-*")), "-initrd", initrd(root, folder / "initrd"),
            "-append", f"console=ttyS0 quiet panic=-1 skein_port={port}",
            "-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="]
