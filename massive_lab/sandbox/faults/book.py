"""The fault as a value, the registry of kinds, and the book of what is armed.

A decision (does the fault strike this time, and with what jitter) is drawn from a generator seeded with the fault's seed
and the number of the decision, so a run with ``probability=0.3`` can be replayed whatever else happens around it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, ClassVar, Generic, Literal, TypeVar

from massive_lab.errors import InvalidRequest
from massive_lab.schema.endpoints import ENDPOINTS

__all__ = ["KINDS", "Direction", "Fault", "FaultBook", "Hit", "Kind", "parse_fault", "register"]

Direction = Literal["down", "up"]
"""``down``: from the sandbox to the client; ``up``: from the client to the sandbox."""
Family = Literal["bytes", "answer", "stream"]

_CLUSTERS = ("stocks", "options", "indices")
_REST_SCOPES = {"*", "rest", "other", *ENDPOINTS}
_WS_SCOPES = {"*", "ws", "realtime", "delayed", *_CLUSTERS}
_CONNECTION = re.compile(r"conn:\d+")
_TOPIC = re.compile(r"[A-Z]+\.\S+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Base of every kind; the fields of a subclass are its parameters."""

    name: ClassVar[str] = ""
    family: ClassVar[Family] = "answer"
    directions: ClassVar[tuple[Direction, ...]] = ("down",)

    def check(self) -> str | None:
        """What is wrong with the parameters, or None."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and not field.name.startswith("delta") and value < 0:
                return f"{field.name} must not be negative"
        return None


KINDS: dict[str, type[Kind]] = {}
"""Every kind by name."""

K = TypeVar("K", bound=Kind)


def register(name: str, family: Family, *directions: Direction) -> Callable[[type[K]], type[K]]:
    """Give a kind its name on the control plane."""

    def apply(kind: type[K]) -> type[K]:
        kind.name = name
        kind.family = family
        kind.directions = directions or ("down",)
        KINDS[name] = kind
        return kind

    return apply


@dataclass(frozen=True, slots=True)
class Fault:
    """One armed fault."""

    id: str
    kind: Kind
    scope: str = "*"
    """``*``, ``rest``, an endpoint name, ``ws``, ``realtime``, ``delayed``, a cluster, a topic, or ``conn:<id>``."""
    direction: Direction = "down"
    probability: float = 1.0
    count: int | None = None
    """How many times it strikes; None: until it is removed."""
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("id", "scope", "direction", "probability", "count", "seed")}
        return {**own, "kind": self.kind.name, **asdict(self.kind)}


@dataclass(frozen=True, slots=True)
class Hit(Generic[K]):
    """A fault that strikes now: its parameters, and the random numbers of this one decision."""

    fault: Fault
    kind: K
    rng: random.Random


class _Armed:
    __slots__ = ("fault", "left", "n_drawn")

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.left = fault.count
        self.n_drawn = 0

    def draw(self) -> random.Random | None:
        if self.left == 0:
            return None
        rng = random.Random(f"{self.fault.seed}:{self.n_drawn}")
        self.n_drawn += 1
        if rng.random() >= self.fault.probability:
            return None
        if self.left is not None:
            self.left -= 1
        return rng


class FaultBook:
    """Armed faults, in the order they were added.

    Parameters
    ----------
    on_fire : callable, optional
        Told the id of every fault that strikes, when it does.

    Examples
    --------
    >>> import massive_lab.sandbox.faults.answers
    >>> book = FaultBook()
    >>> fault = book.add({"kind": "http_429", "scope": "trades", "count": 1})
    >>> from massive_lab.sandbox.faults.answers import Http429
    >>> book.draw(Http429, {"*", "rest", "trades"}).fault.id, book.draw(Http429, {"*", "rest", "trades"})
    ('http_429-1', None)
    """

    def __init__(self, on_fire: Callable[[str], None] | None = None) -> None:
        self._armed: dict[str, _Armed] = {}
        self._n_added = 0
        self._on_fire = on_fire or (lambda _: None)
        self._listeners: list[Callable[[], None]] = []

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every change of what is armed."""
        self._listeners.append(listener)

    def __len__(self) -> int:
        return len(self._armed)

    def faults(self) -> list[Fault]:
        return [armed.fault for armed in self._armed.values()]

    def add(self, spec: Mapping[str, Any]) -> Fault:
        """Arm a fault described as on the control plane; see `parse_fault`."""
        number = self._n_added + 1
        fault = parse_fault(spec, default_id=f"{spec.get('kind')}-{number}")
        if fault.id in self._armed:
            raise InvalidRequest(f"A fault named {fault.id!r} is armed already.", hint="Remove it first.")
        self._n_added = number
        self._armed[fault.id] = _Armed(fault)
        self._changed()
        return fault

    def remove(self, fault_id: str) -> bool:
        found = self._armed.pop(fault_id, None) is not None
        if found:
            self._changed()
        return found

    def reset(self) -> int:
        """Disarm everything; returns how many there were. Ids start again at 1, so that a run can be repeated."""
        n = len(self._armed)
        self._armed.clear()
        self._n_added = 0
        self._changed()
        return n

    def armed(self, kind: type[Kind]) -> bool:
        """Whether any fault of the kind is armed: the cheap question before building labels."""
        return any(isinstance(armed.fault.kind, kind) for armed in self._armed.values())

    def draw(self, kind: type[K], labels: Collection[str], fits: Callable[[K], bool] | None = None) -> Hit[K] | None:
        """The first armed fault of `kind` in scope that strikes now.

        Each one asked draws one decision; those whose parameters do not fit are not asked.
        """
        for armed in list(self._armed.values()):
            params = armed.fault.kind
            if fits is not None and isinstance(params, kind) and not fits(params):
                continue
            hit = self._ask(armed, kind, labels)
            if hit is not None:
                return hit
        return None

    def draw_all(
        self, kind: type[K], labels: Collection[str], direction: Direction, known: Collection[str] = ()
    ) -> list[Hit[K] | str]:
        """Every fault of `kind` in scope and direction: a `Hit`, or the id alone when it was drawn and spares this one.

        Faults whose id is in `known` have been decided before and are passed over.
        """
        decided: list[Hit[K] | str] = []
        for armed in list(self._armed.values()):
            fault = armed.fault
            if fault.direction != direction or fault.id in known or fault.scope not in labels:
                continue
            if isinstance(fault.kind, kind):
                decided.append(self._ask(armed, kind, labels) or fault.id)
        return decided

    def _ask(self, armed: _Armed, kind: type[K], labels: Collection[str]) -> Hit[K] | None:
        fault = armed.fault
        if not isinstance(fault.kind, kind) or fault.scope not in labels:
            return None
        rng = armed.draw()
        if rng is None:
            return None
        self._on_fire(fault.id)
        return Hit(fault, fault.kind, rng)

    def _changed(self) -> None:
        for listener in list(self._listeners):
            listener()


