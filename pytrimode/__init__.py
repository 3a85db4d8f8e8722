"""Run NVIDIA Nemotron-Labs-Diffusion tri-mode models from GGUF: ar, diffusion and self-spec from one set of weights."""

from importlib.metadata import PackageNotFoundError as _PackageNotFoundError
from importlib.metadata import version as _version

from pytrimode import _native
from pytrimode._native import QueueFullError
from pytrimode.async_trimode import AsyncTriMode
from pytrimode.modes import ALIASES, AR, AUTO, DIFFUSION, MODES, SELF_SPEC
from pytrimode.trimode import TriMode

__all__ = [
    "ALIASES",
    "AR",
    "AUTO",
    "DIFFUSION",
    "MODES",
    "SELF_SPEC",
    "AsyncTriMode",
    "QueueFullError",
    "TriMode",
    "__version__",
]

__version__ = _version("pytrimode")


def _check_llama_cpp_python(built_for: str) -> None:
    """The native engine uses libllama's C++ ABI: it works with the version that it was compiled against, no other."""
    try:
        installed = _version("llama-cpp-python")
    except _PackageNotFoundError:
        installed = "none"
    if installed != built_for:
        raise ImportError(
            f"pytrimode was built for llama-cpp-python {built_for}, installed is {installed}. "
            f"Either: pip install llama-cpp-python=={built_for}, "
            "or build pytrimode again: pip install --force-reinstall --no-deps pytrimode"
        )


_check_llama_cpp_python(_native.LLAMA_CPP_PYTHON_VERSION)
