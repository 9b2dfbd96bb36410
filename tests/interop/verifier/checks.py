"""The checks before the seal, from docs/formats/checks.md alone. A reading is (number, point, value or None, unit, received,
source time, whether it has no value because it was out of range)."""

from .rule import History, Parser, Unknown

CODES = ["frozen", "rate", "replay", "skew", "limits", "redundant", "related", "map", "identity"]
DOUBTFUL = {"frozen", "skew", "limits"}
NUMBER, POINT, VALUE, UNIT, RECEIVED, SOURCE, OUT_OF_RANGE = range(7)


def class_of(findings):
    codes = {finding["code"] for finding in findings}
    return "sound" if not codes else "doubtful" if codes <= DOUBTFUL else "contradicted"


def same(a, b):
    bits = lambda value: (type(value), value.hex() if type(value) is float else value)  # noqa: E731
    return bits(a) == bits(b)


def number_of(reading):
    value = reading[VALUE]
    return None if value is None or type(value) is str else float(value)


class Found:
    def __init__(self):
        self.all = {}

    def add(self, code, point, begin, end, earlier=None):
        key = (CODES.index(code), point)
        known = self.all.setdefault(key, {"code": code, "point": point, "from": begin, "to": end})
        known["to"] = max(known["to"], end)
        if earlier is not None:
            known.setdefault("earlier", earlier)

    def sorted(self):
        return [finding for _, finding in sorted(self.all.items())]


def related_parts(rule):
    for name, related in rule["checks"].get("related", {}).items():
        reads = set()
        holds = Parser(related["holds"], rule["points"], reads).whole()
        yield name, related, holds, reads


def look_back_of(rule, longest_window):
    checks = rule["checks"]
    asked = [item for point in checks["points"].values() for item in point.items()]
    lasting = [part["for"] * (2 if name == "frozen" else 1) for name, part in asked if type(part) is dict and "for" in part]
    lasting += [related["for"] for related in checks.get("related", {}).values()]
    return max(checks["look-back"], rule["for"] + longest_window, *lasting, 1)


def findings(rule, readings, now, longest_window):
    found, start = Found(), now - look_back_of(rule, longest_window)
    for point, asked in rule["checks"]["points"].items():
        whole = [reading for reading in readings if reading[POINT] == point]
        inside = sum(reading[RECEIVED] <= start for reading in whole)
        window = whole[max(inside - 1, 0) :]
        one_point(point, asked, window, found)
        if "replay" in asked:
            replayed(point, asked["replay"], [one for one in whole if one[VALUE] is not None], start, found)
        if "redundant" in asked:
            disagreeing(point, asked["redundant"], readings, start, found)
    for name, related, holds, reads in related_parts(rule):
        relation(name, related, holds, reads, rule, readings, start, found)
    return found.sorted()


def one_point(point, asked, window, found):
    if "frozen" in asked:
        row = []
        for reading in [one for one in window if one[VALUE] is not None] + [None]:
            if row and (reading is None or not same(row[-1][VALUE], reading[VALUE])):
                lasted = row[-1][RECEIVED] - row[0][RECEIVED]
                if len(row) >= max(asked["frozen"]["readings"], 2) and lasted >= asked["frozen"]["for"]:
                    found.add("frozen", point, row[0][NUMBER], row[-1][NUMBER])
                row = []
            row.append(reading)
    usable = [one for one in window if number_of(one) is not None]
    for one, two in zip(usable, usable[1:]):
        passed = two[SOURCE] - one[SOURCE]
        passed = passed if passed > 0 else two[RECEIVED] - one[RECEIVED]
        if "rate" in asked and passed > 0 and abs(number_of(two) - number_of(one)) / (passed / 1_000_000) > asked["rate"]:
            found.add("rate", point, one[NUMBER], two[NUMBER])
    for one in window:
        if "skew" in asked and abs(one[RECEIVED] - one[SOURCE]) > asked["skew"]:
            found.add("skew", point, one[NUMBER], one[NUMBER])
        if "limits" in asked:
            low, high = asked["limits"]
            number = number_of(one)
            if one[OUT_OF_RANGE] or (number is not None and not low <= number <= high):
                found.add("limits", point, one[NUMBER], one[NUMBER])


