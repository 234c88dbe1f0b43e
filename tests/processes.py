"""Processes that a test has started, and whether they are gone."""

from __future__ import annotations

import contextlib
import ipaddress
import time
from pathlib import Path

import pytest


def descendants(pid: int) -> set[int]:
    """A process and all that it has started, and they, and so on."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found, grew = {pid}, True
    while grew:
        more = {child for child, parent in parents.items() if parent in found} - found
        grew = bool(more)
        found |= more
    return found


def listening(pids: set[int]) -> set[tuple[str, int]]:
    """Addresses and ports at which these processes take TCP connections or UDP packets."""
    inodes = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            inodes |= {_inode(link) for link in Path(f"/proc/{pid}/fd").iterdir()}
    found = set()
    for kind, states in {"tcp": {"0A"}, "tcp6": {"0A"}, "udp": {"07"}, "udp6": {"07"}}.items():
        for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] in states and fields[9] in inodes:
                address, port = fields[1].split(":")
                found.add((_address(address), int(port, 16)))
    return found


def _inode(link: Path) -> str:
    try:
        target = str(link.readlink())
    except OSError:
        return ""
    return target[8:-1] if target.startswith("socket:[") else ""


def _address(packed: str) -> str:
    """Words of four bytes, each in the machine's own (little-endian) order."""
    words = [bytes.fromhex(packed[i : i + 8])[::-1] for i in range(0, len(packed), 8)]
    address = ipaddress.ip_address(b"".join(words))
    return str(getattr(address, "ipv4_mapped", None) or address)


def runs(pid: int) -> bool:
    """Whether a process holds anything still: one that ended and waits for pid 1 does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(") ")[2][0] not in "ZX"


def none_left(pids: set[int]) -> None:
    """Each has ended, if not at once: a killed engine gives its memory back first."""
    deadline = time.monotonic() + 30
    while left := {p for p in pids if runs(p)}:
        if time.monotonic() > deadline:
            pytest.fail(f"processes left: {[Path(f'/proc/{p}/stat').read_text() for p in left]}")
        time.sleep(0.1)
