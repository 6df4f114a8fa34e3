"""The grammar and its parser. Only this module imports the parser library."""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from lark import Lark, Token, Transformer, UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from motoko.core.constraints.syntax_tree import (
    NAME,
    WORD,
    Not,
    Operator,
    RawComparison,
    RawValue,
    Tree,
    conjunction,
    disjunction,
)
from motoko.core.constraints.typing import ConstraintFault

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_LENGTH: Final = 100_000
MAX_DEPTH: Final = 32

_GRAMMAR: Final = rf"""
?listing: disjunction ("," disjunction)*
?disjunction: conjunction (_OR conjunction)*
?conjunction: negation (_AND negation)*
?negation: _NOT negation -> inverse
    | "(" listing ")" -> group
    | NAME OPERATOR value -> comparison
    | NAME _IN members -> member
    | NAME _NOT _IN members -> non_member
members: "(" value ("," value)* ")"
value: NUMBER | TEXT | WORD

NAME: /{NAME}/
OPERATOR: /!?~\*?|[<>=!]=|[<>=]/
_IN.2: /in(?![\w.])/i
_OR.2: /or(?![\w.])/i
_AND.2: /and(?![\w.])/i
_NOT.2: /not(?![\w.])/i
NUMBER: /[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?(?![-\w.])/
TEXT: /"(?:[^"\\]|\\.|"")*"|'(?:[^'\\]|\\.|'')*'/s
WORD.1: /{WORD}/
%ignore /\s+/
"""

_EXPECTED: Final = {
    "NAME": "a column name", "OPERATOR": "an operator such as = or < or in", "NUMBER": "a value",
    "_AND": "'and', 'or' or ','", "_IN": "'in'", "LPAR": "'('",
}  # fmt: skip
_KINDS: Final = {"NUMBER": "number", "TEXT": "text", "WORD": "word"}
_OPERATORS: Final = {
    "<>": "!=", "=<": "<=", "=>": ">=", "=!": "!=", "=~": "~", "===": "=",
}  # fmt: skip
_JOINTS: Final = {
    "&&": "and", "||": "or", ":=": "=", "&": "and", "|": "or", "!": "not", ":": "=", ";": "and",
}  # fmt: skip


class _Nested(NamedTuple):
    """A tree, and the nesting depth of parentheses and negations in its text."""

    tree: Tree[RawComparison]
    depth: int


class _Builder(Transformer[Token, _Nested]):
    """Builds the tree while the parser reduces, without a walk over a deep tree."""

    def listing(self, parts: list[_Nested]) -> _Nested:
        return _Nested(conjunction(tuple(part.tree for part in parts)), _deepest(parts))

    conjunction = listing

    def disjunction(self, parts: list[_Nested]) -> _Nested:
        return _Nested(disjunction(tuple(part.tree for part in parts)), _deepest(parts))

    def inverse(self, parts: list[_Nested]) -> _Nested:
        return _Nested(Not(parts[0].tree), parts[0].depth + 1)

    def group(self, parts: list[_Nested]) -> _Nested:
        return _Nested(parts[0].tree, parts[0].depth + 1)

    def comparison(self, parts: list[Any]) -> _Nested:
        name, sign, value = parts
        negated = sign.startswith("!")
        operator = "=" if sign in ("==", "!=") else sign.lstrip("!")
        return _Nested(_written(name, cast("Operator", operator), negated, (value,)), 0)

    def member(self, parts: list[Any]) -> _Nested:
        return _Nested(_written(parts[0], "in", False, parts[1]), 0)

    def non_member(self, parts: list[Any]) -> _Nested:
        return _Nested(_written(parts[0], "in", True, parts[1]), 0)

    def members(self, values: list[RawValue]) -> tuple[RawValue, ...]:
        return tuple(values)

    def value(self, tokens: list[Token]) -> RawValue:
        token = tokens[0]
        kind = cast("Any", _KINDS[token.type])
        return RawValue(kind, _unquoted(token) if kind == "text" else str(token), _start(token))


