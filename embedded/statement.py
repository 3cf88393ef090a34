"""What the front must know of a statement before ClickHouse parses it: its verb, its format, and what is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass

STREAMABLE = frozenset(
    {
        "Native",
        "RowBinary",
        "TabSeparated",
        "TSV",
        "TabSeparatedRaw",
        "TSVRaw",
        "CSV",
        "JSONEachRow",
        "JSONLines",
        "NDJSON",
        "JSONCompactEachRow",
        "JSONStringsEachRow",
        "JSONCompactStringsEachRow",
        "LineAsString",
    }
)
"""Formats whose blocks, written one after the other, are the whole: no header, no footer, nothing between rows."""

_TOKEN = re.compile(
    rb"(?P<blank>\s+|--[^\n]*|\#[ !][^\n]*|/\*.*?(?:\*/|\Z))"
    rb"|(?P<quoted>'(?:[^'\\]|\\.|'')*(?:'|\Z)|\"(?:[^\"\\]|\\.)*(?:\"|\Z)|`(?:[^`\\]|\\.)*(?:`|\Z))"
    rb"|(?P<word>\w+)"
    rb"|(?P<sign>.)",
    re.DOTALL,
)
_NOT_CODE = re.compile(
    rb"--[^\n]*|\#[ !][^\n]*|/\*.*?(?:\*/|\Z)|'(?:[^'\\]|\\.|'')*(?:'|\Z)|\"(\w*)\"|`(\w*)`|\"(?:[^\"\\]|\\.)*(?:\"|\Z)|`(?:[^`\\]|\\.)*(?:`|\Z)",
    re.DOTALL,
)
_FORMAT = re.compile(rb"\bFORMAT\s+(\w+)\s*(?:\bSETTINGS\b[^;]*)?;?\s*\Z", re.IGNORECASE)
_BEFORE_DATA = re.compile(rb"[ \t\f]*\r?\n?")
_INPUT = re.compile(rb"\A\s*INSERT\b.*\binput\s*\(", re.IGNORECASE | re.DOTALL)
_KAFKA = re.compile(rb"\bENGINE\s*=?\s*Kafka\b", re.IGNORECASE)
_SEVERAL = re.compile(rb";\s*[^\s;]")
_TOTALS = re.compile(rb"\bTOTALS\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Statement:
    verb: str
    """Its first word in capitals, as SELECT; empty when it begins otherwise."""
    output_format: str
    """Named by its FORMAT clause; empty when there is none."""
    carries_data: bool
    """An INSERT whose rows stand in the text."""
    code: bytes
    """The statement without comments, data and the contents of strings."""
    infile_at: int = 0
    """Of an INSERT … FORMAT with data: where FROM INFILE would stand, before SETTINGS and FORMAT."""
    format_end: int = 0
    """Of the same: where its FORMAT clause ends; 0 for any other statement."""
    data_at: int = 0
    """Of the same: where its data begins."""

    @property
    def streamable(self) -> bool:
        """Whether its answer may be sent block by block, given a format that may."""
        return self.verb in ("SELECT", "WITH") and not _TOTALS.search(self.code)

    def refusal(self) -> tuple[int, str] | None:
        """ClickHouse's error code and the reason, for what must not reach the engine."""
        if _KAFKA.search(self.code):
            return 48, (
                "ENGINE = Kafka is not for the embedded ClickHouse: its data would not open again after a restart; "
                "`cexdex sink` feeds the tables. (NOT_IMPLEMENTED)"
            )
        if _INPUT.search(self.code):
            return 48, (
                "INSERT from input() is not served by the embedded ClickHouse; insert into a table. (NOT_IMPLEMENTED)"
            )
        if _SEVERAL.search(self.code):
            return 62, "Multi-statements are not allowed; send them one by one. (SYNTAX_ERROR)"
        return None


def read_statement(text: bytes) -> Statement:
    """Looks at a statement, data and all, without understanding it."""
    verb = ""
    infile_at = format_end = depth = 0
    before = b""
    for token in _TOKEN.finditer(text):
        kind = token.lastgroup
        if kind == "blank":
            continue
        if kind == "word":
            word = token.group().upper()
            if not verb:
                verb = word.decode("ascii", "replace")
                if verb != "INSERT":
                    break
            elif depth == 0 and before == b"FORMAT":
                format_end = token.end()
                break
            elif depth == 0 and word == b"VALUES":
                code = _code(text)
                return Statement(verb, "", True, code)
            elif word in (b"SELECT", b"WITH", b"INFILE", b"WATCH"):
                break
            elif depth == 0 and not infile_at and word in (b"SETTINGS", b"FORMAT"):
                infile_at = token.start()
            before = word
        else:
            if not verb and token.group() != b"(":
                break
            if kind == "sign":
                depth += {b"(": 1, b")": -1}.get(token.group(), 0)
            before = b""
    if format_end:
        return Statement(
            verb, "", True, _code(text[:format_end]), infile_at, format_end, _data_at(text, format_end)
        )
    code = _code(text)
    named = _FORMAT.search(code)
    return Statement(verb, named[1].decode() if named and verb != "INSERT" else "", False, code)


def _data_at(text: bytes, format_end: int) -> int:
    # As ClickHouse has it: blanks are skipped, then one line's end, and what follows is data byte for byte.
    found = _BEFORE_DATA.match(text, format_end)
    return found.end() if found else format_end


def _code(text: bytes) -> bytes:
    return _NOT_CODE.sub(_code_of, text)


def _code_of(found: re.Match[bytes]) -> bytes:
    name: bytes | None = found[1] or found[2]
    if name:
        return name  # a quoted name is the name
    return b"''" if found[0][:1] in b"'\"`" else b" "
