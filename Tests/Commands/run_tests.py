"""`skein run`: what it starts, with which environment, and what it says of what it can't start."""

import os
import random
import shutil
import subprocess

from harness import SKEIN, WATCHDOG_SECONDS, Skip, compile_c, one_line, skein, test

STATIC = "statically linked"


def script(path, text, mode=0o755):
    path.write_text(text)
    path.chmod(mode)
    return path


@test("an unknown program ends with 127 and says what to do")
def _(_folder):
    one_line(skein("run", "no-such-program", expect=127)[1], "no-such-program", "PATH")
    one_line(skein("run", "/no/such/program", expect=127)[1], "/no/such/program")


@test("a file that isn't executable ends with 126, and so does a folder")
def _(folder):
    plain = script(folder / "plain", "echo hello\n", 0o644)
    if os.geteuid() == 0 or not os.access(plain, os.X_OK):
        one_line(skein("run", str(plain), expect=126)[1], "chmod +x")
    one_line(skein("run", str(folder), expect=126)[1], "is a folder")
    one_line(skein("run", "plain", expect=126, PATH=str(folder))[1], "chmod +x")


@test("a mistyped sub-command is named, with the one that was meant")
def _(_folder):
    for word, message in (("rnu", "'rnu'. Did you mean 'run'?"), ("xyzzyx", "no sub-command 'xyzzyx'.\n")):
        assert message in skein(word, "true", expect=64)[1], f"{word}: {message!r} is missing"
    skein("help", "run")
    skein("help")


@test("no program and an unknown option are explained")
def _(_folder):
    cases = [([], "Name the program"), (["--bogus", "ls"], "--bogus"), (["--spin", "often", "ls"], "adaptive")]
    for words, message in cases:
        assert message in skein("run", *words, expect=64)[1], f"{words}: {message!r} is missing"


@test("help is ours before the program and the program's after it")
def _(_folder):
    assert "USAGE: skein run" in skein("run", "--help")[0]
    assert "Usage: " in skein("run", "ls", "--help")[0] and skein("run", "echo", "--", "-x")[0] == "-- -x\n"
    assert skein("run", "--strict", "--", "echo", "--only", "5")[0] == "--only 5\n"


@test("the program keeps our process, its name, exit code and arguments that are not UTF-8")
def _(_folder):
    with subprocess.Popen([SKEIN, "run", "sh", "-c", "echo $$ $0; exit 9", "a name"], stdout=subprocess.PIPE) as process:
        assert process.stdout.read() == f"{process.pid} a name\n".encode()
    assert process.returncode == 9
    result = subprocess.run([SKEIN, "run", "--", "printf", "%s", b"\xff\xfe\xc0"], stdout=subprocess.PIPE, check=True)
    assert result.stdout == b"\xff\xfe\xc0", result.stdout


@test("the header goes before the user's own preload, and once when run is nested")
def _(_folder):
    libc = next(line.split()[-1] for line in open("/proc/self/maps") if "libc.so.6" in line)
    show = ["sh", "-c", "echo $LD_PRELOAD"]
    out, err = skein("run", *show, LD_PRELOAD=libc)
    assert out.endswith(f"lib/libskein-preload.so:{libc}\n") and err == "", (out, err)
    assert skein("run", str(SKEIN), "run", *show, LD_PRELOAD=libc)[0] == out


@test("options reach the header, and what isn't given stays as the environment has it")
def _(folder):
    show = ["--", "sh", "-c", "echo $SKEIN_ONLY/$SKEIN_NOT/$SKEIN_SPIN/$SKEIN_STRICT"]
    assert skein("run", "--only", "80,443", "--not", "22", "--spin", "off", "--strict", *show)[0] == "80,443/22/off/1\n"
    assert skein("run", *show, SKEIN_ONLY="8080", SKEIN_SPIN="fixed")[0] == "8080//fixed/\n"
    os.chdir(folder)
    assert skein("run", "--log", "a.log", "sh", "-c", "echo $SKEIN_LOG")[0] == f"{folder}/a.log\n"


