"""What the kernel says of a folder: mounts, devices and preloaded libraries, from made-up trees."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dicom_node.store.diskfacts import BlockDevice, DiskFacts, find_facts, parse_mounts


class Machine:
    """A /proc and a /sys below a folder."""

    def __init__(self, root: Path) -> None:
        self.proc, self.sys, self.data = root / "proc", root / "sys", root / "my data"
        (self.proc / "self").mkdir(parents=True)
        (self.sys / "dev" / "block").mkdir(parents=True)
        self.data.mkdir()

    def mount(self, *lines: str) -> None:
        (self.proc / "self" / "mountinfo").write_text("\n".join(lines) + "\n")

    def mounted(self, number: str, options: str = "rw", source: str = "/dev/sda1") -> None:
        point = str(self.data).replace(" ", r"\040")
        self.mount(
            "1 0 9:9 / / rw - ext4 /dev/other rw",
            f"2 1 {number} / {point} {options},relatime shared:1 - xfs {source} rw,noquota",
        )

    def device(self, number: str, path: str, **files: str) -> Path:
        """Make a device below /sys/devices; `__` in a name is a slash."""
        folder = self.sys / "devices" / path
        for name, text in files.items():
            file = folder / name.replace("__", "/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{text}\n")
        folder.mkdir(parents=True, exist_ok=True)
        (self.sys / "dev" / "block" / number).symlink_to(folder)
        return folder

    def disk(self, number: str, path: str, rotational: int, cache: str, **files: str) -> Path:
        queue = {"queue__rotational": str(rotational), "queue__write_cache": cache}
        return self.device(number, path, **queue, **files)

    def facts(self, environment: dict[str, str] | None = None) -> DiskFacts:
        return find_facts(self.data, environment or {}, self.proc, self.sys)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_options_of_mount_and_file_system_are_read_and_spaces_are_plain() -> None:
    [mount] = parse_mounts(
        r"36 35 98:0 /mnt1 /my\040data rw,noatime master:1 shared:2 - ext3 /dev/a\040b rw,data=x"
    )
    assert mount.mount_point == "/my data"
    assert mount.file_system == "ext3"
    assert mount.source == "/dev/a b"
    assert mount.options == ("rw", "noatime", "data=x")
    assert mount.device_number == "98:0"


@pytest.mark.parametrize("text", ["", "\n", "36 35 98:0", "a - b", "1 2 3:4 / /x rw - ext4"])
def test_lines_that_are_no_mounts_are_passed_over(text: str) -> None:
    assert parse_mounts(text) == []


def test_the_deepest_mount_above_the_folder_is_its_own(machine: Machine) -> None:
    machine.mounted("8:1")
    mount = machine.facts().mount
    assert mount is not None
    assert (mount.file_system, mount.mount_point) == ("xfs", str(machine.data))


def test_of_two_mounts_on_one_point_the_later_counts(machine: Machine) -> None:
    machine.mount("1 0 8:1 / / rw - ext4 /dev/a rw", "2 0 8:2 / / rw - tmpfs none rw")
    mount = machine.facts().mount
    assert mount is not None
    assert mount.file_system == "tmpfs"


def test_a_name_that_only_begins_like_the_folder_is_not_above_it(machine: Machine) -> None:
    machine.mount("1 0 8:1 / / rw - ext4 /dev/a rw", f"2 0 8:2 / {machine.data}2 rw - nfs x rw")
    mount = machine.facts().mount
    assert mount is not None
    assert mount.file_system == "ext4"


def test_a_link_is_followed_to_where_the_data_are(machine: Machine, tmp_path: Path) -> None:
    machine.mounted("8:1")
    link = tmp_path / "link"
    link.symlink_to(machine.data)
    facts = find_facts(link, {}, machine.proc, machine.sys)
    assert facts.folder == str(machine.data)
    assert facts.mount == machine.facts().mount


def test_a_partition_leads_to_its_disk(machine: Machine) -> None:
    disk = machine.disk(
        "8:0",
        "pci0/ata1/sda",
        1,
        "write back",
        device__vendor="ATA",
        device__model="HGST",
        device__scsi_disk__0__cache_type="write back",
    )
    machine.device("8:1", str(disk.relative_to(machine.sys / "devices") / "sda1"), partition="1")
    machine.mounted("8:1")
    [device] = machine.facts().devices
    assert device == BlockDevice("sda", True, "write back", "write back", virtual=False)


def test_a_volume_leads_to_every_disk_that_it_is_made_of(machine: Machine) -> None:
    nvme = machine.disk("259:0", "pci0/nvme/nvme0/nvme0n1", 0, "write through")
    disk = machine.disk("8:0", "pci0/ata1/sda", 1, "write back")
    raid = machine.device("9:0", "virtual/block/md0", queue__write_cache="write back")
    volume = machine.device("253:0", "virtual/block/dm-0")
    for folder, below in ((raid, nvme), (raid, disk), (volume, raid)):
        (folder / "slaves").mkdir(exist_ok=True)
        (folder / "slaves" / below.name).symlink_to(below)
    machine.mounted("253:0", source="/dev/mapper/data")
    assert machine.facts().devices == (
        BlockDevice("nvme0n1", False, "write through", "", virtual=False),
        BlockDevice("sda", True, "write back", "", virtual=False),
    )


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("pci0000:00/0000:00:02.0/virtio1/block/vda", ""),
        ("vbd-51712/block/xvda", ""),
        ("LNXSYSTM:00/VMBUS:01/host0/block/sda", ""),
        ("pci0/ata1/block/sda", "QEMU HARDDISK"),
        ("pci0/host0/block/sda", "Virtual disk"),
        ("pci0/nvme/nvme0/nvme1n1", "Amazon Elastic Block Store"),
    ],
)
def test_a_disk_that_a_hypervisor_makes_is_known(path: str, model: str, machine: Machine) -> None:
    machine.disk("8:0", path, 1, "write back", device__model=model)
    machine.mounted("8:0")
    [device] = machine.facts().devices
    assert device.virtual


def test_what_the_kernel_does_not_say_is_left_empty(machine: Machine) -> None:
    assert machine.facts() == DiskFacts(str(machine.data), None, (), ())
    machine.mounted("8:1")
    assert machine.facts().devices == ()
    machine.device("8:1", "pci0/odd")
    assert machine.facts().devices == (BlockDevice("odd", None, "", "", virtual=False),)


def test_a_file_system_with_a_number_of_its_own_is_asked_for_its_source(machine: Machine) -> None:
    """Such as btrfs; a source that is no block device, such as a pool's name, leads nowhere."""
    machine.disk("0:30", "never/asked", 1, "write back")
    machine.mounted("0:30", source="pool/data")
    assert machine.facts().devices == ()
    machine.mounted("0:30", source="/dev/null")
    assert machine.facts().devices == ()


