"""The verbs by task, and what people from other tools type instead.

Nothing here imports a verb: help, completion and did-you-mean read this table only.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Final, NamedTuple


class VerbEntry(NamedTuple):
    """One verb as help shows it.

    Attributes:
        module: Module in ``stemma.cli.commands``.
        summary: One line.
    """

    module: str
    summary: str


GROUPS: Final[Mapping[str, Mapping[str, VerbEntry]]] = {
    "Start": {
        "init": VerbEntry("init", "Make .stemma/ and stemma.toml here"),
        "add": VerbEntry("add", "Track data sets and files"),
        "run": VerbEntry("run", "Run a command and record all five components"),
        "status": VerbEntry(
            "status", "Compare the working tree with the last version; what serves"
        ),
    },
    "Version": {
        "release": VerbEntry("release", "Make an immutable version, numbered from evidence"),
        "log": VerbEntry("log", "List versions with metric, channels, who and why"),
        "show": VerbEntry("show", "Show one version: components, evidence, gates"),
        "diff": VerbEntry("diff", "Compare two versions component by component"),
        "checkout": VerbEntry("checkout", "Restore code, data, parameters and artifact"),
    },
    "Share": {
        "remote": VerbEntry("remote", "Name the places that versions are shared through"),
        "push": VerbEntry("push", "Copy releases and channels to a remote"),
        "pull": VerbEntry("pull", "Copy releases and channels from a remote"),
    },
    "Ship": {
        "check": VerbEntry("check", "Answer whether a version may ship"),
        "serve": VerbEntry("serve", "Serve versions and track runs"),
        "token": VerbEntry("token", "Say who may call a server from beyond this machine"),
        "rollout": VerbEntry("rollout", "Give a version more and more of the requests, judged"),
        "rollback": VerbEntry("rollback", "Bring production back to the previous stable version"),
    },
    "Look after": {
        "gc": VerbEntry("gc", "Free what nothing reaches"),
        "doctor": VerbEntry("doctor", "Find problems and name the commands that fix them"),
    },
}
"""Task -> verb -> entry, in the order of help."""

HIDDEN: Final[Mapping[str, VerbEntry]] = {
    "help": VerbEntry("help", "Explain a verb, or refs, gates, exit-codes, environment"),
    "completion": VerbEntry("completion", "Print the completion script of a shell"),
}

HABITS: Final[Mapping[str, str]] = {
    "commit": "release",
    "tag": "release",
    "register": "release",
    "publish": "push",
    "upload": "push",
    "export": "push",
    "sync": "push",
    "clone": "pull",
    "fetch": "pull",
    "download": "pull",
    "import": "pull",
    "login": "remote login",
    "remotes": "remote list",
    "origin": "remote add",
    "train": "run",
    "exec": "run",
    "repro": "run",
    "track": "add",
    "undo": "rollback",
    "revert": "rollback",
    "back": "rollback",
    "drill": "rollback --drill",
    "restore": "checkout",
    "switch": "checkout",
    "deploy": "rollout",
    "canary": "rollout",
    "ship": "rollout",
    "update": "rollout",
    "promote": "rollout promote",
    "abort": "rollout abort",
    "pause": "rollout pause",
    "resume": "rollout resume",
    "start": "serve",
    "up": "serve",
    "host": "serve",
    "server": "serve",
    "endpoint": "serve",
    "down": "serve --stop",
    "stop": "serve --stop",
    "ps": "status",
    "health": "status",
    "staging": "check --staging",
    "replay": "check --staging",
    "validate": "check",
    "gate": "check",
    "lint": "check",
    "test": "check",
    "compare": "diff",
    "ls": "log",
    "list": "log",
    "history": "log",
    "versions": "log",
    "models": "log",
    "info": "show",
    "describe": "show",
    "cat": "show",
    "prune": "gc",
    "clean": "gc",
    "fsck": "doctor",
    "verify": "doctor",
    "repair": "doctor",
    "config": "doctor --settings",
    "new": "init",
    "create": "init",
}
"""Words that people bring from other tools -> the verb they mean here."""


def all_verbs() -> dict[str, VerbEntry]:
    """Return every verb, hidden ones last."""
    found = {name: entry for group in GROUPS.values() for name, entry in group.items()}
    return {**found, **HIDDEN}


def suggest_verb(word: str) -> str:
    """Return what ``word`` most likely means, or an empty string."""
    if word in HABITS:
        return HABITS[word]
    near = difflib.get_close_matches(word, [*all_verbs(), *HABITS], n=1, cutoff=0.6)
    return HABITS.get(near[0], near[0]) if near else ""
