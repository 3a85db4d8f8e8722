"""`python tools/gpu_suite --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gpu_suite.main import main

main()
