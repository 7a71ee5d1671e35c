"""Find visual cues and their negation in the text of a reply, with an editable lexicon.

The negation follows NegEx (Chapman et al., Journal of Biomedical Informatics 34, 2001): a word such as "no" denies what
follows within a few words in the same clause. It is a rule about words, not an understanding of the text;
docs/response-analysis.md reports its measured error rate.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import content_key
from connectomebench.core.resources import resource_path

DEFAULT_LEXICON = "eval/reply_cues.yaml"
"""The lexicon that comes with the package."""

Reading = Literal["affirmed", "denied", "named"]
"""How a reply mentions a cue: as there, as not there, or only as the heading of what follows."""

_VERSION = 1
_LARGEST = 2**20
_TOKEN = re.compile(r"[^\W_]+(?:['’][^\W_]+)?|[.;:!?()\[\],\n—–]")
_STOPS = frozenset(".;:!?()[]\n—–")
_OPENING = frozenset("(—–")
_CONTRACTED = re.compile(r"n['’]t$")
_PATTERN_WORD = re.compile(r"~|[^\W_]+\*?(?:\|[^\W_]+\*?)*")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}", re.ASCII)
# up to three words between, none of which reverses the meaning
_BETWEEN = r"(?: (?!(?:no|not|never|nor|without) )[^\W_]{1,60}){0,3}"
_ENDING = r"[^\W_]{0,60}"
_AFTER_REACH = 3
_HEADING_WORDS = 4
_LIST_REACH = 8


@dataclass(frozen=True)
class Cue:
    """A visual cue and the patterns that name it.

    Attributes
    ----------
    name, title
        Key in the file, and display name.
    words, opposite, exceptions
        Patterns that name the cue, name its reverse, and only look like it; None if there are none.
    """

    name: str
    title: str
    words: re.Pattern[str]
    opposite: re.Pattern[str] | None
    exceptions: re.Pattern[str] | None


@dataclass(frozen=True)
class Lexicon:
    """Cues, and the words that deny them.

    Attributes
    ----------
    cues
        In the order of the file.
    before, after
        Patterns that deny a cue after them, and a cue before them.
    exceptions
        Patterns that look like a negation but are none.
    ends
        Patterns that end a clause, besides punctuation.
    reach
        Maximum number of words between a negation and the cue it denies.
    key
        Hash of the file's content, so that results name the lexicon they used.
    """

    cues: tuple[Cue, ...]
    before: re.Pattern[str]
    after: re.Pattern[str] | None
    exceptions: re.Pattern[str] | None
    ends: re.Pattern[str] | None
    reach: int
    key: str


@dataclass(frozen=True)
class Mention:
    """One mention of a cue in a text; ``start`` and ``end`` count characters."""

    cue: str
    reading: Reading
    start: int
    end: int


def read_lexicon(path: Path | None = None) -> Lexicon:
    """Read a lexicon.

    Parameters
    ----------
    path
        YAML file in the format of ``eval/reply_cues.yaml``, which is the default.

    Raises
    ------
    ConnectomeBenchError
        If it cannot be read or is not a lexicon; the message names the location.
    """
    import yaml

    path = path or resource_path(DEFAULT_LEXICON)
    try:
        if path.stat().st_size > _LARGEST:
            raise ConnectomeBenchError(f"{path} is larger than 1 MiB; give a lexicon of words")
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConnectomeBenchError(f"cannot read the lexicon {path}: {error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConnectomeBenchError(f"{path} is not YAML: {' '.join(str(error).split())[:160]}") from error
    try:
        return _lexicon(data)
    except ConnectomeBenchError as error:
        raise ConnectomeBenchError(f"{path}: {error}") from None


def find_mentions(text: str, lexicon: Lexicon) -> list[Mention]:
    """Find every mention of every cue.

    Parameters
    ----------
    text
        Text of a reply.
    lexicon
        From `read_lexicon`.

    Returns
    -------
    list[Mention]
        By cue in the order of the lexicon, then by place. A denied reverse ("no discontinuity") affirms, an affirmed
        reverse denies.
    """
    tokens, spans, joined, starts = _tokens(text)
    # an exception is masked at its own length, so that positions stay
    plain = lexicon.exceptions.sub(lambda m: "#" * len(m[0]), joined) if lexicon.exceptions else joined
    denying = sorted(last for _, last in _places(lexicon.before, plain, starts))
    after = sorted(first for first, _ in _places(lexicon.after, plain, starts))
    ends = {first for first, _ in _places(lexicon.ends, joined, starts)}
    stops = sorted(ends | {i for i in range(len(tokens)) if _stops(tokens, i)})
    commas = [0, *accumulate(token == "," for token in tokens)]
    mentions = []
    for cue in lexicon.cues:
        clean = cue.exceptions.sub(lambda m: "#" * len(m[0]), joined) if cue.exceptions else joined
        found = [(*place, False) for place in _places(cue.words, clean, starts)]
        found += [(*place, True) for place in _places(cue.opposite, clean, starts)]
        for first, last, reverse in sorted(found):
            denied = _denied((first, last), commas, denying, after, stops, lexicon.reach) != reverse
            reading: Reading = "named" if _heads(tokens, first, last) else "denied" if denied else "affirmed"
            mentions.append(Mention(cue.name, reading, spans[first][0], spans[last][1]))
    return mentions


def _tokens(text: str) -> tuple[list[str], list[tuple[int, int]], str, list[int]]:
    """Return lower-case words and punctuation, their positions, their joined text, and their starts in it."""
    tokens, spans = [], []
    for match in _TOKEN.finditer(text):
        word = match[0].lower()
        parts = [_CONTRACTED.sub("", word), "not"] if _CONTRACTED.search(word) else [word]
        parts = ["can", "not"] if word == "cannot" else parts
        tokens += parts
        spans += [match.span()] * len(parts)
    starts, at = [], 1
    for token in tokens:
        starts.append(at)
        at += len(token) + 1
    return tokens, spans, f" {' '.join(tokens)} ", starts


def _places(pattern: re.Pattern[str] | None, joined: str, starts: Sequence[int]) -> list[tuple[int, int]]:
    """Return first and last token of every match."""
    if pattern is None:
        return []
    return [(bisect_left(starts, m.start()), bisect_left(starts, m.end()) - 1) for m in pattern.finditer(joined)]


def _denied(
    place: tuple[int, int],
    commas: Sequence[int],
    denying: Sequence[int],
    after: Sequence[int],
    stops: Sequence[int],
    reach: int,
) -> bool:
    """Check whether a negation in the same clause reaches the given tokens.

    ``denying`` are the last tokens of negations, ``after`` the first ones of those that come after, ``stops`` the
    tokens that end a clause, all ascending; ``commas`` counts the commas before each token.
    """
    first, last = place
    number = bisect_left(denying, first)
    if number and not _any_between(stops, begin := denying[number - 1] + 1, first):
        return first - begin - (commas[first] - commas[begin]) <= reach
    number = bisect_left(after, last + 1)
    return (
        number < len(after)
        and after[number] <= last + 1 + _AFTER_REACH
        and not _any_between(stops, last + 1, after[number])
    )


def _any_between(places: Sequence[int], begin: int, end: int) -> bool:
    """Check whether one of the ascending places lies in [begin, end)."""
    number = bisect_left(places, begin)
    return number < len(places) and places[number] < end


def _stops(tokens: Sequence[str], i: int) -> bool:
    """Check whether a clause ends at a token: not at the comma of a list with "or", nor before "such as" or "e.g."."""
    ahead = tokens[i + 1 : i + 1 + _LIST_REACH]
    if tokens[i] == ",":
        end = next((k for k, token in enumerate(ahead) if token in _STOPS), len(ahead))
        return not {"or", "nor", "such"} & set(ahead[:end])
    if tokens[i] in _OPENING and ahead[:1] in (["such"], ["like"], ["e"]):
        return False
    return tokens[i] in _STOPS and not (tokens[i] == "." and tokens[max(i - 1, 0)] in ("e", "g"))


def _heads(tokens: Sequence[str], first: int, last: int) -> bool:
    """Check whether the tokens are (in) a heading: a few words between a line's start or a number and a colon."""
    end = next((i for i in range(last + 1, min(last + 1 + _HEADING_WORDS, len(tokens))) if tokens[i] in _STOPS), None)
    if end is None or tokens[end] != ":":
        return False
    start = next((i for i in range(first - 1, max(first - 1 - _HEADING_WORDS, -1), -1) if tokens[i] in _STOPS), None)
    return (start is None and first < _HEADING_WORDS) or (start is not None and tokens[start] in ("\n", "."))