@pytest.mark.parametrize(
    ("preload", "mapped", "found"),
    [
        ("/usr/lib/libeatmydata.so", "", ("libeatmydata.so",)),
        ("libjemalloc.so:libeatmydata.so", "", ("libeatmydata.so",)),
        ("libjemalloc.so libnosync.so", "", ("libnosync.so",)),
        (
            "",
            "7f01-7f02 r-xp 00000000 08:01 9 /usr/lib/libeatmydata.so.1.3.0",
            ("libeatmydata.so.1.3.0",),
        ),
        ("", "7f01-7f02 r-xp 00000000 08:01 9 /data/nosync/lib.so\n", ()),
        ("libjemalloc.so", "7f01-7f02 r-xp 00000000 08:01 9 /usr/lib/libc.so.6", ()),
        ("", "", ()),
    ],
)
def test_libraries_that_leave_syncs_out_are_found(
    preload: str, mapped: str, found: tuple[str, ...], machine: Machine
) -> None:
    (machine.proc / "self" / "maps").write_text(mapped)
    assert machine.facts({"LD_PRELOAD": preload}).preloads == found


def test_the_real_machine_names_its_file_system(tmp_path: Path) -> None:
    mount = find_facts(tmp_path, os.environ).mount
    assert mount is not None
    assert mount.file_system
    assert tmp_path.resolve().is_relative_to(mount.mount_point)
