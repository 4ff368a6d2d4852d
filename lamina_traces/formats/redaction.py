"""Text and secrets: which columns never enter a trace, and how a rejected line is shown without them."""

from __future__ import annotations

import functools
import itertools
import json
import re
from typing import Any

import polars as pl

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def _words(text: str) -> list[str]:
    return text.split()


_TEXT = frozenset(
    _words("""
    prompt prompts completion completions message messages content contents text texts response
    responses request body payload query question answer input inputs output outputs instruction
    instructions conversation conversations chat dialog dialogue transcript utterance reasoning
    thinking summary document documents passage passages snippet comment generated generation
    choices choice delta arguments
""")
)
_SECRET = frozenset(
    _words("""
    authorization auth password passwd secret secrets cookie cookies credential credentials bearer
    jwt apikey email mail phone ip ipv4 ipv6 ssn
""")
)
_SECRET_PAIRS = (
    ("api", "key"), ("access", "key"), ("private", "key"), ("access", "token"), ("auth", "token"),
    ("bearer", "token"), ("refresh", "token"), ("session", "token"), ("user", "agent"),
    ("first", "name"), ("last", "name"), ("full", "name"), ("user", "name"), ("client", "address"),
    ("remote", "address"), ("remote", "addr"), ("ip", "address"), ("ip", "addr"), ("mail", "address"),
)  # fmt: skip
_MEASURES = frozenset(
    _words("""
    token tokens tok toks length lengths len count counts num number size sizes bytes chars ms us ns s sec secs
    second seconds time times timestamp ts at id ids hash hashes rate ratio latency duration type kind
    status code index idx turn version model name class category lang language role
""")
)
_LABELS = _MEASURES | frozenset(
    _words("""
    uuid mark pstate phase mode unit units level state reason reasons gpu device cpu cpus engine backend dtype
    precision arch os platform region zone cluster pool queue scheduler policy runtime framework dataset task
    service workload stage step agent tool protocol method format layer operation op system provider family
    severity priority tier country timezone scenario project experiment run job node rack row partition vc
    trigger triggers operator group network optimizer algorithm strategy scheme processor accelerator driver cloud stack outcome result success
    """)
)
"""last words of names under which a short string is a label; under any other name only data is kept."""
DATA_PATTERN = (
    r"^\s*(?:[-+]?[\d.,:/+\-]*\d[\d.,:/+\-TZ ]*(?:[eE][-+]?\d+)? ?(?:[A-Za-z°%/]{0,4})"
    r"|[0-9a-fA-F]{8,}(?:-[0-9a-fA-F]{4,})*|(?i:true|false|yes|no|none|null|nan|n/?a|\[n/a\]|inf))?\s*$"
)
"""numbers (with a unit), dates, hexadecimal ids, truth values: what cannot be words of a person."""
_IS_DATA = re.compile(DATA_PATTERN)
LONGEST_STRING = 160
"""a longer string under any name is taken for free text."""
SECRET_PATTERN = r"[\w.+-]+@[\w-]+\.\w|\b(?:\d{1,3}\.){3}\d{1,3}\b|\bBearer\s+\S|\bsk-\w{8}|\beyJ\w{10}|-----BEGIN "  # noqa: S105 - a pattern
"""e-mail and IPv4 addresses, bearer tokens, keys (valid for Python's re and for polars)."""
_LOOKS_SECRET = re.compile(SECRET_PATTERN)
_SHOWN = frozenset(
    _words("""
    nan inf -inf infinity null none n/a [n/a] true false
""")
)
_PLAIN = re.compile(r"[\s\d.,:+\-/TZ]*")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def words_of(name: str) -> list[str]:
    """The words of a column's name, in lower case: ``promptTokens``, ``prompt_tokens`` → prompt, tokens."""
    return [w.lower() for w in _WORDS.findall(name)]


@functools.lru_cache(4096)
def is_private(name: str) -> bool:
    """Whether a column of this name holds text or a secret, to be dropped unless asked for.

    A name that ends as a measure (``prompt_tokens``, ``response time``, ``text_length``) is not text.
    """
    words = words_of(name)
    if not words:
        return False
    pairs = set(itertools.pairwise(words))
    if any(p in pairs for p in _SECRET_PAIRS) or any(w in _SECRET for w in words):
        return True
    if words == ["token"] or words[-1:] == ["token"]:
        return True
    if words[-1] in _MEASURES or words[0] in ("num", "n", "count"):
        return False
    return any(w in _TEXT for w in words)


@functools.lru_cache(4096)
def is_label(name: str) -> bool:
    """Whether strings under this name are labels (``status``, ``model_id``), not words of a person."""
    words = words_of(name)
    return bool(words) and words[-1] in _LABELS