def replayed(point, asked, usable, start, found):
    length = asked["readings"]
    values = [(type(one[VALUE]), one[VALUE].hex() if type(one[VALUE]) is float else one[VALUE]) for one in usable]
    for end in range(length, len(values) + 1):
        run = values[end - length : end]
        if usable[end - 1][RECEIVED] <= start or len(set(run)) * 4 < length or len(set(run)) < 3:
            continue
        first = max(end - max(asked["remembered"], 2 * length), 0)
        for begin in range(end - 2 * length, first - 1, -1):
            if values[begin : begin + length] == run:
                found.add("replay", point, usable[end - length][NUMBER], usable[end - 1][NUMBER], usable[begin][NUMBER])
                break


class Lasting:
    def __init__(self, lasting, start, say):
        self.lasting, self.start, self.say, self.since = lasting, start, say, None

    def judge(self, wrong, reading):
        if not wrong:
            self.since = None
            return
        self.since = self.since or reading
        if reading[RECEIVED] > self.start and reading[RECEIVED] - self.since[RECEIVED] >= self.lasting:
            self.say(self.since[NUMBER], reading[NUMBER])


def disagreeing(point, asked, readings, start, found):
    newest = {}
    lasting = Lasting(asked["for"], start, lambda begin, end: found.add("redundant", point, begin, end))
    for reading in readings:
        if reading[POINT] not in (point, asked["with"]):
            continue
        newest[reading[POINT]] = number_of(reading)
        ours, theirs = newest.get(point), newest.get(asked["with"])
        if ours is not None and theirs is not None:
            lasting.judge(abs(ours - theirs) > asked["tolerance"], reading)


def relation(name, related, holds, reads, rule, readings, start, found):
    history = History(rule["points"])
    lasting = Lasting(related["for"], start, lambda begin, end: found.add("related", name, begin, end))
    for reading in readings:
        if reading[POINT] not in rule["points"]:
            continue
        history.take(*reading[POINT : RECEIVED + 1])
        if reading[POINT] not in reads:
            continue
        try:
            right = holds(history)
        except Unknown:
            continue
        if type(right) is bool:
            lasting.judge(not right, reading)


def other_identity(rule, trigger):
    """In which readings the device called itself something else than the rule expects, or nothing, by their origins; or None."""
    expected, origins = rule["checks"].get("identity"), trigger.get("origins", [])
    ends = [stretch["from"] - 1 for stretch in origins[1:]] + [trigger["readings"]["last"]]
    others = [(stretch["from"], end) for stretch, end in zip(origins, ends) if stretch.get("identity") != expected]
    if expected is None or not others:
        return None
    return {"code": "identity", "from": others[0][0], "to": others[-1][1]}


def confirm(rule, trigger, readings, longest_window):
    """Why the findings of the trigger are not those of the readings, or None; and what is the agent's word."""
    if ("checks" in rule) != ("quality" in trigger):
        return "the rule asks for checks and the trigger says nothing of them, or the other way round", []
    if "checks" not in rule:
        return None, []
    claimed, first = trigger["quality"]["findings"], trigger["readings"]["first"]
    shown = findings(rule, readings, trigger["at"], longest_window)

    def is_word(claim):
        return claim["from"] < first or claim.get("earlier", first) < first

    def covers(claim, one):
        same_place = (claim["code"], claim.get("point")) == (one["code"], one["point"])
        return claim == one or same_place and is_word(claim) and claim["from"] <= one["from"] and claim["to"] >= one["to"]

    def may_be_known(claim):
        if claim["code"] == "replay":
            return "replay" in rule["checks"]["points"].get(claim.get("point"), {}) and is_word(claim)
        return claim["code"] in ("map", "identity") and "point" not in claim and claim["code"] in rule["checks"]

    for one in shown:
        if not any(covers(claim, one) for claim in claimed):
            return f"the readings show what the trigger does not say: {one}", []
    words = [claim for claim in claimed if claim not in shown]
    if not all(map(may_be_known, words)):
        return "the trigger says what the readings do not show", []
    by_origin = other_identity(rule, trigger)
    told = next((claim for claim in words if claim["code"] == "identity"), None)
    if by_origin is not None and told != by_origin:
        return f"the origins of the readings show what the trigger does not say: {by_origin}", []
    if by_origin is None and told is not None and trigger.get("origins"):
        return "the trigger says of the device's identity what the origins of its readings do not show", []
    return None, words if by_origin is None else [claim for claim in words if claim != told]