def _lexicon(data: Any) -> Lexicon:
    """Validate the content of a file and compile its patterns."""
    top = _mapping(data, "the file", {"version", "negation", "cues"})
    if top.get("version") != _VERSION:
        raise ConnectomeBenchError(f"version is {top.get('version')!r}; this is read: {_VERSION}")
    negation = _mapping(top.get("negation"), "negation", {"before", "after", "except", "ends", "reach"})
    reach = negation.get("reach")
    if type(reach) is not int or not 0 <= reach <= 50:
        raise ConnectomeBenchError("negation: reach must be a whole number of words from 0 to 50")
    before = _pattern(negation.get("before"), "negation: before")
    if before is None:
        raise ConnectomeBenchError("negation: before names no word; give at least one, such as 'not'")
    cues = []
    for name, entry in _mapping(top.get("cues"), "cues", None).items():
        if not _NAME.fullmatch(name):
            raise ConnectomeBenchError(f"cues: the name {name[:40]!r} must be of small letters, digits and _")
        entry = _mapping(entry, f"cue {name}", {"title", "words", "opposite", "except"})
        title = entry.get("title")
        if not isinstance(title, str) or not title.strip():
            raise ConnectomeBenchError(f"cue {name}: give it a title")
        words, opposite, exceptions = (
            _pattern(entry.get(key), f"cue {name}: {key}") for key in ("words", "opposite", "except")
        )
        if words is None:
            raise ConnectomeBenchError(f"cue {name}: words names nothing; give at least one pattern")
        cues.append(Cue(name, title, words, opposite, exceptions))
    if not cues:
        raise ConnectomeBenchError("cues names nothing; give at least one cue")
    after, exceptions, ends = (_pattern(negation.get(key), f"negation: {key}") for key in ("after", "except", "ends"))
    return Lexicon(tuple(cues), before, after, exceptions, ends, reach, content_key(data))


