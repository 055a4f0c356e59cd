"""Namespaces and limits of Linux, entered by a process of its own: no root, no other program.

`enter` leaves the calling process, and what it starts, with: an empty network; its own process ids;
a root that holds the programs of the system and of this Python alone, read-only; one small scratch
folder; no capabilities, no way to get some; limits on memory, processor time, processes and files.
It works where the system lets a user make user namespaces, which many containers forbid.
"""

import ctypes
import os
import platform
import resource
import signal
import sys
from pathlib import Path

from cltutor.course.limits import Limits

NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = (
    0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
)  # fmt: skip
RDONLY, NOSUID, NODEV, NOEXEC, BIND, REC, PRIVATE = 1, 2, 4, 8, 0x1000, 0x4000, 1 << 18
DETACH, AT_FDCWD, AT_RECURSIVE = 2, -100, 0x8000
SET_PDEATHSIG, SET_NO_NEW_PRIVS, CAPABILITIES = 1, 38, 0x20080522
MOUNT_SETATTR, PIVOT_ROOT = 442, {"x86_64": 155, "aarch64": 41}  # numbers of system calls
NOBODY, SCRATCH = 65534, "/scratch"
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32", "/etc/ld.so.cache")
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")


def call(name: str, *arguments) -> None:
    """A function of the C library. Raises OSError, naming it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def die_with_parent() -> None:
    """Be killed when the parent ends."""
    call("prctl", SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def unshare_user() -> None:
    """New user, process, network and name spaces; the next child is the first in them.

    Root maps itself and nobody, since an unprivileged process of root's own number could still
    write to files of the kernel; everyone else is nobody inside.
    """
    reader, writer = os.pipe()
    target, user, group = os.getpid(), os.geteuid(), os.getegid()
    helper = os.fork()
    if helper == 0:  # maps can be written by a process outside alone
        status = 1
        try:
            os.close(writer)
            if os.read(reader, 1):
                place = Path(f"/proc/{target}")
                if user == 0:
                    users = groups = f"0 0 1\n{NOBODY} {NOBODY} 1\n"
                else:
                    (place / "setgroups").write_text("deny")
                    users, groups = f"{NOBODY} {user} 1\n", f"{NOBODY} {group} 1\n"
                (place / "gid_map").write_text(groups)
                (place / "uid_map").write_text(users)
                status = 0
        finally:
            os._exit(status)
    os.close(reader)
    try:
        call("unshare", NEWUSER | NEWPID | NEWNET | NEWIPC | NEWUTS)
        os.write(writer, b"1")
    finally:
        os.close(writer)
        _, status = os.waitpid(helper, 0)
    if status != 0:
        raise OSError("the user map cannot be written")


def enter(root: str, hidden: tuple[str, ...], limits: Limits) -> None:
    """Go in: called by the first process of the new name spaces.

    Args:
        root: an empty folder, which becomes the place of the new root.
        hidden: folders within what is readable that are to be empty.

    Raises:
        OSError: the system does not allow it. The process must end then.
    """
    die_with_parent()
    mapped_root = os.geteuid() == 0
    call("unshare", NEWNS)
    mount(None, "/", None, REC | PRIVATE)
    try:  # no name spaces within: they would bring capabilities back
        Path("/proc/sys/user/max_user_namespaces").write_text("0")
    except OSError:
        pass
    mount("tmpfs", root, "tmpfs", NOSUID | NODEV, "size=1m,mode=755")
    for path in readable():
        show(path, root)
    for path in DEVICES:
        if os.path.exists(path):
            show(path, root)
    for path in hidden:
        if os.path.isdir(root + path):
            mount("tmpfs", root + path, "tmpfs", NOSUID | NODEV, "size=4k,mode=755")
    for path in ("/proc", SCRATCH):
        os.mkdir(root + path)
    read_only(root)
    mount("proc", f"{root}/proc", "proc", RDONLY | NOSUID | NODEV | NOEXEC)
    size = f"size={limits.scratch}m,mode=777"
    mount("tmpfs", root + SCRATCH, "tmpfs", NOSUID | NODEV, size)
    os.chdir(root)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(PIVOT_ROOT[platform.machine()], b".", b".") != 0:
        raise OSError(ctypes.get_errno(), "pivot_root")
    call("umount2", b".", DETACH)
    os.chdir(SCRATCH)
    limit(limits)
    if mapped_root:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        die_with_parent()  # which changing the user undoes
    call("prctl", SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(CAPABILITIES, 0)
    call("capset", header, (ctypes.c_uint32 * 6)())
    os.environ.clear()
    os.environ |= {"HOME": SCRATCH, "TMPDIR": SCRATCH, "PATH": "/usr/bin:/bin"}


def readable() -> list[str]:
    """What a process needs to run Python with this environment's packages and the kit."""
    kit = str(Path(__file__).parents[1])
    own = [sys.prefix, sys.base_prefix, kit, *SYSTEM]
    found = [path for path in dict.fromkeys(own) if os.path.lexists(path)]
    outer = {path for path in found if not os.path.islink(path)}
    return [p for p in found if not any(p != o and p.startswith(f"{o}/") for o in outer)]


def show(path: str, root: str) -> None:
    """Make `path` readable below `root`, a link as a link."""
    target = root + path
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.islink(path):
        os.symlink(os.readlink(path), target)
        return
    if os.path.isdir(path):
        os.makedirs(target, exist_ok=True)
    else:
        Path(target).touch()
    mount(path, target, None, BIND | REC)


def mount(source, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """mount(2)."""
    words = [None if word is None else word.encode() for word in (source, target, kind, data)]
    call("mount", *words[:3], ctypes.c_ulong(flags), words[3])


def read_only(root: str) -> None:
    """Everything below `root` read-only, mounts within mounts included (Linux 5.12 and newer)."""
    libc = ctypes.CDLL(None, use_errno=True)
    attributes = (ctypes.c_uint64 * 4)(RDONLY | NOSUID, 0, 0, 0)
    done = libc.syscall(
        MOUNT_SETATTR, AT_FDCWD, root.encode(), AT_RECURSIVE, attributes, ctypes.c_size_t(32)
    )
    if done != 0:
        raise OSError(ctypes.get_errno(), "mount_setattr")


def limit(limits: Limits) -> None:
    """Limits that the kernel keeps for every process, and that none can raise again."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    seconds = int(limits.seconds) + 1
    for what, most in (
        (resource.RLIMIT_AS, used + limits.memory * 2**20),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_NPROC, limits.processes),
        (resource.RLIMIT_NOFILE, limits.files),
        (resource.RLIMIT_FSIZE, limits.scratch * 2**20),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))
