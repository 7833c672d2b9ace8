"""Certificates and keys of `agent.tls`, read from the target's files and nowhere kept but in memory.

A key is never sent and never part of a message or of a log's line. Files that change are read again; one
that cannot be used then is told, and the last that could stays.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import os
import ssl
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from attrs import define, field

from pymirror.core.below import IN_ROOT, NO_MAGICLINKS, open_below
from pymirror.features.network.incoming.tls_keys import Tls

EVERY = 5.0
"""Seconds between two looks at the files: a Secret's change reaches a pod within a minute."""
MOST = 1 << 20
"""Bytes of a file."""
PROTOCOLS = (None, "h2", "http/1.1")
"""Those that HTTP goes by over TLS; None: none is named."""
CIPHERS = "DEFAULT:@SECLEVEL=0"
"""How strong it must be is between the client and the application, whose place this takes."""
_NOT_YET, _EXPIRED = 9, 10
_OTHERS = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
"""OpenSSL's reasons where a key is another certificate's; the last: of another kind."""
_BEGIN = b"-----BEGIN CERTIFICATE-----"
_END = b"-----END CERTIFICATE-----"


class Unfit(OSError):
    """The files cannot be used: which, why, and what to do."""

    def __init__(self, place: str, path: str, why: str, advice: str) -> None:
        super().__init__(errno.EINVAL, f"{place}: {path} {why}; {advice}")


@define(eq=False)
class Credential:
    """What the ports of one entry are served with. root: descriptor of the target's."""

    root: int
    entry: Tls
    place: str
    log: logging.Logger
    known: set[bytes] = field(factory=set)
    """All certificates that were there: an application may still have the one before."""
    serving: Mapping[str | None, ssl.SSLContext] = field(factory=dict)
    """By what is agreed on with the client."""
    _digest: bytes = b""
    _failed: str = ""
    _said: set[str] = field(factory=set)

    async def look(self) -> None:
        """Read anew, if the files have changed. Unfit."""
        await asyncio.to_thread(self._look)

    async def look_again(self) -> None:
        """The same when it served before: what is wrong twice is told, as two files do not change at once."""
        try:
            await self.look()
        except OSError as error:
            words = error.strerror or str(error)
            if words == self._failed:
                self.tell(f"{words}. What was there before is used on")
            self._failed = words
        else:
            self._failed = ""

    def tell(self, words: str) -> None:
        """Once."""
        if words not in self._said and len(self._said) < 100:
            self._said.add(words)
            self.log.warning("%s", words)

    def _look(self) -> None:
        chain, key = self._read("certificate"), self._read("key")
        digest = hashlib.sha256(hashlib.sha256(chain).digest() + key).digest()
        if digest == self._digest:
            return
        leaf = self._leaf(chain)
        serving = self._contexts(chain, key)
        self._refuse_if_not_valid(serving[None], leaf)
        self.known.add(leaf)
        self.serving, self._digest = serving, digest

    def _unfit(self, what: str, why: str, advice: str) -> Unfit:
        return Unfit(f"{self.place}.{what}", f"the target's {getattr(self.entry, what)}", why, advice)

    def _read(self, what: str) -> bytes:
        path = os.fsencode(getattr(self.entry, what))
        try:
            number = open_below(self.root, path, os.O_RDONLY | os.O_NONBLOCK, IN_ROOT | NO_MAGICLINKS)
            try:
                is_file = stat.S_ISREG(os.fstat(number).st_mode)
                data = _all(number) if is_file else b""
            finally:
                os.close(number)
        except OSError as error:
            why = f"cannot be read: {error.strerror}"
            raise self._unfit(what, why, "see with `ls -l` in the target whether and where it is") from None
        if not is_file:
            raise self._unfit(what, "is no file", "name the file itself")
        if len(data) > MOST:
            raise self._unfit(what, "is too large", f"it may have {MOST >> 20} MiB")
        return data

    def _leaf(self, chain: bytes) -> bytes:
        """The first; all of them are certificates."""
        _, begin, rest = chain.partition(_BEGIN)
        body, end, _ = rest.partition(_END)
        try:
            leaf = ssl.PEM_cert_to_DER_cert((begin + body + end).decode("ascii"))
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=chain.decode("ascii"))
        except (ValueError, ssl.SSLError):
            raise self._unfit(
                "certificate", "is no certificate", "it must be PEM, the server's own first"
            ) from None
        return leaf

    def _contexts(self, chain: bytes, key: bytes) -> dict[str | None, ssl.SSLContext]:
        with _file(chain) as chain_path, _file(key) as key_path:
            try:
                return {each: _serving(chain_path, key_path, each) for each in PROTOCOLS}
            except ssl.SSLError as error:
                raise self._why(error) from None
            except _Encrypted:
                advice = "give the file of one that is not"
                raise self._unfit("key", "is encrypted", advice) from None

    def _why(self, error: ssl.SSLError) -> Unfit:
        if error.reason in _OTHERS:
            return self._unfit("key", f"does not fit {self.entry.certificate}", "name the two of one Secret")
        return self._unfit("key", f"is no private key ({error.reason})", "it must be PEM")

    def _refuse_if_not_valid(self, serving: ssl.SSLContext, leaf: bytes) -> None:
        code = _verified(serving, leaf)
        if code in (_NOT_YET, _EXPIRED):
            why = "has expired" if code == _EXPIRED else "is not valid yet"
            raise self._unfit("certificate", why, "renew it, or see the clock of the target's node")


