"""How many processors control groups allow, read from a tree that looks like /proc and /sys."""

from __future__ import annotations

import pytest

from fastrnn._cgroups import processor_limit

MOUNT = "30 25 0:26 {root} {where} rw,nosuid shared:4 - {kind} cgroup {options}\n"


class Machine:
    """A process with control groups below a folder."""

    def __init__(self, folder):
        self.folder = folder
        self.mounts, self.groups = "22 1 0:21 / / rw - ext4 /dev/vda rw\nnonsense\n", ""

    def mount(self, where, kind, options="rw", root="/"):
        path = str(self.folder / where).replace(" ", "\\040")
        self.mounts += MOUNT.format(root=root, where=path, kind=kind, options=options)

    def write(self, path, text):
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def limit(self):
        self.write("proc/mountinfo", self.mounts)
        self.write("proc/cgroup", self.groups)
        return processor_limit(str(self.folder / "proc"))


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def unified(machine, group="/"):
    machine.mount("sys", "cgroup2")
    machine.groups = f"0::{group}\n"


def version_1(machine, group="/", root="/"):
    machine.mount("sys/cpu", "cgroup", "rw,cpu,cpuacct", root)
    machine.mount("sys/memory", "cgroup", "rw,memory")
    machine.groups = f"5:memory:/elsewhere\n4:cpu,cpuacct:{group}\n0::/\n"


def quota_1(machine, folder, quota, period=100000):
    machine.write(f"{folder}/cpu.cfs_quota_us", f"{quota}\n")
    machine.write(f"{folder}/cpu.cfs_period_us", f"{period}\n")


def test_no_group_sets_no_limit(machine):
    assert machine.limit() is None
    unified(machine, "/a/b")
    assert machine.limit() is None
    assert processor_limit(str(machine.folder / "nothing")) is None


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("max 100000\n", None),
        ("200000 100000\n", 2),
        ("250000 100000\n", 2),
        ("50000 100000\n", 1),
        ("6000 2000\n", 3),
        ("", None),
        ("many 100000\n", None),
        ("100000\n", None),
        ("100000 0\n", None),
    ],
)
def test_the_quota_of_version_2_is_rounded_down_to_whole_processors(machine, text, limit):
    unified(machine)
    machine.write("sys/cpu.max", text)
    assert machine.limit() == limit


def test_the_smallest_quota_of_nested_groups_of_version_2_counts(machine):
    unified(machine, "/pod/container")
    machine.write("sys/pod/container/cpu.max", "max 100000\n")
    machine.write("sys/pod/cpu.max", "300000 100000\n")
    assert machine.limit() == 3
    machine.write("sys/pod/container/cpu.max", "800000 100000\n")
    assert machine.limit() == 3
    machine.write("sys/pod/container/cpu.max", "200000 100000\n")
    assert machine.limit() == 2
    machine.write("sys/cpu.max", "100000 100000\n")
    assert machine.limit() == 1


def test_groups_beside_the_process_do_not_count(machine):
    unified(machine, "/mine")
    machine.write("sys/other/cpu.max", "100000 100000\n")
    assert machine.limit() is None


def test_the_quota_of_version_1_counts(machine):
    version_1(machine)
    quota_1(machine, "sys/cpu", -1)
    assert machine.limit() is None
    quota_1(machine, "sys/cpu", 300000)
    assert machine.limit() == 3
    quota_1(machine, "sys/cpu", 150000, 50000)
    assert machine.limit() == 3


def test_the_smallest_quota_of_nested_groups_of_version_1_counts(machine):
    version_1(machine, "/docker/abc")
    quota_1(machine, "sys/cpu", -1)
    quota_1(machine, "sys/cpu/docker", 200000)
    quota_1(machine, "sys/cpu/docker/abc", 400000)
    assert machine.limit() == 2


def test_a_container_that_sees_its_group_as_the_root_finds_its_quota(machine):
    version_1(machine, "/docker/abc/inner", root="/docker/abc")
    quota_1(machine, "sys/cpu", 400000)
    quota_1(machine, "sys/cpu/inner", 300000)
    assert machine.limit() == 3


def test_a_group_that_is_not_below_what_is_mounted_leaves_the_mounted_one(machine):
    version_1(machine, "/elsewhere", root="/docker/abc")
    quota_1(machine, "sys/cpu", 200000)
    assert machine.limit() == 2
    machine.mount("unified", "cgroup2")
    machine.groups = "0::/../outside\n"
    machine.write("unified/cpu.max", "100000 100000\n")
    assert machine.limit() == 1


def test_both_versions_at_once_count(machine):
    version_1(machine, "/job")
    machine.mount("sys/unified", "cgroup2")
    quota_1(machine, "sys/cpu/job", 400000)
    machine.write("sys/unified/cpu.max", "300000 100000\n")
    assert machine.limit() == 3


def test_folders_with_spaces_are_found(machine):
    machine.mount("my groups", "cgroup2")
    machine.groups = "0::/a b\n"
    machine.write("my groups/a b/cpu.max", "200000 100000\n")
    assert machine.limit() == 2


def test_this_process_can_be_asked():
    assert (limit := processor_limit()) is None or limit >= 1
