"""Print what kansearch needs, with these extras: `python docker/requirements.py postgres s3`."""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = project["optional-dependencies"]
print(*project["dependencies"], *(need for extra in sys.argv[1:] for need in extras[extra]), sep="\n")
