from stemma.sdk.datasets import data as data
from stemma.sdk.plan import run as run
from stemma.sdk.runs import runs as runs
from stemma.sdk.settings import settings as settings
from stemma.sdk.versions import get as get
from stemma.sdk.versions import load as load
from stemma.sdk.versions import release as release

__version__: str
__all__ = ["__version__", "data", "get", "load", "release", "run", "runs", "settings"]
