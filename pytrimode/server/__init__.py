"""The HTTP server. It needs the extra: pip install "pytrimode[server]"."""

from importlib.util import find_spec as _find_spec


def check_installed() -> None:
    """Raise ImportError that says what to install, if packages of the extra are not there."""
    missing = [name for name in ("fastapi", "uvicorn", "prometheus_client") if not _is_there(name)]
    if missing:
        raise ImportError(
            f'the server needs packages that are not installed ({", ".join(missing)}): pip install "pytrimode[server]"'
        )


def _is_there(name: str) -> bool:
    try:
        return _find_spec(name) is not None
    except ValueError:  # what is None in sys.modules
        return False
