"""Which versions and tracked paths a damaged or missing object harms.

Invariants:
    * Everything that a version or a pointer names is asked for; what is not there is a problem.
    * A file that cannot be read because of a damaged frame is told below that frame, and a
      tree below its file, not as a problem of its own.
    * One listing of the store, each record and tree read once; trees only when something is
      damaged.

It reads names, not contents; ``stemma.store.verify`` has read those.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

from stemma.catalog import rows as build
from stemma.catalog.holdings import contents
from stemma.catalog.replay import Records, load_records
from stemma.domain.digest import Digest
from stemma.domain.errors import StemmaError
from stemma.store.keys import Family, ObjectKey, blob_key, frame_key, parse_key, record_key
from stemma.store.objects import ObjectStore
from stemma.store.recipes import decode_recipe
from stemma.store.verify import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectProblem:
    """One object that is damaged or missing.

    Attributes:
        kind: Stable machine name, as ``verify`` gives it, or ``missing-object``.
        key: Key of the object; of a missing one its digest.
        detail: What is wrong.
        files: Files and trees that cannot be read because of it, in words.
        versions: What it harms of versions, e.g. ``digits 1.1.0, 1.0.1: artifact``.
        paths: Tracked paths it harms.
        named: What else it harms, in words.
    """

    kind: str
    key: str
    detail: str
    files: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    named: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What is named beside versions.

    Attributes:
        tracked: Tree by tracked path.
        files: Files, each with what it is in words.
    """

    tracked: Mapping[str, Digest] = field(default_factory=dict)
    files: Sequence[tuple[str, Digest]] = ()


@dataclass(slots=True, kw_only=True)
class _Cause:
    """A problem while what it harms is being collected."""

    problem: Problem
    files: list[str] = field(default_factory=list)
    labels: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    paths: list[str] = field(default_factory=list)
    named: list[str] = field(default_factory=list)

    def finished(self) -> ObjectProblem:
        """Return it with everything about the same versions on one line."""
        parts: dict[tuple[str, ...], list[str]] = {}
        for (model, part), labels in self.labels.items():
            parts.setdefault((model, *labels), []).append(part)
        return ObjectProblem(
            kind=self.problem.kind,
            key=self.problem.key,
            detail=self.problem.detail,
            files=tuple(self.files),
            versions=tuple(
                f"{model} {', '.join(labels)}: {', '.join(named)}"
                for (model, *labels), named in parts.items()
            ),
            paths=tuple(dict.fromkeys(self.paths)),
            named=tuple(self.named),
        )


def find_harm(
    objects: ObjectStore,
    problems: Sequence[Problem],
    named: Named,
    absent: Mapping[Digest, Mapping[Digest, Digest | None]],
) -> list[ObjectProblem]:
    """Return every problem of the store with what it harms.

    Args:
        objects: The store.
        problems: What ``verify`` found in it.
        named: What is named beside versions.
        absent: Contents that were left on a remote on purpose, by manifest, with the tree of
            what is here of each.
    """
    return _Search(objects, problems).run(load_records(objects), named, absent)


