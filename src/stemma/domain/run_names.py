"""Names for runs that were given none, so that people can speak of them.

Invariants:
    * A name is a function of the run's id alone.

Names are not unique; ids are.

Example:
    >>> name_of(RunId("r-7f3c2a90"))
    'sharp-koala-559'
"""

from __future__ import annotations

from typing import Final

from stemma.domain.run import RunId

_ADJECTIVES: Final = """
amber agile bold brisk calm clear cosmic crisp deft early fair fleet fond glad golden grand hardy
honest keen kind lively lucky mellow merry neat nimble noble patient polite proud quick quiet rapid
ready robust rustic sage serene sharp silent silver sleek smart solid spry stable steady still
sturdy subtle sunny sure swift tidy upbeat useful valiant vivid warm wise witty young zesty
"""
_NOUNS: Final = """
acorn alder ant aspen badger beech birch bison cedar cod crane cricket crow deer dove eagle elk elm
falcon fern finch fir fox gecko goose hare hawk hazel heron ibex ivy jay koala lark larch lemur lily
lynx maple marten mole moss newt oak otter owl panda pine plover quail raven robin rook seal shrew
stork swan tern thrush toad trout viper willow wren yew
"""
_DIGITS: Final = 12
_NUMBERS: Final = 1000


def name_of(run: RunId) -> str:
    """Return the run's name: an adjective, an animal or tree, and a number."""
    adjectives, nouns = _ADJECTIVES.split(), _NOUNS.split()
    number = int(run.removeprefix("r-")[:_DIGITS], 16)
    rest, adjective = divmod(number, len(adjectives))
    rest, noun = divmod(rest, len(nouns))
    return f"{adjectives[adjective]}-{nouns[noun]}-{rest % _NUMBERS}"
