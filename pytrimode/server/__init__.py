"""The OpenAI-compatible HTTP server. It needs the extra: pip install "pytrimode[server]"."""

from importlib.util import find_spec as _find_spec

_MISSING = [name for name in ("fastapi", "uvicorn", "prometheus_client") if _find_spec(name) is None]
if _MISSING:
    raise ImportError(
        f'the server needs packages that are not installed ({", ".join(_MISSING)}): pip install "pytrimode[server]"'
    )