@test("without the header, or with one that LD_PRELOAD can't name, nothing is started")
def _(folder):
    one_line(skein("run", "true", expect=125, SKEIN_PRELOAD="/no/lib.so")[1], "/no/lib.so", "unset")
    spaced = folder / "a b.so"
    spaced.touch()
    one_line(skein("run", "true", expect=125, SKEIN_PRELOAD=str(spaced))[1], "space")


def out_of_reach(program, *reasons, code=7):
    """It is said in one line, the program runs all the same, and not with --strict."""
    _, err = skein("run", str(program), expect=code)
    one_line(err, *reasons, "plain TCP")
    one_line(skein("run", "--strict", str(program), expect=125)[1], *reasons, "--strict")


@test("a static program is named as such and runs plainly, without our preload")
def _(folder):
    static = compile_c(folder / "static", "-static")
    out_of_reach(static, STATIC)
    out_of_reach(compile_c(folder / "pie", "-static-pie"), STATIC)
    shows = compile_c(folder / "shows", "-static", source="""#include <stdio.h>
        #include <stdlib.h>
        int main(void) { char *text = getenv("LD_PRELOAD"); puts(text ? text : "none"); }""")
    assert skein("run", str(shows))[0] == "none\n"
    assert skein("run", str(shows), LD_PRELOAD="/x/libskein-preload.so:/mine.so")[0] == "/mine.so\n"


@test("a Go program is known by its note or its section")
def _(folder):
    note = r'__asm__(".section .note.go,\"a\",%note\n .long 4, 4, 4\n .ascii \"Go\\0\\0abc\\0\"\n .text\n");'
    section = '__attribute__((section(".go.buildinfo"))) char go[64] = "x";'
    for name, extra in (("note", note), ("section", section)):
        out_of_reach(compile_c(folder / name, source=f"{extra} int main(void) {{ return 7; }}"), "Go program")


@test("a program of musl, or of an unknown loader, is named as such")
def _(folder):
    loader = os.path.realpath("/lib64/ld-linux-x86-64.so.2" if os.uname().machine == "x86_64" else "/lib/ld-linux-aarch64.so.1")
    for name, reason in (("ld-musl-x86_64.so.1", "musl"), ("ld64-uClibc.so.0", "another loader")):
        (folder / name).symlink_to(loader)
        out_of_reach(compile_c(folder / f"for-{name}", f"-Wl,--dynamic-linker={folder / name}"), reason)


@test("the loader used as a command is within reach, though it has no loader itself")
def _(_folder):
    loader = "/lib64/ld-linux-x86-64.so.2" if os.uname().machine == "x86_64" else "/lib/ld-linux-aarch64.so.1"
    assert skein("run", "--strict", loader, "/bin/echo", "loaded") == ("loaded\n", "")


@test("a program whose loader doesn't exist ends with 127 and names the loader")
def _(folder):
    program = compile_c(folder / "lost", f"-Wl,--dynamic-linker={folder}/ld-linux-lost.so")
    one_line(skein("run", str(program), expect=127)[1], "ld-linux-lost.so", "does not exist")


@test("a 32-bit program and one of another processor are named before the kernel refuses them")
def _(folder):
    image = bytearray(compile_c(folder / "own").read_bytes())
    for name, place, value, reason in (("small", 4, 1, "32-bit"), ("big-endian", 5, 2, "processor"), ("other", 18, 8, "processor")):
        changed = folder / name
        changed.write_bytes(image[:place] + bytes([value]) + image[place + 1:])
        changed.chmod(0o755)
        one_line(skein("run", "--strict", str(changed), expect=125)[1], reason)


@test("set-user-id and set-group-id programs are named where the loader will ignore the preload")
def _(folder):
    if os.geteuid() != 0:
        raise Skip("needs root to make one of another user")
    for name, ids, mode, reason in (("user", (65534, 0), 0o4755, "set-user-id"), ("group", (0, 65534), 0o2755, "set-group-id")):
        program = compile_c(folder / name)
        os.chown(program, *ids)
        program.chmod(mode)
        out_of_reach(program, reason)
        assert skein("run", "setpriv", "--no-new-privs", str(SKEIN), "run", str(program), expect=7)[1] == ""
    own = compile_c(folder / "own")
    own.chmod(0o4755)
    assert skein("run", str(own), expect=7)[1] == ""


