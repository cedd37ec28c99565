"""How people and programs write numbers, dates and times, and what number each stands for.

A form is named by an example, or by the directives of `strptime`: `1.234,5` is 1234.5 with a point between thousands,
`%d.%m.%Y` the German order of a date. Dates are days since 1970 in UTC, times are hours.
"""

from __future__ import annotations

import datetime as dt
import functools
import math
import re
import sys
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from kansearch.specs.data import NUMBER_FORMS

PLAIN, TRUTH, ISO, CLOCK = "1234.5", "true, false", "ISO 8601", "12:30"
"""Numbers as programs write them, truth values (1 and 0), dates, and times of day or durations."""


def number(text: str, form: str, unit: str = "") -> float:
    """What a text stands for in a form; NaN where it is nothing in that form.

    Args:
        text: Without blanks around.
        form: One of `NUMBER_FORMS`, `TRUTH`, `ISO`, `CLOCK`, or directives of `strptime`.
        unit: What must stand beside the number.

    >>> number("1.023,50 €", "1.234,5", "€"), number("17%", PLAIN, "%"), number("31.12.1970", "%d.%m.%Y")
    (1023.5, 17.0, 364.0)
    """
    if form == TRUTH:
        return {"true": 1.0, "false": 0.0}.get(text.lower(), math.nan)
    if form == CLOCK:
        return _hours(text)
    if form == ISO:
        return _iso_days(text)
    if "%" in form:
        return _days(text, form)
    if form == PLAIN and not unit:
        return plain(text.replace(_MINUS, "-"))
    parts = split(text)
    return math.nan if parts is None or parts.unit != unit else body(parts.body, form)


# --- numbers ----------------------------------------------------------------------------------------


class Parts(NamedTuple):
    """A number, in whatever form, and what stands before or behind it."""

    body: str
    unit: str


_WORDS = r"(?:US|A|C|NZ|R|HK|S)\$|USD|EUR|GBP|CHF|JPY|CNY|INR|SEK|NOK|DKK|PLN|AUD|CAD|BRL|Rs\.?"
_SIGNS = "".join(sign for sign in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(sign) == "Sc")
_CURRENCY = rf"{_WORDS}|[{re.escape(_SIGNS)}]"
_MINUS = "\u2212"
_BLANKS = " \u00a0\u2009\u202f"
_QUOTES = "'\u2019"
_AROUND = re.compile(
    rf"(?P<open>\()?(?P<sign>[+-])?\s*(?P<before>{_CURRENCY})?\s*"
    rf"(?P<body>[+-]?[0-9.,](?:[0-9.,{_QUOTES}{_BLANKS}]*[0-9.,])?(?:[eE][+-]?[0-9]+)?)\s*"
    rf"(?P<after>[%‰]|{_CURRENCY}|(?:[^\W\d_]|°)(?:[^\W\d_]|[°²³/·. ])*)?(?P<close>\))?"
)
_FORM = re.compile(r"1([,.' ]?)234([.,])5")


@functools.lru_cache(maxsize=100_000)
def split(text: str) -> Parts | None:
    """The number in a text and its unit; None where there is no number in it, or more than that."""
    found = _AROUND.fullmatch(text.replace(_MINUS, "-"))
    if found is None or bool(found["open"]) != bool(found["close"]):
        return None
    sign, before, after = found["sign"] or "", found["before"] or "", (found["after"] or "").strip()
    if (before and after) or (sign and found["body"][0] in "+-"):
        return None
    if found["open"]:  # an accountant's way to write a negative amount
        if sign or not (before or after):
            return None
        sign = "-"
    return Parts(sign + found["body"], before or after)


def is_money(unit: str) -> bool:
    """Whether a unit is a currency."""
    return re.fullmatch(_CURRENCY, unit) is not None


def is_word(unit: str) -> bool:
    """Whether a unit has letters and is no currency; such as kg, and such as the B of seat 12B."""
    return not is_money(unit) and any(sign.isalpha() for sign in unit)


def plain(text: str) -> float:
    """A number as programs write it; NaN where the text is none."""
    try:
        return math.nan if "_" in text else float(text)
    except ValueError:
        return math.nan


def body(text: str, form: str) -> float:
    """A number without a unit in one of `NUMBER_FORMS`; NaN where it is none."""
    if form == PLAIN:
        return plain(text)
    pattern, groups, mark = _pattern(form)
    if not pattern.fullmatch(text):
        return math.nan
    return float(re.sub(f"[{re.escape(groups)}]", "", text).replace(mark, ".") if groups else text.replace(mark, "."))


@functools.cache
def _pattern(form: str) -> tuple[re.Pattern[str], str, str]:
    """What numbers of a form look like, the marks between thousands and the one before decimals."""
    found = _FORM.fullmatch(form)
    assert found is not None, form
    groups = {" ": _BLANKS, "'": _QUOTES}.get(found[1], found[1])
    whole = "[0-9]+"
    if groups:
        mark = f"[{re.escape(groups)}]"
        few = "{2,3}" if groups == "," else "{3}"  # India writes 12,34,567
        whole = f"(?:[1-9][0-9]{{0,2}}(?:{mark}[0-9]{few})*{mark}[0-9]{{3}}|[0-9]+)"
    point = re.escape(found[2])
    return re.compile(rf"[+-]?(?:{whole}(?:{point}[0-9]*)?|{point}[0-9]+)(?:[eE][+-]?[0-9]+)?"), groups, found[2]


