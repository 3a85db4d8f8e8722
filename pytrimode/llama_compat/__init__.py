"""`llama_cpp.Llama` of llama-cpp-python, in names and arguments, over `pytrimode.TriMode`.

`from pytrimode.llama_compat import Llama` takes the place of `from llama_cpp import Llama`.
"""

from pytrimode.llama_compat.grammar import LlamaGrammar
from pytrimode.llama_compat.llama import Llama
from pytrimode.llama_compat.state import LlamaState
from pytrimode.llama_compat.stopping import LogitsProcessorList, StoppingCriteriaList
from pytrimode.llama_compat.tokenizer import LlamaTokenizer

__all__ = ["Llama", "LlamaGrammar", "LlamaState", "LlamaTokenizer", "LogitsProcessorList", "StoppingCriteriaList"]
