"""Where trimode-tiny is; importing this puts its modules on the path. Its name sorts before theirs."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
TEXT_MODEL = HERE.parent / "trimode-tiny"
sys.path.append(str(TEXT_MODEL))