def forms_of(bodies: Sequence[str]) -> list[str]:
    """Those of `NUMBER_FORMS` in which all of some numbers without units are written."""
    return [form for form in NUMBER_FORMS if all(not math.isnan(body(text, form)) for text in bodies)]


def is_ambiguous(forms: Sequence[str], bodies: Sequence[str], unit: str) -> bool:
    """Whether numbers that fit these forms have a mark that may stand before decimals or between thousands.

    1.234 alone is a number as programs write it; beside a currency it is as often a thousand. $1,023 has no decimals,
    since dollars have two.
    """
    if {"1234,5", "1,234.5"} <= set(forms) and any("," in text for text in bodies):
        return not unit.endswith(("$", "£", "¥", "₹"))
    return is_money(unit) and {PLAIN, "1.234,5"} <= set(forms) and any("." in text for text in bodies)


# --- dates and times --------------------------------------------------------------------------------

_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?", re.ASCII)
_TIME = re.compile(r"(\d{1,3}):([0-5]\d)(?::([0-5]\d(?:\.\d+)?))?(?:\s*([AaPp])\.?[Mm]\.?)?", re.ASCII)
_MOMENT = re.compile(rf"(.+?)(?:T|,?\s+)({_TIME.pattern})", re.ASCII)
_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - dates without a zone stay without
DATE_FORMS = (
    *(f"{a}{sign}{b}{sign}{y}" for sign in "./-" for a, b in (("%d", "%m"), ("%m", "%d")) for y in ("%Y", "%y")),
    *(f"%Y{sign}%m{sign}%d" for sign in "./-"),
    *(f"%y{sign}%m{sign}%d" for sign in "/-"),
    *(f"%d{sign}{month}{sign}{year}" for sign in " -/" for month in ("%b", "%B") for year in ("%Y", "%y")),
    *(f"{month} %d{comma} %Y" for month in ("%b", "%B") for comma in (",", "")),
    "%d. %B %Y",
    "%Y-%m",
    "%Y/%m",
    "%m/%Y",
    *(f"{month}{sign}{year}" for month in ("%b", "%B") for sign, year in ((" ", "%Y"), ("-", "%Y"), ("-", "%y"))),
)
"""Directives of `strptime` for days and months beside ISO 8601; a time may stand behind."""


def looks_iso(text: str) -> bool:
    """Whether a text has the digits and marks of a date in ISO 8601, be it in the calendar or not."""
    return _ISO_DATE.fullmatch(text) is not None


def date_forms(texts: Sequence[str], *more: str) -> list[str]:
    """The forms in which all of these texts are dates, one for each meaning; behind a point comes the month.

    Args:
        texts: All of a column.
        more: Forms to be tried beside the usual ones.
    """
    if all(not math.isnan(_iso_days(text)) for text in texts):
        return [ISO]
    fitting = [form for form in (*DATE_FORMS, *more) if all(not math.isnan(_days(text, form)) for text in texts)]
    meanings: dict[tuple[float, ...], str] = {}
    for form in fitting:
        meanings.setdefault(tuple(_days(text, form) for text in texts) if len(fitting) > 1 else (), form)
    dotted = [form for form in meanings.values() if form.startswith("%d.")]
    return dotted or list(meanings.values())


def is_date(text: str) -> bool:
    """Whether a text is a date in one form or another."""
    return bool(date_forms([text]))


def _iso_days(text: str) -> float:
    if not looks_iso(text):
        return math.nan
    try:
        moment = dt.datetime.fromisoformat(text)
        naive = moment if moment.tzinfo is None else moment.astimezone(dt.UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return math.nan
    return (naive - _EPOCH).total_seconds() / 86400


@functools.lru_cache(maxsize=100_000)
def _parsed(text: str, form: str) -> float:
    try:
        moment = dt.datetime.strptime(text, form)  # noqa: DTZ007 - dates without a zone stay without
        naive = moment if moment.tzinfo is None else moment.astimezone(dt.UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return math.nan
    return (naive - _EPOCH).total_seconds() / 86400


def _days(text: str, form: str) -> float:
    # The day first: it is in other rows too, and then known.
    found = _MOMENT.fullmatch(text)
    if found is not None:
        hours = _hours(found[2])
        if hours < 24 and not math.isnan(day := _parsed(found[1], form)):
            return day + hours / 24
    return _parsed(text, form)


def _hours(text: str) -> float:
    found = _TIME.fullmatch(text)
    if found is None:
        return math.nan
    hours, half = int(found[1]), (found[4] or "").lower()
    if half:
        if not 1 <= hours <= 12:
            return math.nan
        hours = hours % 12 + 12 * (half == "p")
    return hours + int(found[2]) / 60 + float(found[3] or 0) / 3600