def _mapping(value: Any, what: str, known: set[str] | None) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ConnectomeBenchError(f"{what} must be a mapping of names")
    if known is not None and (unknown := set(value) - known):
        raise ConnectomeBenchError(f"{what} knows no {min(unknown)!r}; it may hold {', '.join(sorted(known))}")
    return value


def _pattern(value: Any, what: str) -> re.Pattern[str] | None:
    """Compile a list of patterns; None if it is missing or empty."""
    if value is None or value == []:
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ConnectomeBenchError(f"{what} must be a list of words (put yes and no in quotes)")
    # longest first, so that "smooth transition" is found before "smooth"
    written = sorted((_expression(item, what) for item in value), key=len, reverse=True)
    return re.compile(rf"(?<= )(?:{'|'.join(written)})(?= )")


def _expression(pattern: str, what: str) -> str:
    words = pattern.lower().replace("-", " ").split()
    if not words or "~" in (words[0], words[-1]) or not all(_PATTERN_WORD.fullmatch(word) for word in words):
        raise ConnectomeBenchError(f"{what}: {pattern!r} is no pattern; write words, * for any ending, | and ~")
    expression = ""
    for word in words:
        if word == "~":
            expression += _BETWEEN
            continue
        choices = [re.escape(choice.rstrip("*")) + (_ENDING if "*" in choice else "") for choice in word.split("|")]
        expression += f"{' ' if expression else ''}(?:{'|'.join(choices)})"
    return expression
