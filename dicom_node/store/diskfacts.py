"""What the kernel says of the folder that data lie in: file system, options, devices below it."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

# Words in a device's vendor or model that tell a disk which a hypervisor makes up.
_VIRTUAL_MODELS = ("qemu", "vmware", "vbox", "virtual", "msft", "persistentdisk", "elastic block")
# virtio disks, Xen's block devices, Hyper-V's bus: parts of a device's path below /sys/devices.
_VIRTUAL_PATHS = ("/virtio", "/vbd-", "/VMBUS:")
_PRELOADED = re.compile(r"[^/\s]*(?:eatmydata|nosync|fakesync)[^/\s]*(?!\S)")


@dataclass(frozen=True)
class Mount:
    """One line of /proc/self/mountinfo."""

    mount_point: str
    file_system: str
    source: str
    options: tuple[str, ...]
    """Those of the mount, then those of the file system."""
    device_number: str
    """MAJOR:MINOR; the major number is 0 where no block device is named."""


@dataclass(frozen=True)
class BlockDevice:
    """A device at the bottom: no partition, no volume made of others."""

    name: str
    rotational: bool | None
    """What the kernel takes it for; None if it does not say."""
    write_cache: str
    """"write back" (the kernel flushes), "write through" (it need not), or "" if unknown."""
    own_cache: str
    """What a SCSI or ATA disk itself says of its cache; "" if it says nothing."""
    virtual: bool
    """A hypervisor makes it; what lies below it cannot be seen from here."""


@dataclass(frozen=True)
class DiskFacts:
    """Everything known of a folder without measuring."""

    folder: str
    mount: Mount | None
    devices: tuple[BlockDevice, ...]
    preloads: tuple[str, ...]
    """Libraries in this process that turn syncs into nothing."""


def find_facts(
    folder: Path,
    environment: Mapping[str, str],
    proc: Path = Path("/proc"),
    sys: Path = Path("/sys"),
) -> DiskFacts:
    """Return what the kernel says of a folder; what it does not say is left empty.

    Parameters
    ----------
    folder : Path
        Must exist.
    environment : Mapping[str, str]
        Of this process, for LD_PRELOAD.
    proc, sys : Path
        Where proc(5) and sysfs(5) are.
    """
    resolved = folder.resolve()
    mount = _mount_of(resolved, _read(proc / "self" / "mountinfo"))
    number = _block_number(mount) if mount else ""
    devices = sorted(set(_devices(sys / "dev" / "block" / number)), key=lambda one: one.name)
    # A library of /etc/ld.so.preload stands in no variable, but its file is mapped.
    wanted = environment.get("LD_PRELOAD", "").replace(":", " ")
    preloads = dict.fromkeys(_PRELOADED.findall(f"{wanted} {_read(proc / 'self' / 'maps')}"))
    return DiskFacts(str(resolved), mount, tuple(devices) if number else (), tuple(preloads))


def parse_mounts(mountinfo: str) -> list[Mount]:
    """Return the mounts of /proc/self/mountinfo in its order (proc_pid_mountinfo(5))."""
    mounts = []
    for line in mountinfo.splitlines():
        before, dash, after = line.partition(" - ")
        fields, more = before.split(" "), after.split(" ")
        if not dash or len(fields) < 6 or len(more) < 3:
            continue
        options = dict.fromkeys([*fields[5].split(","), *more[2].split(",")])
        mounts.append(Mount(_plain(fields[4]), more[0], _plain(more[1]), tuple(options), fields[2]))
    return mounts


def _mount_of(folder: Path, mountinfo: str) -> Mount | None:
    """Return the deepest mount above a folder; of two on one point the later hides the earlier."""
    above = {str(path) for path in (folder, *folder.parents)}
    found = [mount for mount in parse_mounts(mountinfo) if mount.mount_point in above]
    return max(reversed(found), key=lambda mount: len(mount.mount_point), default=None)


def _plain(text: str) -> str:
    r"""Undo mountinfo's octal escapes: a space stands there as \040."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _block_number(mount: Mount) -> str:
    """Return MAJOR:MINOR of the device; btrfs shows its own number, so its source is asked."""
    if not mount.device_number.startswith("0:"):
        return mount.device_number
    try:
        found = Path(mount.source).stat()
    except OSError:
        return ""
    if not stat.S_ISBLK(found.st_mode):
        return ""
    return f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"


def _devices(entry: Path) -> Iterator[BlockDevice]:
    """Walk from a partition to its disk, from a volume (LVM, RAID, LUKS) to what it is made of."""
    if not entry.exists():
        return
    device = entry.resolve()
    if (device / "partition").exists():
        device = device.parent
    below = sorted((device / "slaves").glob("*"))
    for slave in below:
        yield from _devices(slave)
    if below:
        return
    rotational = _read(device / "queue" / "rotational")
    model = (_read(device / "device" / "vendor") + _read(device / "device" / "model")).lower()
    own = [_read(file) for file in (device / "device" / "scsi_disk").glob("*/cache_type")]
    yield BlockDevice(
        name=device.name,
        rotational=rotational == "1" if rotational else None,
        write_cache=_read(device / "queue" / "write_cache"),
        own_cache=own[0] if own else "",
        virtual=any(part in str(device) for part in _VIRTUAL_PATHS)
        or any(word in model for word in _VIRTUAL_MODELS),
    )


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace").strip()
    except OSError:
        return ""
