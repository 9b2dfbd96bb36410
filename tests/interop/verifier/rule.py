"""The language of the rules and the recomputing of a firing, from docs/formats/rules.md alone.

One difference to that page: types are not checked beforehand; a part of the wrong type is unknown when it runs.
"""

import re
import struct
from bisect import bisect_right
from fractions import Fraction

TOKEN = re.compile(
    r"\s+|//[^\n]*|(?P<number>0x[0-9a-fA-F]+u?|(\d+\.\d+|\.\d+|\d+)([eE][+-]?\d+)?u?)|(?P<text>'[^'\n\\]*'|\"[^\"\n\\]*\")"
    r"|(?P<word>[A-Za-z_]\w*)|(?P<sign>==|!=|<=|>=|&&|\|\||[-+*/%!<>?:()\[\],.])",
    re.ASCII,
)
UNITS = {"us": 1, "usec": 1, "ms": 1000, "msec": 1000, "s": 10**6, "sec": 10**6, "second": 10**6, "m": 6 * 10**7,
         "min": 6 * 10**7, "minute": 6 * 10**7, "h": 36 * 10**8, "hr": 36 * 10**8, "hour": 36 * 10**8,
         "d": 864 * 10**8, "day": 864 * 10**8}  # fmt: skip
DAY = 864 * 10**8
NUMERIC = ("min", "max", "sum", "mean", "rate", "integral")
WINDOWS = (*NUMERIC, "count", "time_in")
COMPARE = {"==": lambda a, b: a == b, "!=": lambda a, b: a != b, "<": lambda a, b: a < b, "<=": lambda a, b: a <= b,
           ">": lambda a, b: a > b, ">=": lambda a, b: a >= b}  # fmt: skip


class RuleFault(Exception):
    """The expression is not of the language."""


class Unknown(Exception):
    """A part without a value."""


def known(condition):
    if not condition:
        raise Unknown


def family(value):
    """What may be compared with what: numbers of both kinds are one family."""
    return "number" if type(value) in (int, float) else type(value)


def in_range(value):
    """An integer of i64 or u64, or a finite double."""
    known(-(2**63) <= value < 2**64 if type(value) is int else value - value == 0.0)
    return value


def number(value):
    known(family(value) == "number")
    return value


def flag(value):
    known(type(value) is bool)
    return value


def text(value):
    known(type(value) is str)
    return value


def width_of(words):
    parts = re.fullmatch(r"\s*((\d+(\.\d+)?)\s*([a-z]+)\s*)+", words)
    found = re.findall(r"(\d+(?:\.\d+)?)\s*([a-z]+)", words)
    units = [UNITS.get(unit, UNITS.get(unit.removesuffix("s"))) for _, unit in found]
    if not parts or None in units:
        raise RuleFault(f"{words} is no duration")
    width = int(sum(Fraction(amount) * unit for (amount, _), unit in zip(found, units)))
    if not 1 <= width <= DAY:
        raise RuleFault(f"a window of {words}")
    return width


