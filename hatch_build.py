"""Compiles the optional C loops of the tensor codecs into the package.

Run by hatchling for wheels and for editable installs.  Without a C compiler, or when it fails,
Stemma is installed all the same and uses numpy; the bytes it stores are the same.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sysconfig
import tempfile
import zlib
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = "src/stemma/store/codecs/kernels"
FLAGS = ("-std=c99", "-O3", "-fPIC", "-shared", "-fvisibility=default")
TIMEOUT_SECONDS = 120


class AcceleratorHook(BuildHookInterface[Any]):
    """Adds ``accelerator.so`` where it can be made."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and say that the wheel is for this platform only if that worked."""
        del version  # "standard" and "editable" are treated alike
        library = Path(self.root, FOLDER, "accelerator.so")
        library.unlink(missing_ok=True)  # one of an older source must not be packed
        if obstacle := compile_library(Path(self.root, FOLDER, "accelerator.c"), library):
            self.app.display_info(f"stemma: without C accelerator: {obstacle}")
            return
        build_data["artifacts"].append(f"/{FOLDER}/accelerator.so")
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"


def compile_library(source: Path, library: Path) -> str:
    """Compile ``source``; return why that was not possible, empty if it was."""
    compiler = shlex.split(os.environ.get("CC") or "cc")
    if shutil.which(compiler[0]) is None:
        return f"no C compiler ({compiler[0]})"
    stamp = f"-DSTEMMA_SOURCE_CRC32={zlib.crc32(source.read_bytes())}u"
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        made = Path(folder, library.name)
        command = [*compiler, *FLAGS, stamp, str(source), "-o", str(made)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        if done.returncode:
            return f"{shlex.join(command)}: {done.stderr.strip().splitlines()[-1:]}"
        made.replace(library)  # a process that has the old one open keeps it whole
    return ""