class Credentials:
    """Those of all entries, by port. Nothing is read before `ready`."""

    def __init__(self, root: int, entries: Sequence[Tls], log: logging.Logger) -> None:
        made = [Credential(root, each, f"agent.tls[{n}]", log) for n, each in enumerate(entries)]
        self._by_port = {port: each for each in made for port in each.entry.ports}
        self._used: list[Credential] = []
        self._looking: asyncio.Task[None] | None = None

    def get(self, port: int) -> Credential | None:
        """What is ready for it."""
        found = self._by_port.get(port)
        return found if found is not None and found.serving else None

    async def ready(self, port: int) -> None:
        """Before that port is taken. Unfit."""
        found = self._by_port.get(port)
        if found is None:
            return
        await found.look()
        if found not in self._used:
            self._used.append(found)
        if self._looking is None:
            self._looking = asyncio.ensure_future(self._look())

    def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            for each in self._used:
                await each.look_again()


class _Encrypted(Exception):
    pass


def _all(number: int) -> bytes:
    """Of a file, and of one that is too large enough to see that."""
    with open(number, "rb", closefd=False) as file:
        return file.read(MOST + 1)


def _encrypted() -> str:
    """Asked for the passphrase, which OpenSSL would ask a terminal for."""
    raise _Encrypted


def _serving(chain: str, key: str, protocol: str | None) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.set_ciphers(CIPHERS)
    made.options |= ssl.OP_NO_RENEGOTIATION
    made.load_cert_chain(chain, key, _encrypted)
    if protocol is not None:
        made.set_alpn_protocols([protocol])
    return made


@contextmanager
def _file(data: bytes) -> Iterator[str]:
    """A path, which is all that OpenSSL's binding takes, of memory that no other process sees."""
    number = os.memfd_create("pymirror", os.MFD_CLOEXEC)
    try:
        with open(number, "wb", closefd=False) as file:
            file.write(data)
        yield f"/proc/self/fd/{number}"
    finally:
        os.close(number)


def _verified(serving: ssl.SSLContext, leaf: bytes) -> int:
    """OpenSSL's code for why who trusts that certificate would refuse it; 0 for none. A handshake tells."""
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    asking.set_ciphers(CIPHERS)
    asking.check_hostname = False
    asking.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    asking.load_verify_locations(cadata=leaf)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [asking.wrap_bio(back, there), serving.wrap_bio(there, back, server_side=True)]
    for _ in range(3):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                return error.verify_code
            except ssl.SSLError:  # the other's alert
                return 0
    return 0
