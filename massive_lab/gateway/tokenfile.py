"""Proxy tokens as they are configured: a list in a variable, or a TOML file that is read again when it changes.

::

    [tokens.desk]
    token = "..."                      # or tokens = ["new", "old"] while one replaces the other
    calls_per_minute = 600             # optional
    topics = ["AM.*", "options/T.O:SPY*"]
    clusters = ["stocks", "options"]
    expires = 2027-01-31T00:00:00Z

Every fault of a text is found at once; no message holds a token or anything that might be one.
"""

from __future__ import annotations

import datetime as dt
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from massive_lab.config import Secret
from massive_lab.errors import ConfigError
from massive_lab.gateway.tokens import TokenRule, is_name, is_pattern, is_token
from massive_lab.live.topics import CLUSTERS
from massive_lab.typing import Cluster

__all__ = ["GatewayConfigError", "doubled", "parse_token_list", "read_token_file"]

_FIELDS = frozenset(("token", "tokens", "calls_per_minute", "topics", "clusters", "expires"))
_TOKEN_FORM = "16 to 512 printable ASCII characters without blank or comma"  # noqa: S105  (a description)


class GatewayConfigError(ConfigError):
    """Everything that is wrong with the configuration, in one text.

    Attributes
    ----------
    problems : tuple of str
        One sentence each; all name the variable, none its secret.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        lines = "".join(f"\n  - {problem}" for problem in self.problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__(f"The gateway cannot start, {count}:{lines}")


def parse_token_list(text: str) -> tuple[tuple[TokenRule, ...], list[str]]:
    """Read ``name:token,name:token``; returns the tokens and what is wrong.

    Examples
    --------
    >>> rules, problems = parse_token_list("desk:0123456789abcdef, short:123")
    >>> rules
    (TokenRule(name='desk', token=<secret>, calls_per_minute=None, topics=('*',), ...),)
    >>> problems
    ['MASSIVE_GATEWAY_TOKENS: the token of entry 2 is not 16 to 512 printable ASCII characters without blank or comma.']
    """
    rules, problems = [], []
    for number, entry in enumerate(text.split(","), start=1):
        where = f"MASSIVE_GATEWAY_TOKENS: the {{}} of entry {number} is not {{}}."
        name, colon, token = entry.strip().partition(":")
        # The entry itself stays unsaid, also its name: without a colon it is the token.
        if not colon:
            problems.append(f"MASSIVE_GATEWAY_TOKENS: entry {number} is not name:token.")
        elif not is_name(name):
            problems.append(where.format("name", "letters, digits, '.', '_' and '-', at most 64"))
        elif not is_token(token):
            problems.append(where.format("token", _TOKEN_FORM))
        else:
            rules.append(TokenRule(name, Secret(token)))
    return tuple(rules), problems + doubled(rules, "MASSIVE_GATEWAY_TOKENS")


def read_token_file(path: Path) -> tuple[TokenRule, ...]:
    """Read the tokens of a TOML file.

    Raises
    ------
    GatewayConfigError
        With every problem found. What was in force should stay so.
    """
    source = "MASSIVE_GATEWAY_TOKENS_FILE"
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise GatewayConfigError([f"{source}: {path} cannot be read ({type(error).__name__})."]) from None
    except ValueError as error:
        # Neither chained nor quoted: both parsers keep the text, and with it the tokens.
        kind = "UTF-8 text" if isinstance(error, UnicodeDecodeError) else "a TOML file"
        raise GatewayConfigError([f"{source}: {path} is not {kind}."]) from None
    table = document.get("tokens")
    if document.keys() != {"tokens"} or not isinstance(table, dict) or not table:
        raise GatewayConfigError([f"{source}: {path} must hold tables [tokens.<name>] and nothing else."])
    rules: list[TokenRule] = []
    problems: list[str] = []
    for number, (name, fields) in enumerate(table.items(), start=1):
        if not is_name(name):
            problems.append(
                f"{source}: the name of table {number} is not letters, digits, '.', '_' and '-', at most 64."
            )
        elif not isinstance(fields, dict):
            problems.append(f"{source}: {name} is not a table.")
        else:
            found, wrong = _rules(name, fields)
            rules += found
            problems += [f"{source}: [tokens.{name}] {each}" for each in wrong]
    problems += doubled(rules, source)
    if problems:
        raise GatewayConfigError(problems)
    return tuple(rules)


def doubled(rules: Iterable[TokenRule], source: str) -> list[str]:
    """A token that stands under two names would answer for either of them."""
    owners: dict[Secret, str] = {}
    problems = []
    for rule in rules:
        if rule.token in owners:
            problems.append(f"{source}: {owners[rule.token]} and {rule.name} have the same token.")
        owners.setdefault(rule.token, rule.name)
    return problems


def _rules(name: str, fields: dict[str, Any]) -> tuple[list[TokenRule], list[str]]:
    wrong = [] if fields.keys() <= _FIELDS else [f"has a field that is none of {', '.join(sorted(_FIELDS))}."]
    given = fields.get("tokens", [])
    if "token" in fields:
        given = [fields["token"], *given] if isinstance(given, list) else None
    if not isinstance(given, list) or not given or not all(isinstance(each, str) and is_token(each) for each in given):
        wrong.append(f"needs token or tokens, each {_TOKEN_FORM}.")
        given = []
    calls = fields.get("calls_per_minute")
    if calls is not None and (type(calls) is not int or calls < 1):
        wrong.append("calls_per_minute is not a whole number above 0.")
    topics = fields.get("topics", ["*"])
    if not _is_list(topics) or not all(is_pattern(each) for each in topics):
        wrong.append("topics is not a list of patterns such as AM.* or options/T.O:SPY*.")
        topics = []
    clusters = fields.get("clusters", list(CLUSTERS))
    chosen: list[Cluster] = [each for each in CLUSTERS if _is_list(clusters) and each in clusters]
    if not chosen or len(set(clusters)) != len(chosen):
        wrong.append(f"clusters is not a list of some of {', '.join(CLUSTERS)}.")
    expires = fields.get("expires")
    if expires is not None and not (isinstance(expires, dt.datetime) and expires.tzinfo is not None):
        wrong.append("expires is not a date and time with its offset, such as 2027-01-31T00:00:00Z.")
    if wrong:
        return [], wrong
    ends = None if expires is None else expires.timestamp()
    return [TokenRule(name, Secret(each), calls, tuple(topics), tuple(chosen), ends) for each in given], []


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(each, str) for each in value)