class Parser:
    """From text to a function of the history. Each step gives (whether it is known to be an integer, function)."""

    def __init__(self, source, points, reads):
        self.points, self.reads, self.tokens, self.widths, at = points, reads, [], [], 0
        depth = 0
        if len(source.encode()) > 2048:
            raise RuleFault("longer than 2,048 bytes")
        while at < len(source):
            found = TOKEN.match(source, at)
            if not found:
                raise RuleFault(f"`{source[at]}` is not of the language")
            at = found.end()
            depth += (found["sign"] in ("(", "[")) - (found["sign"] in (")", "]"))
            if depth > 8:
                raise RuleFault("brackets nest more than 8 deep")
            if found.lastgroup:
                self.tokens.append((found.lastgroup, found[found.lastgroup]))
        self.tokens.append(("end", ""))

    def whole(self):
        result = self.expression()
        self.take("")
        return result[1]

    def peek(self, *signs):
        return self.tokens[0][0] in ("sign", "word") and self.tokens[0][1] in signs

    def take(self, wanted=None, group=None):
        found_group, found = self.tokens.pop(0)
        if (wanted is not None and found != wanted) or (group and found_group != group):
            raise RuleFault(f"`{found}` where `{wanted or group}` was expected")
        return found

    def chain(self, signs, operand, combine):
        left = operand()
        while self.peek(*signs):
            left = combine(self.take(), left, operand())
        return left

    def expression(self):
        condition = self.chain(["||"], self.conjunction, lambda _, a, b: decided(True, a, b))
        if not self.peek("?"):
            return condition
        self.take("?")
        yes = self.chain(["||"], self.conjunction, lambda _, a, b: decided(True, a, b))
        self.take(":")
        no = self.expression()
        return yes[0] and no[0], lambda at: (yes if flag(condition[1](at)) else no)[1](at)

    def conjunction(self):
        return self.chain(["&&"], self.relation, lambda _, a, b: decided(False, a, b))

    def relation(self):
        left = self.sum()
        while self.peek(*COMPARE, "in"):
            sign = self.take()
            left = self.member_of(left) if sign == "in" else comparison(COMPARE[sign], left, self.sum())
        return left

    def member_of(self, left):
        self.take("[")
        items = []
        while not self.peek("]"):
            items.append(self.expression())
            if not self.peek("]"):
                self.take(",")
        self.take("]")

        def contained(at):
            value, found = left[1](at), [item[1](at) for item in items]
            return any(family(item) == family(value) and item == value for item in found)

        return False, contained

    def sum(self):
        return self.chain(["+", "-"], self.product, arithmetic)

    def product(self):
        return self.chain(["*", "/", "%"], self.unary, arithmetic)

    def unary(self):
        signs = []
        while self.peek("!", "-") and len(set(signs)) < 2:
            signs.append(self.take())
        if len(set(signs)) == 2:
            raise RuleFault("`!` and `-` do not stand together")
        inner = self.member()
        for sign in signs:
            inner = same(inner, lambda value: -value) if sign == "-" else inverse(inner)
        return inner

    def member(self):
        left = self.primary()
        while self.peek("."):
            self.take(".")
            left = self.method(left, self.take(group="word"))
        return left

    def method(self, left, name):
        tests = {"contains": lambda a, b: b in a, "startsWith": str.startswith, "endsWith": str.endswith}
        if name not in tests:
            raise RuleFault(f"unknown function .{name}")
        right = self.in_brackets()
        return False, lambda at: tests[name](text(left[1](at)), text(right[1](at)))

    def in_brackets(self):
        self.take("(")
        inner = self.expression()
        self.take(")")
        return inner

    def primary(self):
        if self.peek("("):
            return self.in_brackets()
        if self.tokens[0][0] == "number":
            return self.constant(self.take())
        if self.tokens[0][0] == "text":
            words = self.take()[1:-1]
            return False, lambda _: words
        word = self.take(group="word")
        if word in ("true", "false"):
            return False, lambda _: word == "true"
        if not self.peek("("):
            return self.point(word), lambda at: at.newest(word)
        return self.function(word)

    def constant(self, digits):
        is_whole = digits.startswith("0x") or not re.search(r"[.eE]", digits)
        value = int(digits.rstrip("u"), 0 if digits.startswith("0x") else 10) if is_whole else float(digits)
        return is_whole, lambda _: value

    def point(self, name):
        if name not in self.points:
            raise RuleFault(f"unknown point {name}")
        self.reads.add(name)
        return self.points[name][0] == "integer"

    def function(self, word):
        if word == "abs":
            return same(self.in_brackets(), abs)
        if word in ("int", "double"):
            inner = self.in_brackets()
            return word == "int", lambda at: in_range((int if word == "int" else float)(in_range(number(inner[1](at)))))
        if word != "last" and word not in WINDOWS:
            raise RuleFault(f"unknown function {word}")
        self.take("(")
        point = self.take(group="word")
        is_whole = self.point(point)
        if word == "last":
            self.take(")")
            return is_whole, lambda at: at.last(point)
        self.take(",")
        width = width_of(self.take(group="text")[1:-1])
        self.widths.append(width)
        self.take(")")
        return word == "count", lambda at: in_range(at.window(word, point, width))


def inverse(inner):
    return False, lambda at: not flag(inner[1](at))


def same(inner, change):
    """Keeps an integer; everything else becomes a double."""
    return inner[0], lambda at: in_range(change(number(inner[1](at)) if inner[0] else float(number(inner[1](at)))))


def decided(by, left, right):
    """`&&` is decided by false, `||` by true, whatever the other side is."""

    def side(part, at):
        try:
            return flag(part[1](at))
        except Unknown:
            return None

    def both(at):
        sides = side(left, at), side(right, at)
        if by in sides:
            return by
        known(None not in sides)
        return not by

    return False, both


def comparison(test, left, right):
    def compare(at):
        a, b = left[1](at), right[1](at)
        known(family(a) == family(b))
        return test(a, b)

    return False, compare


def arithmetic(sign, left, right):
    is_whole = left[0] and right[0]

    def cut(a, b):
        quotient = abs(a) // abs(b)
        return quotient if (a < 0) == (b < 0) else -quotient

    def run(at):
        a, b = left[1](at), right[1](at)
        if sign == "+" and type(a) is type(b) is str:
            return a + b
        a, b = (number(a), number(b)) if is_whole else (float(number(a)), float(number(b)))
        known(sign not in "/%" or b != 0)
        known(sign != "%" or is_whole)
        if sign in "+-*":
            return in_range(a + b if sign == "+" else a - b if sign == "-" else a * b)
        if not is_whole:
            return in_range(a / b)
        return in_range(cut(a, b) if sign == "/" else a - b * cut(a, b))

    return is_whole, run


