"""Run NVIDIA Nemotron-Labs-Diffusion tri-mode models from GGUF: ar, diffusion and self-spec from one set of weights."""

import sys as _sys
from importlib.metadata import PackageNotFoundError as _PackageNotFoundError
from importlib.metadata import version as _version

__all__ = [
    "ALIASES",
    "AR",
    "AUTO",
    "DIFFUSION",
    "MODES",
    "SELF_SPEC",
    "AsyncTriMode",
    "CacheFullError",
    "Gap",
    "QueueFullError",
    "TriMode",
    "__version__",
]

__version__ = _version("pytrimode")

import_problem = ""
"""Why the engine cannot be used; only `pytrimode doctor` goes on then, to say what to do."""


def _check_llama_cpp_python(built_for: str) -> None:
    """Refuse another version than the engine was compiled against: it uses libllama's C++ ABI."""
    try:
        installed = _version("llama-cpp-python")
    except _PackageNotFoundError:
        installed = "none"
    if installed != built_for:
        raise ImportError(
            f"pytrimode was built for llama-cpp-python {built_for}, installed is {installed}. "
            f"Either: pip install llama-cpp-python=={built_for}, "
            "or build pytrimode again, in its clone: pip install --force-reinstall --no-deps ."
        )


def _load_llguidance() -> None:
    """Load llguidance for the engine, which declares the structs of its C API itself and compares them."""
    from pytrimode.formats.constraint_check import library_path

    try:
        _native.load_llguidance(library_path())
    except RuntimeError as error:
        raise ImportError(
            f"{error}. Build pytrimode again, in its clone: pip install --force-reinstall --no-deps ."
        ) from None


try:
    from pytrimode.threads import bounded_waiting as _bounded_waiting

    with _bounded_waiting():
        from pytrimode import _native

    if not _native.OWN_LLAMA_CPP:
        _check_llama_cpp_python(_native.LLAMA_CPP_PYTHON_VERSION)
    _load_llguidance()
    from pytrimode._native import CacheFullError, QueueFullError
    from pytrimode.answers.filling import Gap
    from pytrimode.async_trimode import AsyncTriMode
    from pytrimode.options.modes import ALIASES, AR, AUTO, DIFFUSION, MODES, SELF_SPEC
    from pytrimode.trimode import TriMode
except ImportError as error:
    if _sys.argv[1:2] != ["doctor"]:
        raise
    import_problem = str(error)