def _written(
    name: Token, operator: Operator, negated: bool, values: tuple[RawValue, ...]
) -> RawComparison:
    return RawComparison(str(name), _start(name), operator, negated, values)


def _deepest(parts: Iterable[_Nested]) -> int:
    return max(part.depth for part in parts)


def _start(token: Token) -> int:
    return token.start_pos or 0


def _unquoted(token: str) -> str:
    quote = token[0]
    return re.sub(rf"\\([\\{quote}])|({quote}){quote}", r"\1\2", token[1:-1])


@cache
def _parser() -> Lark:
    return Lark(_GRAMMAR, start="listing", parser="lalr", transformer=_Builder())


@lru_cache(maxsize=256)
def parse_text(text: str) -> Tree[RawComparison]:
    """Return the tree of ``text``, which is not blank, or raise ConstraintFault."""
    if len(text) > MAX_LENGTH:
        message = f"it has {len(text)} characters; at most {MAX_LENGTH} are allowed"
        raise ConstraintFault(MAX_LENGTH, message, "Select in several steps.")
    try:
        nested = cast("_Nested", _parser().parse(text))
    except UnexpectedInput as unexpected:
        raise _fault(text, unexpected) from None
    if nested.depth > MAX_DEPTH:
        message = f"it is nested {nested.depth} deep; at most {MAX_DEPTH} are allowed"
        raise ConstraintFault(0, message, "Remove needless parentheses and negations.")
    return nested.tree


def _fault(text: str, unexpected: UnexpectedInput) -> ConstraintFault:
    at, expected = len(text.rstrip()), set[str]()
    if isinstance(unexpected, UnexpectedToken):
        expected = set(unexpected.accepts or unexpected.expected)
        if unexpected.token.type != "$END":
            at = _start(unexpected.token)
    elif isinstance(unexpected, UnexpectedCharacters):
        expected = set(unexpected.allowed)
        at = unexpected.pos_in_stream or 0
    found = _found(text, at)
    if found == "')'" and not expected & {"NAME", "OPERATOR", "NUMBER", "_IN", "LPAR"}:
        return ConstraintFault(at, "this ')' closes nothing")
    message = f"expected {_wanted(expected)}, found {found or 'the end'}"
    return ConstraintFault(at, message, _hint(text, at, found, expected))


def _found(text: str, at: int) -> str:
    match = re.compile(r"[\w.]+|\)|[^\w\s]{1,3}").match(text, at)
    return "" if match is None else f"'{match[0]}'"


def _wanted(expected: set[str]) -> str:
    return next((text for token, text in _EXPECTED.items() if token in expected), "',' or ')'")


def _hint(text: str, at: int, found: str, expected: set[str]) -> str | None:
    rest = text[at:]
    if rest[:1] in ('"', "'") and not re.match(r"""(["']).*\1""", rest, re.DOTALL):
        return "The quote is not closed."
    spelling = _misspelt(text, at, "NUMBER" in expected)
    if spelling is not None:
        return spelling
    if "NAME" in expected:
        if rest[:1] in ('"', "'") or re.match(r"[-+.]?[0-9]", rest):
            return "The column comes first: write 'id > 3', not '3 < id'."
        return None
    if "NUMBER" in expected:
        return "A value is a number, a word, true or false; put any other text in quotes."
    if "OPERATOR" in expected:
        return "A comparison reads 'state = FINISHED' or 'id in (1, 2)'."
    if "_AND" in expected and found:
        return "Join comparisons with 'and', 'or' or a comma; put text with spaces in quotes."
    return "Write 'in (a, b)' or 'not in (a, b)'." if expected & {"LPAR", "_IN"} else None


def _misspelt(text: str, at: int, after_operator: bool) -> str | None:
    if after_operator:
        table = _OPERATORS
        spellings = [text[at - 2 : at + 1], text[at - 1 : at + 1]] if at > 1 else []
    else:
        table, spellings = _JOINTS, [text[at : at + 2], text[at : at + 1]]
    for spelling in spellings:
        if spelling in table:
            return f"Write {table[spelling]!r}, not {spelling!r}."
    return None