class History:
    """The readings taken in so far: for each point a list of times and one of values, None where not usable."""

    def __init__(self, points):
        self.points, self.now = points, None
        self.times, self.values = {name: [] for name in points}, {name: [] for name in points}

    def take(self, point, value, unit, received):
        kind, wanted = self.points[point]
        types = {"bool": [bool], "integer": [int], "float": [int, float], "text": [str], "any": [bool, int, float, str]}
        usable = unit == wanted and type(value) in types[kind]
        self.now = received
        self.times[point].append(received)
        self.values[point].append((float(value) if kind == "float" else value) if usable else None)

    def newest(self, point):
        known(self.values[point] and self.values[point][-1] is not None)
        return self.values[point][-1]

    def last(self, point):
        usable = [value for value in self.values[point] if value is not None]
        known(usable)
        return usable[-1]

    def window(self, function, point, width):
        start = self.now - width
        begin = bisect_right(self.times[point], start)
        known(begin > 0)
        right = (float, int) if function in NUMERIC else (bool,) if function == "time_in" else (bool, int, float, str)
        fits = [value if type(value) in right else None for value in self.values[point][begin - 1 :]]
        times = [start, *self.times[point][begin:]]
        holds = function in ("integral", "time_in")
        inside = fits if holds else fits[1:]
        usable = [float(value) if function in NUMERIC else value for value in inside if value is not None]
        if function == "count":
            return len(usable)
        known(len(usable) >= (2 if function == "rate" else 1) and len(usable) * 2 >= len(inside))
        if holds:
            ends = [*times[1:], self.now]
            held = [(value, end - begin) for value, begin, end in zip(fits, times, ends)]
            if function == "time_in":
                return sum(micros for value, micros in held if value is True) / 1_000_000
            return added(float(value) * (micros / 1_000_000) for value, micros in held if value is not None)
        if function in ("min", "max"):
            return (min if function == "min" else max)(usable)
        if function == "rate":
            at = [time for time, value in zip(times[1:], inside) if value is not None]
            known(at[-1] > at[0])
            return (usable[-1] - usable[0]) / ((at[-1] - at[0]) / 1_000_000)
        return added(usable) if function == "sum" else added(usable) / len(usable)


def added(numbers):
    """One after the other, from 0.0 (Python's own sum may add more exactly than that)."""
    total = 0.0
    for one in numbers:
        total += one
    return total


def truth(expression, history):
    try:
        value = expression(history)
    except Unknown:
        return None
    return value if type(value) is bool else None


def recompute(rule, trigger, readings):
    """Why the trigger does not follow from the rule over `readings`; None when it does. A reading is
    (number, point, value or None, unit, received)."""
    reads = set()
    when, *rest = (Parser(source, rule["points"], reads).whole() for source in expressions(rule))
    until = rest.pop(0) if "until" in rule else None
    arguments = dict(zip(rule.get("call", {}).get("with", {}), rest))
    if not reads <= set(trigger["readings"]["points"]):
        return "the rule reads a point that the trigger does not claim"
    if any(later[4] < earlier[4] for earlier, later in zip(readings, readings[1:])):
        return "the time of receipt falls"
    history, since, number_last = History(rule["points"]), None, None
    for number_last, point, value, unit, received in (reading for reading in readings if reading[1] in reads):
        history.take(point, value, unit, received)
        if truth(when, history) is not True:
            since = None
        elif since is None:
            since = received
    if number_last != trigger["readings"]["last"] or history.now != trigger["at"]:
        return "the last reading is not the one that is said to decide"
    if trigger["transition"] == "cleared":
        over = truth(when, history) is False if until is None else truth(until, history) is True
        return None if over else "the readings do not make the rule clear"
    if rule["for"] > DAY or since is None or history.now - since < rule["for"]:
        return "the readings do not make the rule raise"
    return other_arguments(trigger, arguments, history)


def longest_window(rule):
    """Of the rule's own expressions, in microseconds."""
    widths = [0]
    for source in expressions(rule):
        parser = Parser(source, rule["points"], set())
        parser.whole()
        widths += parser.widths
    return max(widths)


def expressions(rule):
    yield rule["when"]
    if "until" in rule:
        yield rule["until"]
    yield from rule.get("call", {}).get("with", {}).values()


def other_arguments(trigger, arguments, history):
    found = {}
    for name, expression in arguments.items():
        try:
            found[name] = expression(history)
        except Unknown:
            pass
    claimed = trigger.get("call", {}).get("with", {})
    bits = lambda value: (type(value), struct.pack("<d", value) if type(value) is float else value)  # noqa: E731
    equal = {name: bits(value) for name, value in found.items()} == {name: bits(value) for name, value in claimed.items()}
    return None if equal else "the call's arguments are not what the readings give"
