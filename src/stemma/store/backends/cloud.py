"""A ``BlobBackend`` in the cloud: S3 and what speaks it, Google Cloud Storage, Azure.

Invariants:
    * ``put`` is one conditional request (``If-None-Match: *``), so of two writers one creates.
      A blob over 64 MiB goes up in parts, which stores cannot make conditional: it is looked
      for first, and of two writers at the same moment the later one's bytes stay.  Keys name
      content, so the bytes are the same.
    * Requests that fail for a passing reason are repeated with growing pauses, at most six
      times in a minute; then the error says that the same command may work later.
    * Credentials come from what login stored for the address, the environment and the usual
      files; no message, and no cause of an error, holds one.

It relies on the store's listing in order of key, as all three document.  It does not
verify contents.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypedDict, TypeVar, final

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import AzureStore, GCSStore, S3Store

from stemma.domain.errors import DeniedError, NotFoundError, StemmaError, UnavailableError
from stemma.store.backends.addresses import Address
from stemma.store.backends.base import BlobStat, check_key
from stemma.store.backends.credentials import (
    azure_config,
    azure_endpoint,
    azure_provider,
    google_config,
    google_endpoint,
    no_credentials,
    s3_config,
    s3_endpoint,
    s3_provider,
)
from stemma.store.backends.logins import SECRET

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

_MULTIPART_BYTES: Final = 64 << 20
_THREADS: Final = 16
_LIST_CHUNK: Final = 1000
_FIRST_PAUSE_SECONDS: Final = 0.2
_BROKEN_LINE: Final = ("HTTP error", "error sending request", "request or response body error")
_NO_BUCKET: Final = ("NoSuchBucket", "ContainerNotFound", "specified bucket does not exist")
_NOT_ALLOWED: Final = (
    "401 Unauthorized",
    "403 Forbidden",
    "AccessDenied",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
)
_METADATA_NAMES: Final = ("169.254.169.254", "metadata.google.internal", "MissingCredential")

_SIGNED_QUERY: Final = re.compile(r"\?[^\s\"']*\bsig(nature)?=[^\s\"']*", re.IGNORECASE)
NO_LOGIN: Final[Mapping[str, str]] = MappingProxyType({})
_AnswerT = TypeVar("_AnswerT")
Store = S3Store | GCSStore | AzureStore


class _Options(TypedDict):
    """What every kind of store is opened with."""

    client_options: ClientConfig
    retry_config: RetryConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """How long a store that does not answer is asked again.

    Attributes:
        retry_count: Most repetitions of one request.
        retry_seconds: After this time none is begun.
    """

    retry_count: int = 6
    retry_seconds: float = 60.0


def open_cloud(
    address: Address,
    variables: Mapping[str, str],
    waiting: Waiting = Waiting(),
    *,
    login: Mapping[str, str] = NO_LOGIN,
) -> CloudBackend:
    """Return the backend of a bucket, with credentials from the usual places.

    Args:
        address: Which bucket, and the prefix in it.
        variables: Environment variables.
        waiting: When to give up.
        login: What was stored for this address; it comes before all others.

    Raises:
        DeniedError: If there are none (``no-credentials``).
        NotFoundError: If the address cannot be opened.
    """
    # No size is known beforehand, so a stalled connection is told by its silence.
    client: ClientConfig = {
        "connect_timeout": timedelta(seconds=5),
        "read_timeout": timedelta(seconds=60),
        "timeout": timedelta(minutes=10),
    }
    retry: RetryConfig = {
        "max_retries": waiting.retry_count,
        "retry_timeout": timedelta(seconds=waiting.retry_seconds),
        "backoff": {"init_backoff": timedelta(milliseconds=200), "base": 2},
    }
    secrets = tuple(
        value for name, value in {**variables, **login}.items() if value and name in SECRET
    )
    named = _Named(address, secrets)
    with named.translated(""):
        store = _open_store(
            address, variables, login, {"client_options": client, "retry_config": retry}
        )
    return CloudBackend(store, named, waiting)


def _open_store(
    address: Address, variables: Mapping[str, str], login: Mapping[str, str], options: _Options
) -> Store:
    client = options["client_options"]
    prefix = address.path or None
    match address.scheme:
        case "s3":
            s3 = s3_config(address, variables, login)
            client["allow_http"] = _is_plain(s3_endpoint(s3, variables))
            return S3Store(
                address.bucket,
                prefix=prefix,
                config=s3,
                credential_provider=s3_provider(login),
                **options,
            )
        case "gs":
            google = google_config(address, variables, login)
            client["allow_http"] = _is_plain(google_endpoint(google, variables))
            return GCSStore(address.bucket, prefix=prefix, config=google, **options)
        case _:
            azure = azure_config(address, variables, login)
            client["allow_http"] = _is_plain(azure_endpoint(azure, variables))
            return AzureStore(
                address.bucket,
                prefix=prefix,
                config=azure,
                credential_provider=azure_provider(login),
                **options,
            )


def _is_plain(endpoint: str) -> bool:
    return endpoint.startswith("http://")


@dataclass(frozen=True, slots=True)
class _Named:
    """Where requests go, and what must never be shown of them."""

    address: Address
    secrets: tuple[str, ...]

    @contextmanager
    def translated(self, key: str) -> Iterator[None]:
        """Raise what the cloud library raises as errors of our own."""
        try:
            yield
        except (BaseError, FileNotFoundError) as error:
            text = str(error)
            told = self._without_secrets(text)
            ours = _translate(error, told, self.address, key)
            if told != text:
                raise ours from None  # a traceback shows the text of causes
            raise ours from error

    def _without_secrets(self, text: str) -> str:
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return _SIGNED_QUERY.sub("?***", text)


@final
class CloudBackend:
    """Blobs as objects of one bucket, under a prefix."""

    def __init__(self, store: Store, named: _Named, waiting: Waiting) -> None:
        """Stand on a store; nothing is asked yet."""
        self._store = store
        self._named = named
        self._waiting = waiting

    def _ask(self, request: Callable[[], _AnswerT]) -> _AnswerT:
        """Make a request, and again when the connection broke.

        The library repeats by itself what cannot do harm twice.  A conditional write it does
        not; of ours the second finds the same bytes under the same key.
        """
        end = time.monotonic() + self._waiting.retry_seconds
        pause_seconds = _FIRST_PAUSE_SECONDS
        for _ in range(self._waiting.retry_count):
            try:
                return request()
            except BaseError as error:
                if not _is_broken_line(error) or time.monotonic() + pause_seconds > end:
                    raise
            time.sleep(pause_seconds)
            pause_seconds *= 2
        return request()

    def put(self, key: str, data: bytes) -> bool:
        """Write a blob durably unless the key exists; return whether it was created."""
        check_key(key)
        with self._named.translated(key):
            if len(data) > _MULTIPART_BYTES:
                if self.exists(key):
                    return False
                self._ask(lambda: obstore.put(self._store, key, data, use_multipart=True))
                return True
            try:
                self._ask(
                    lambda: obstore.put(self._store, key, data, mode="create", use_multipart=False)
                )
            except AlreadyExistsError:
                return False
        return True

    def put_many(self, blobs: Mapping[str, bytes]) -> frozenset[str]:
        """Write many blobs, several at a time; return the keys that were created."""
        for key in blobs:
            check_key(key)
        if not blobs:
            return frozenset()
        with ThreadPoolExecutor(max_workers=_THREADS) as pool:
            created = pool.map(self.put, blobs.keys(), blobs.values())
            return frozenset(
                key for key, is_new in zip(blobs.keys(), created, strict=True) if is_new
            )

    def get(self, key: str) -> bytes:
        """Return a blob."""
        check_key(key)
        with self._named.translated(key):
            return self._ask(lambda: bytes(obstore.get(self._store, key).bytes()))

    def get_range(self, key: str, offset: int, size_bytes: int) -> bytes:
        """Return up to ``size_bytes`` from ``offset``."""
        check_key(key)
        if not size_bytes:
            self.size(key)  # a missing blob has no empty range either
            return b""
        with self._named.translated(key):
            try:
                return self._ask(
                    lambda: bytes(
                        obstore.get_range(self._store, key, start=offset, length=size_bytes)
                    )
                )
            except BaseError as error:
                if _is_past_the_end(error):
                    return b""
                raise

    def exists(self, key: str) -> bool:
        """Return whether the key holds a blob."""
        try:
            self.size(key)
        except NotFoundError as error:
            if error.code != "blob-not-found":
                raise
            return False
        return True

    def size(self, key: str) -> int:
        """Return a blob's size in bytes."""
        check_key(key)
        with self._named.translated(key):
            return int(self._ask(lambda: obstore.head(self._store, key))["size"])

    def list(self, prefix: str = "") -> Iterator[BlobStat]:
        """Yield every blob whose key starts with ``prefix``, in order of key."""
        # The store takes whole folders for prefixes only.
        folder = prefix.rpartition("/")[0]
        with self._named.translated(prefix):
            for batch in obstore.list(self._store, folder or None, chunk_size=_LIST_CHUNK):
                for item in batch:
                    if item["path"].startswith(prefix):
                        yield BlobStat(
                            key=item["path"],
                            size_bytes=item["size"],
                            modified_at=item["last_modified"],
                        )

    def delete(self, key: str) -> bool:
        """Remove a blob; return whether it was there."""
        existed = self.exists(key)
        self.delete_many([key])
        return existed

    def delete_many(self, keys: Iterable[str]) -> None:
        """Remove many blobs; missing ones are ignored."""
        doomed = list(keys)
        for key in doomed:
            check_key(key)
        if not doomed:
            return
        with self._named.translated(doomed[0]):
            try:
                self._ask(lambda: obstore.delete(self._store, doomed))
            except FileNotFoundError:
                # Google and Azure stop at what is missing: one by one then.
                for key in doomed:
                    self._delete_if_there(key)

    def _delete_if_there(self, key: str) -> None:
        try:
            obstore.delete(self._store, key)
        except FileNotFoundError:
            return