@final
class _Search:
    """Walks from versions to causes: manifest → tree → file → problem."""

    def __init__(self, objects: ObjectStore, problems: Sequence[Problem]) -> None:
        found = (parse_key(stat.key) for stat in objects.backend.list())
        self._objects = objects
        self._present = {key for key in found if key is not None}
        self._causes = {problem.key: _Cause(problem=problem) for problem in problems}
        self._is_damaged = bool(problems)
        self._of_object: dict[Digest, list[_Cause]] = {}
        self._of_tree: dict[Digest, list[_Cause]] = {}
        self._group()

    def run(
        self,
        records: Records,
        beside: Named,
        absent: Mapping[Digest, Mapping[Digest, Digest | None]],
    ) -> list[ObjectProblem]:
        """Collect what each cause harms."""
        names = _names(records)
        for digest, labels in names.items():
            manifest = records.manifests.get(digest)
            left = absent.get(digest, {})
            for part, named in contents(manifest) if manifest else ():
                content: Digest | None = named
                if named in left and not self._is_here(named):
                    content = left[named]
                for cause in self._causes_of(content) if content else ():
                    for model, label in labels:
                        known = cause.labels.setdefault((model, part), [])
                        if label not in known:
                            known.append(label)
        self._harm_beside(beside)
        self._harm_records(records)
        return [cause.finished() for cause in self._causes.values()]

    def _harm_beside(self, beside: Named) -> None:
        for path, content in beside.tracked.items():
            for cause in self._causes_of(content):
                cause.paths.append(path)
        for words, content in beside.files:
            for cause in self._causes_of(content):
                cause.named.append(words)

    def _group(self) -> None:
        """Put files below the frames, and trees below the files, that are the cause."""
        for family, causes_of in (
            (Family.RECIPE, self._frames_of),
            (Family.TREE, self._files_of),
        ):
            for key, cause in list(self._causes.items()):
                name = parse_key(key)
                if name is None or name.family is not family:
                    continue
                deeper = list({id(found): found for found in causes_of(name)}.values())
                if deeper:
                    del self._causes[key]
                    what = cause.problem.detail.partition(", first ")[0]
                    word = "file" if family is Family.RECIPE else "tree"
                    for found in deeper:
                        found.files.append(f"{word} {name.digest}: {what}")
                self._of_object.setdefault(name.digest, []).extend(deeper or [cause])

    def _frames_of(self, name: ObjectKey) -> Iterator[_Cause]:
        """Yield the damaged frames that hold chunks of a file."""
        try:
            recipe = decode_recipe(self._objects.backend.get(blob_key(name)), name.digest)
        except StemmaError:
            return
        found = self._objects.index.find(chunk.digest for chunk in recipe.chunks)
        for key in sorted({frame_key(location.frame) for location in found.values()}):
            if key in self._causes:
                yield self._causes[key]

    def _files_of(self, name: ObjectKey) -> Iterator[_Cause]:
        """Yield why files of a tree cannot be read."""
        try:
            entries = self._objects.read_tree(name.digest).entries
        except StemmaError:
            return
        for entry in entries:
            if entry.digest is not None:
                yield from self._of_object.get(entry.digest, [])

    def _causes_of(self, content: Digest) -> Iterable[_Cause]:
        """Return why a tree or file cannot be read whole; nothing when it can."""
        if content not in self._of_tree:
            self._of_tree[content] = list(self._search(content))
        return self._of_tree[content]

    def _is_here(self, content: Digest) -> bool:
        named = (ObjectKey(family, "", content.hex) for family in (Family.TREE, Family.RECIPE))
        return any(key in self._present for key in named) or self._objects.has(content)

    def _search(self, content: Digest) -> Iterator[_Cause]:
        is_tree = ObjectKey(Family.TREE, "", content.hex) in self._present
        if not self._is_here(content):
            problem = Problem(
                kind="missing-object", key=str(content), detail="it is not in the store"
            )
            yield self._causes.setdefault(problem.key, _Cause(problem=problem))
            return
        if not self._is_damaged:
            return
        causes = {id(cause): cause for cause in self._of_object.get(content, [])}
        if is_tree:
            named = self._files_of(ObjectKey(Family.TREE, "", content.hex))
            causes.update({id(cause): cause for cause in named})
        yield from causes.values()

    def _harm_records(self, records: Records) -> None:
        """Name the releases whose manifest is damaged or gone."""
        for release in records.releases.values():
            if release.manifest in records.manifests:
                continue
            key = record_key(build.MANIFEST, release.manifest)
            problem = Problem(kind="missing-object", key=key, detail="it is not in the store")
            cause = self._causes.setdefault(key, _Cause(problem=problem))
            cause.labels.setdefault((release.model, "manifest"), []).append(release.version)


def _names(records: Records) -> dict[Digest, list[tuple[str, str]]]:
    """Return model and number of each version, newest first; of an unreleased one its run."""
    names: dict[Digest, list[tuple[str, str]]] = {}
    for release in sorted(records.releases.values(), key=lambda item: -item.sequence):
        names.setdefault(release.manifest, []).append((release.model, release.version))
    unreleased = records.manifests.keys() - names.keys()
    for digest in sorted(unreleased):
        manifest = records.manifests[digest]
        names[digest] = [(manifest.model, manifest.provenance.run)]
    # Dictionaries keep their order: newest release first, then runs.
    return names
