"""Who is at the other end of a connection: its address, and the user whose process it is."""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from dataclasses import dataclass

ROOT = 0
_SOCK_DIAG = 4
_BY_FAMILY = 20
_REQUEST, _ERROR = 1, 2
_HEADER = struct.Struct("=IHHII")
_ANY_STATE, _ANY_COOKIE = 0xFFFFFFFF, 0xFFFFFFFF
_AFTER_ADDRESSES = struct.Struct("=IIIII")
_AT = _HEADER.size + 4 + 48
"""Where an answer tells expiry, queues, user and inode: behind the state and the addresses."""
_WAIT_S = 0.1


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of a connection (``host``, ``port``) and ours; 0 and empty where not told."""

    host: str
    port: int = 0
    own_host: str = ""
    own_port: int = 0


def is_own_user(peer: Peer) -> bool:
    """Whether the process at the other end, on this machine, is of our own user, or root's.

    An address on loopback says that somebody here calls: it may be a proxy that passes on what
    strangers ask, and such run as users of their own. Linux tells (sock_diag(7)); where nothing can
    be told, because another system runs or it is no TCP connection, the answer is yes.
    """
    if not (peer.port and peer.own_port) or not hasattr(socket, "AF_NETLINK"):
        return True
    try:
        user = _user_of(peer)
    except (OSError, struct.error, ValueError):
        return True
    return user in (os.geteuid(), ROOT)


def _user_of(peer: Peer) -> int | None:
    """The user of the socket at the other end; None where no process here has it.

    Raises:
        OSError: the kernel does not tell.
        ValueError, struct.error: an address is none, or an answer is not understood.
    """
    theirs, ours = _plain(peer.host), _plain(peer.own_host)
    family = socket.AF_INET if theirs.version == 4 else socket.AF_INET6
    ends = (
        struct.pack("!HH", peer.port, peer.own_port)
        + theirs.packed.ljust(16, b"\0")
        + ours.packed.ljust(16, b"\0")
        + struct.pack("=III", 0, _ANY_COOKIE, _ANY_COOKIE)
    )
    asked = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, _ANY_STATE) + ends
    head = _HEADER.pack(_HEADER.size + len(asked), _BY_FAMILY, _REQUEST, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as kernel:
        kernel.settimeout(_WAIT_S)
        kernel.send(head + asked)
        told = kernel.recv(4096)
    kind = _HEADER.unpack_from(told)[1]
    if kind == _ERROR:
        code = -struct.unpack_from("=i", told, _HEADER.size)[0]
        if code == 2:  # ENOENT: there is no such socket
            return None
        raise OSError(code, os.strerror(code))
    _, _, _, user, inode = _AFTER_ADDRESSES.unpack_from(told, _AT)
    return int(user) if inode else None  # without one it was closed, and tells no user


def _plain(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address; that of IPv4 where it is one inside IPv6."""
    found = ipaddress.ip_address(host)
    inner = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return inner or found