def parse_fault(spec: Mapping[str, Any], *, default_id: str) -> Fault:
    """A fault from its flat JSON form: ``kind``, the fields of `Fault` (``name`` for the id), the kind's parameters.

    Raises
    ------
    InvalidRequest
        For an unknown kind, scope, direction or parameter, or a value of the wrong type or range.
    """
    given = dict(spec)
    name = given.pop("kind", None)
    kind_class = KINDS.get(name) if isinstance(name, str) else None
    if kind_class is None:
        raise InvalidRequest(f"There is no fault kind {name!r}.", hint=f"One of: {', '.join(sorted(KINDS))}.")
    fault_id = given.pop("name", None) or default_id
    scope = given.pop("scope", "*")
    direction = given.pop("direction", kind_class.directions[0])
    probability = _typed("probability", given.pop("probability", 1.0), 1.0)
    count = given.pop("count", None)
    seed = _typed("seed", given.pop("seed", 0), 0)
    known = {field.name: field for field in fields(kind_class)}
    if unknown := set(given) - set(known):
        raise InvalidRequest(
            f"Fault {name} does not take {', '.join(sorted(unknown))}.",
            hint=f"It takes: {', '.join(known) or 'nothing'}.",
        )
    values = {
        key: _typed(key, value, known[key].default if known[key].default is not MISSING else None)
        for key, value in given.items()
    }
    kind = kind_class(**values)
    problem = kind.check() or _scope_problem(kind_class, scope, direction)
    if not 0 <= probability <= 1:
        problem = "probability lies in 0..1"
    if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
        problem = "count is a whole number from 1, or null for ever"
    if problem:
        raise InvalidRequest(f"Fault {name}: {problem}.")
    return Fault(str(fault_id), kind, scope, direction, probability, count, seed)


def _typed(name: str, value: Any, default: Any) -> Any:
    if default is None:
        return value
    wanted = type(default)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        raise InvalidRequest(f"{name} is a {wanted.__name__}, not {value!r}.")
    return value


def _scope_problem(kind: type[Kind], scope: Any, direction: Any) -> str | None:
    if direction not in kind.directions:
        return f"direction is one of {', '.join(kind.directions)}, not {direction!r}"
    if not isinstance(scope, str):
        return "scope is a text"
    rest = scope in _REST_SCOPES
    ws = scope in _WS_SCOPES or bool(_CONNECTION.fullmatch(scope))
    topic = bool(_TOPIC.fullmatch(scope))
    fits = {"answer": rest, "stream": ws or topic, "bytes": rest or ws}[kind.family]
    if not fits:
        return f"scope {scope!r} has no meaning here"
    if kind.family == "bytes" and direction == "up" and scope in ENDPOINTS:
        return "an endpoint is known only once the request has been read: upward faults take a wider scope"
    return None
