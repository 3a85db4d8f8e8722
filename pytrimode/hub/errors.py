"""What goes wrong with the hub, said in one sentence that tells what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from pytrimode.gguf.errors import printable

EXTRA = "pip install 'pytrimode[hub]'"


class HubError(RuntimeError):
    """A model cannot be had from the hub."""


class UnreachableError(HubError):
    """The hub does not answer, or must not be asked: what is on the disk may do."""


def check_installed() -> None:
    """Raise ImportError that names the extra, without huggingface_hub."""
    try:
        import huggingface_hub  # noqa: F401
    except ImportError:
        raise ImportError(f"models by their names on the hub need huggingface_hub: {EXTRA}") from None


@contextmanager
def hub_errors(repo: str) -> Iterator[None]:
    """Raise what huggingface_hub and the HTTP library beneath it raise as HubError."""
    from huggingface_hub import constants, errors

    # The HTTP library's own: requests, httpx or another, by the version of huggingface_hub.
    http_error = cast("type[Exception]", errors.HfHubHTTPError.__bases__[0])
    try:
        yield
    except errors.GatedRepoError:
        raise HubError(
            f"{repo} is gated: accept its terms at {constants.ENDPOINT}/{repo} and log in (hf auth login, or HF_TOKEN)"
        ) from None
    except errors.RepositoryNotFoundError:
        raise _not_found(repo) from None
    except errors.HFValidationError as error:
        raise HubError(f"{repo}: no name of a repository: {_line(error)}") from None
    except errors.OfflineModeIsEnabled:
        raise UnreachableError(f"{repo} is not here, and HF_HUB_OFFLINE forbids to download it: unset it") from None
    except errors.HfHubHTTPError as error:
        raise _answer_error(repo, error, error.response.status_code) from None
    except (errors.LocalEntryNotFoundError, http_error, OSError) as error:
        raise _system_error(repo, error, constants.ENDPOINT) from None


def _not_found(repo: str) -> HubError:
    return HubError(
        f"{repo}: neither a file here nor a repository on the hub that you may read: check the name; if it is private, "
        f"log in (hf auth login, or HF_TOKEN)"
    )


def _answer_error(repo: str, error: Exception, status: int) -> HubError:
    if status == 401:
        return _not_found(repo)
    if status == 403:
        return HubError(
            f"{repo}: the hub refuses (HTTP {status}): log in with a token that may read it (hf auth login or HF_TOKEN)"
        )
    if status == 429:
        return HubError(f"{repo}: too many requests to the hub (HTTP 429): wait some minutes, or log in")
    if status >= 500:
        return UnreachableError(f"{repo}: the hub has a fault (HTTP {status}): try again later")
    return HubError(f"{repo}: the hub answers with HTTP {status}: {_line(error)}")


def _system_error(repo: str, error: BaseException, endpoint: str) -> HubError:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return HubError(
                f"{repo}: the disk is full: make room, or set HF_HOME (downloads) and PYTRIMODE_CACHE (converted "
                f"models) to directories on another one; what was downloaded whole is kept"
            )
        if isinstance(cause, PermissionError):
            return HubError(f"{cause.filename}: no permission to write: set HF_HOME to a directory of yours")
        cause = cause.__cause__ or cause.__context__
    return UnreachableError(
        f"{repo} is not here, and {endpoint} cannot be reached ({_line(error)}): check the connection; the same "
        f"command keeps what was downloaded whole"
    )


def _line(error: BaseException) -> str:
    """Return the first line of a library's message, without control characters."""
    lines = str(error).strip().splitlines()
    return printable(lines[0]) if lines else type(error).__name__