def _is_broken_line(error: BaseError) -> bool:
    """Whether a request failed on the way, and the library has not repeated it."""
    text = str(error)
    return any(sign in text for sign in _BROKEN_LINE) and " retries, max_retries" not in text


def _is_past_the_end(error: BaseError) -> bool:
    text = str(error)
    return "status code: 416" in text or "InvalidRange" in text


# errors -------------------------------------------------------------------------------------


def _translate(error: Exception, told: str, address: Address, key: str) -> StemmaError:
    # The library gives one class for most failures; the status stands in the text.
    text = told.partition("\n\nDebug source:")[0]
    if any(sign in text for sign in _NO_BUCKET):
        return NotFoundError(
            f"there is no bucket {address.bucket} at {address.url}",
            code="bucket-not-found",
            hint="make it with the tools of your cloud, or: stemma remote list",
        )
    if isinstance(error, FileNotFoundError):
        return NotFoundError(f"no blob {key}", code="blob-not-found")
    if any(sign in text for sign in _METADATA_NAMES):
        return no_credentials(address)
    is_denied = isinstance(error, PermissionDeniedError | UnauthenticatedError)
    if is_denied or any(sign in text for sign in _NOT_ALLOWED):
        return DeniedError(
            f"{address.url} refuses: {_first_line(text)}",
            code="remote-denied",
            hint=f"stemma remote login {address.url}",
        )
    return UnavailableError(
        f"{address.url} does not answer: {_first_line(text)}",
        code="remote-unavailable",
        hint="run the same command again later; what has arrived is not sent again",
    )


def _first_line(text: str) -> str:
    return text.splitlines()[0][:300] if text else "no reason given"