@test("file capabilities count for all but root")
def _(folder):
    setcap = shutil.which("setcap", path="/usr/sbin:/sbin:/usr/bin")
    if os.geteuid() != 0 or not setcap:
        raise Skip("needs root and setcap")
    program = compile_c(folder / "capable")
    subprocess.run([setcap, "cap_net_raw+ep", program], check=True)
    assert skein("run", str(program), expect=7)[1] == ""
    # The copy is where another user can reach it.
    for part in ("bin/skein", "lib/libskein-preload.so", "lib/libskein.so.0"):
        (folder / part).parent.mkdir(exist_ok=True)
        shutil.copy2(SKEIN.parents[1] / part, folder / part)
    result = subprocess.run(["setpriv", "--reuid", "65534", "--clear-groups", folder / "bin/skein", "run", program],
                            capture_output=True, text=True)
    assert result.returncode == 7
    one_line(result.stderr, "file capabilities")


@test("a script is judged by its interpreter, also behind env")
def _(folder):
    shell = compile_c(folder / "shell", "-static")
    out_of_reach(script(folder / "direct", f"#!{shell} -x\n"), "is run by", str(shell), STATIC)
    out_of_reach(script(folder / "twice", f"#! {folder}/direct\n"), STATIC)
    path = f"{folder}:{os.environ['PATH']}"
    env = script(folder / "behind-env", "#!/usr/bin/env -S shell\n")
    one_line(skein("run", str(env), expect=7, PATH=path)[1], STATIC)
    assert skein("run", str(script(folder / "fine", "#!/bin/sh\necho $1\n")), "word") == ("word\n", "")


@test("a script without #! goes to the shell, one of a missing interpreter ends with 127, noise with 126")
def _(folder):
    assert skein("run", str(script(folder / "bare", "echo $1\n")), "word") == ("word\n", "")
    one_line(skein("run", str(script(folder / "lost", "#!/no/such/shell\n")), expect=127)[1], "/no/such/shell")
    noise = script(folder / "noise", "")
    noise.write_bytes(b"\x00\x01\x02noise" * 40)
    one_line(skein("run", str(noise), expect=126)[1], "can't be run")
    out, err = skein("run", str(script(folder / "loop", f"#!{folder}/loop\n")), expect=126)
    one_line(err, "can't be run")


@test("two hundred damaged ELF files are judged without a crash")
def _(folder):
    image = compile_c(folder / "own").read_bytes()
    dice = random.Random(1)
    for number in range(200):
        bad = bytearray(image)
        for _ in range(dice.randint(1, 12)):
            bad[dice.randrange(64 if dice.random() < 0.5 else 1024)] = dice.choice([0, 1, 127, 128, 255, dice.randrange(256)])
        if number % 4 == 0:
            del bad[dice.randrange(len(bad)):]
        path = folder / "bad"
        path.write_bytes(bad)
        path.chmod(0o755)
        # Nothing of it is ever run: it is refused, or the header is missing.
        skein("run", "--strict", str(path), expect=125, SKEIN_PRELOAD="/none")


@test("a file for --log that can't be written is an error, and nothing is started")
def _(folder):
    for path in ("/none/log", folder):
        one_line(skein("run", "--log", str(path), "touch", str(folder / "started"), expect=125)[1], "--log", str(path))
    assert not (folder / "started").exists()


@test("a result that standard output can't take is an error")
def _(_folder):
    for words in ("version", "--version", "--help", "run --help", "ls --help", "ls --json", "run --check true",
                  "top --json --interval 0.1", "--generate-completion-script bash"):
        with open("/dev/full", "wb") as full:
            result = subprocess.run([SKEIN, *words.split()], stdout=full, stderr=subprocess.PIPE, text=True,
                                    timeout=WATCHDOG_SECONDS)
        assert result.returncode == 1, (words, result)
        assert "standard output can't be written" in result.stderr, (words, result)


@test("the version is printed with that of the layout")
def _(_folder):
    assert skein("version")[0].startswith("skein ") and skein("--version")[0] == skein("version")[0]