def looks_private(value: str) -> bool:
    """Whether a string is free text or a secret by its own looks, whatever its column is called."""
    return len(value) > LONGEST_STRING or _LOOKS_SECRET.search(value) is not None


def without_private(value: Any, dropped: set[str], path: str = "") -> Any:
    """A JSON value less the keys that hold text or secrets; their paths are added to ``dropped``."""
    if isinstance(value, dict):
        out = {}
        for key, inner in value.items():
            at = f"{path}.{shown_name(str(key))}" if path else shown_name(str(key))
            if is_private(str(key)):
                dropped.add(at)
            else:
                kept = without_private(inner, dropped, at)
                if kept is not None or inner is None:
                    out[key] = kept
        return out
    if isinstance(value, list):
        return [without_private(v, dropped, path) for v in value]
    return cleaned(value, dropped, path) if isinstance(value, str) else value


def cleaned(text: str, dropped: set[str], path: str) -> str | None:
    """A string less what is private in it; None when it is private itself.

    JSON inside a string is looked through like JSON outside of one.
    """
    if text.lstrip()[:1] in ("{", "["):
        try:
            inner = json.loads(text)
        except (ValueError, RecursionError):
            pass
        else:
            before = len(dropped)
            kept = without_private(inner, dropped, path)
            if len(dropped) != before or kept != inner:
                text = json.dumps(kept, ensure_ascii=False, separators=(",", ":"))
            if looks_private(text):
                dropped.add(path)
                return None
            return text
    return None if _too_private(text, dropped, path) else text


def cleaned_column(column: pl.Series, dropped: set[str]) -> pl.Series:
    """A column of strings less those that are free text or secrets by their looks, as ``cleaned`` has it."""
    look = column.str.len_chars() > LONGEST_STRING
    look = look | column.str.contains(SECRET_PATTERN) | column.str.contains(r"^\s*[\[{]")
    if not is_label(column.name):
        look = look | ~column.str.contains(DATA_PATTERN)
    rows = look.fill_null(False).arg_true()
    if not len(rows):
        return column
    new = [cleaned(t, dropped, column.name) for t in column.gather(rows)]
    return column.scatter(rows, pl.Series(new, dtype=pl.String))


def _too_private(text: str, dropped: set[str], path: str) -> bool:
    name = path.rsplit(".", 1)[-1]
    if looks_private(text) or not (is_label(name) or _IS_DATA.match(text)):
        dropped.add(path)
        return True
    return False


_NAME = re.compile(r"[^\W\d][\w .\-/:%°()\[\]]{0,59}")


def shown_name(name: str) -> str:
    """The name of a column or key as messages may show it; what is no name (a line of text taken for a header,
    a mail address as a key) only by its shape."""
    return name if _NAME.fullmatch(name) and not looks_private(name) else masked(name, True)


def masked(cell: str, private: bool = False) -> str:
    """One value for people: numbers and instants as they are, of other text only the shape (``x`` for a
    letter, ``#`` for a digit, so that a mask is never taken for data)."""
    if not private and (
        cell.strip().lower() in _SHOWN
        or _NUMBER.fullmatch(cell.strip())
        or (_PLAIN.fullmatch(cell) and not looks_private(cell))
    ):
        return cell
    shape = _shape(cell)
    return shape if len(shape) <= 40 else f"{shape[:37]}…"


def _shape(text: str) -> str:
    return re.sub(r"[^\W\d_]", "x", re.sub(r"\d", "#", text))


def masked_cells(cells: list[str], names: tuple[str, ...], delimiter: str) -> str:
    """A delimited record with its structure kept."""
    out = [
        masked(c, private=i < len(names) and is_private(names[i]))
        for i, c in enumerate(cells[:200])
    ]
    return delimiter.join(out)[:1000]


def masked_json(line: str) -> str:
    """A JSON line with its structure and keys kept; of a broken one only the punctuation."""

    def walk(v: Any, private: bool) -> Any:
        if isinstance(v, dict):
            return {
                shown_name(str(k)): walk(x, private or is_private(str(k))) for k, x in v.items()
            }
        if isinstance(v, list):
            return [walk(x, private) for x in v[:20]] + (["…"] if len(v) > 20 else [])
        if isinstance(v, str):
            return masked(v, private)
        return masked(str(v), True) if private and v is not None and not isinstance(v, bool) else v

    try:
        return json.dumps(walk(json.loads(line), False), ensure_ascii=False)[:1000]
    except (ValueError, RecursionError):
        return _shape(line[:400])
