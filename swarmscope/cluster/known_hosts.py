"""Host keys: who a host must prove to be before anything is sent to it.

Scope: reads OpenSSH's known_hosts files, read-only, and decides about one offered key. Names, hashed names,
``[name]:port``, patterns with ``*``, ``?`` and ``!``, several keys of one type, and ``@revoked``
are understood (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT). Paramiko's own loader stops at some of these lines and
never matches others, so the check is made here.

Limits: ``@cert-authority`` lines are skipped (paramiko offers no host certificates): such a host must be
known by its plain key. Nothing is ever added to a file.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko

USER_FILES = (Path("~/.ssh/known_hosts"), Path("~/.ssh/known_hosts2"))
SYSTEM_FILES = (Path("/etc/ssh/ssh_known_hosts"), Path("/etc/ssh/ssh_known_hosts2"))


class HostKeyRejected(paramiko.SSHException):
    """The offered key is not one we know for that name: ``reason`` is unknown, changed or revoked."""

    def __init__(self, reason: str, name: str, key: paramiko.PKey, files: Sequence[Path]) -> None:
        self.reason = reason
        self.name = name
        self.fingerprint = fingerprint(key)
        self.key_type = key.get_name()
        self.files = tuple(files)
        super().__init__(f"{reason} host key for {name}: {self.key_type} {self.fingerprint}")


@dataclass(frozen=True, slots=True)
class KnownKey:
    """One line of a known_hosts file. ``blob`` is the key as it goes over the wire."""

    names: tuple[str, ...]
    key_type: str
    blob: bytes
    revoked: bool = False


def read_known_hosts(files: Iterable[Path]) -> tuple[KnownKey, ...]:
    """Every usable line of those files that exist; broken lines and ``@cert-authority`` lines are skipped."""
    keys: list[KnownKey] = []
    for file in files:
        try:
            text = file.expanduser().read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        for line in text.splitlines():
            key = _parse_line(line)
            if key is not None:
                keys.append(key)
    return tuple(keys)


def _parse_line(line: str) -> KnownKey | None:
    fields = line.split()
    if not fields or fields[0].startswith("#"):
        return None
    revoked = fields[0] == "@revoked"
    if fields[0].startswith("@"):
        if not revoked:
            return None
        fields = fields[1:]
    if len(fields) < 3:
        return None
    try:
        blob = base64.b64decode(fields[2], validate=True)
    except (binascii.Error, ValueError):
        return None
    return KnownKey(names=tuple(fields[0].split(",")), key_type=fields[1], blob=blob, revoked=revoked)


def matches(names: Sequence[str], name: str) -> bool:
    """Whether a line's list of names means ``name``; a matching ``!pattern`` rules the line out."""
    found = False
    for pattern in names:
        if pattern.startswith("|1|"):
            found = found or _hash_matches(pattern, name)
        elif pattern.startswith("!"):
            if _glob(pattern[1:], name):
                return False
        elif _glob(pattern, name):
            found = True
    return found


def _glob(pattern: str, name: str) -> bool:
    # fnmatch also knows [sets], which known_hosts does not: there a bracket is part of "[name]:port".
    literal = pattern.lower().replace("[", "[[]")
    return fnmatch.fnmatchcase(name.lower(), literal)


def _hash_matches(pattern: str, name: str) -> bool:
    try:
        salt, digest = (base64.b64decode(part) for part in pattern.split("|")[2:4])
    except (binascii.Error, ValueError):
        return False
    # SHA-1 is OpenSSH's choice for hiding names in the file; the keys themselves are compared whole.
    return hmac.compare_digest(hmac.new(salt, name.encode(), hashlib.sha1).digest(), digest)


def fingerprint(key: paramiko.PKey) -> str:
    """The key's SHA-256 in the form ``ssh-keygen -l`` prints it."""
    digest = hashlib.sha256(key.asbytes()).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


class KnownHostsPolicy(paramiko.MissingHostKeyPolicy):
    """Accepts a key that the files know for the name, rejects every other; never adds one.

    ``alias`` is ssh config's HostKeyAlias. As OpenSSH does, a name with a port that has no line of its own
    falls back to the plain name.
    """

    def __init__(self, files: Sequence[Path], *, alias: str = "") -> None:
        self.files = tuple(files)
        self.alias = alias
        self.keys = read_known_hosts(self.files)

    def candidates(self, name: str) -> tuple[KnownKey, ...]:
        """The lines that speak for ``name`` (``host`` or ``[host]:port``)."""
        name = self.alias or name
        found = tuple(key for key in self.keys if matches(key.names, name))
        if not any(not key.revoked for key in found) and name.startswith("["):
            plain = name[1 : name.index("]")]
            found += tuple(key for key in self.keys if matches(key.names, plain))
        return found

    def preferred_types(self, name: str) -> tuple[str, ...]:
        """Key types to ask the server for first, so that it offers the key that we know."""
        types: list[str] = []
        for key in self.candidates(name):
            wanted = ("rsa-sha2-512", "rsa-sha2-256") if key.key_type == "ssh-rsa" else (key.key_type,)
            types.extend(kind for kind in wanted if not key.revoked and kind not in types)
        return tuple(types)

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        """Called for every connection, since the client itself is given no keys."""
        blob = key.asbytes()
        known = self.candidates(hostname)
        if any(entry.revoked and entry.blob == blob for entry in known):
            raise HostKeyRejected("revoked", hostname, key, self.files)
        usable = [entry for entry in known if not entry.revoked]
        if any(entry.blob == blob for entry in usable):
            return
        raise HostKeyRejected("changed" if usable else "unknown", hostname, key, self.files)


def verify_with(client: paramiko.SSHClient, policy: KnownHostsPolicy, name: str) -> dict[str, Any]:
    """Put ``policy`` in charge of ``client``; returns the ``connect`` arguments that go with it."""
    client.set_missing_host_key_policy(policy)
    preferred = policy.preferred_types(name)

    def transport(sock: Any, **options: Any) -> paramiko.Transport:
        made = paramiko.Transport(sock, **options)
        security = made.get_security_options()
        offered = tuple(security.key_types)
        first = tuple(kind for kind in preferred if kind in offered)
        security.key_types = first + tuple(kind for kind in offered if kind not in first)
        return made

    return {"transport_factory": transport}
