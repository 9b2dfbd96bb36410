"""k of n (verifying.md, *The word of several*): whether as many independent sources as the contract's text asks for said the same."""

import re

from .formats import Fault, need

REACHED = "attestation.reached"
ACTS = ("agreement.opened", "agreement.moved", "agreement.updated")
UNITS = {"us": 1, "usec": 1, "ms": 10**3, "msec": 10**3, "s": 10**6, "sec": 10**6, "m": 6 * 10**7, "min": 6 * 10**7,
         "h": 36 * 10**8, "hr": 36 * 10**8, "hour": 36 * 10**8, "d": 864 * 10**8, "day": 864 * 10**8, "days": 864 * 10**8}  # fmt: skip


# ---- as much YAML as the head of a contract needs: maps in blocks or braces, scalars, quotes, comments ----


def uncommented(line):
    quote = None
    for place, char in enumerate(line):
        if quote:
            quote = None if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char == "#" and (place == 0 or line[place - 1].isspace()):
            return line[:place]
    return line


def scalar(text):
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def flow(text):
    """A map in braces, or a scalar."""
    text = text.strip()
    if not text.startswith("{"):
        return scalar(text)
    need(text.endswith("}"), "the contract's text is no YAML that this verifier reads")
    parts, depth, quote, begin = [], 0, None, 1
    for place, char in enumerate(text):
        if quote:
            quote = None if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char in "{[":
            depth += 1
        elif char in "}]":
            depth -= 1
        if not quote and (char == "," and depth == 1 or place == len(text) - 1):
            parts.append(text[begin:place])
            begin = place + 1
    pairs = (part.partition(":") for part in parts if part.strip())
    return {scalar(name): flow(value) for name, _, value in pairs}


def block(lines):
    """Lines of one map, as (indent, text)."""
    found, place = {}, 0
    while place < len(lines):
        indent, text = lines[place]
        more = place + 1
        while more < len(lines) and lines[more][0] > indent:
            more += 1
        name, _, rest = text.partition(":")
        inner = lines[place + 1 : more]
        found[scalar(name)] = flow(" ".join([rest, *(text for _, text in inner)])) if rest.strip() else block(inner)
        place = more
    return found


def read(text):
    """Name, version and what `attest:` says; the rest of a contract is not looked at."""
    lines = [uncommented(line).rstrip() for line in text.splitlines()]
    lines = [(len(line) - len(line.lstrip()), line.strip()) for line in lines if line.strip() and line.strip() != "---"]
    wanted, keep = [], False
    for indent, line in lines:
        if indent == 0:
            keep = scalar(line.partition(":")[0]) in ("contract", "version", "attest")
        if keep:
            wanted.append((indent, line))
    try:
        found = block(wanted)
    except Fault:
        return None  # YAML beyond this reader: as if it were not in the file
    return {"contract": found.get("contract"), "version": found.get("version"), "attest": found.get("attest") or {}}


# ---- counting again ----


def micros(text):
    parts = re.findall(r"(\d+)\s*([a-z]+)\s*", text)
    need(parts and "".join(re.split(r"\s+", text)) == "".join(a + b for a, b in parts), f"`{text}` is no duration")
    need(all(unit in UNITS for _, unit in parts), f"`{text}` is no duration")
    return sum(int(number) * UNITS[unit] for number, unit in parts)


def number(value):
    """As the ledger compares it: what is left out is 0, a duration may be a text; `None` for what is no number."""
    if value is None:
        return 0
    if isinstance(value, str):
        try:
            return micros(value)
        except Fault:
            return None
    return None if isinstance(value, bool) else value


def apart(a, b):
    a, b = number(a), number(b)
    return None if a is None or b is None else abs(a - b)


def equal(a, b):
    if a is None or b is None:
        given = b if a is None else a
        return given in ("", False) or apart(given, None) == 0
    if type(a) is type(b) and isinstance(a, (str, bool)) and a == b:
        return True
    return not (isinstance(a, bool) or isinstance(b, bool)) and apart(a, b) == 0


def same(one, other, tolerance):
    ours, theirs = one["call"]["with"], other["call"]["with"]
    for name in sorted((set(ours) | set(theirs)) - {"device"}):
        a, b = ours.get(name), theirs.get(name)
        if name in tolerance:
            distance = apart(a, b)
            fits = distance is not None and distance <= float(tolerance[name])
        else:
            fits = equal(a, b)
        need(fits, f"{one['device']} says {name} {a}, {other['device']} says {b}")


def judge(body, events, text, words, firms):
    """Words if there is something to judge, `None` if not. `words`: (entry, agent, body) of the triggers carried out so far."""
    call = body.get("call")
    if call is None:
        return None
    asked = text["attest"].get(call["action"]) if text else None
    reached = next((event["data"] for event in events if event["kind"] == REACHED), None)
    acts = any(event["kind"] in ACTS for event in events)
    if reached is None:
        need(not (asked and acts), "the contract asks for several who say so, and acted on one")
        return None
    agreed = list(reached.get("agreed", []))
    if asked is None:
        need(text is None, "the contract's text does not ask for the word of several")
        return f"{', '.join(agreed)}, says the ledger; the contract's text is not in this file, so nobody can count again"
    return agree(asked, agreed, set(reached.get("entries", [])), body, words, firms)


def agree(asked, agreed, entries, body, words, firms):
    said = []
    for device in agreed:
        of_it = [word for word in words if word[2]["device"] == device and word[0] in entries]
        need(of_it, f"what {device} said is not in this file")
        said.append(of_it[-1])
    bodies = [word[2] for word in said]
    asks = [one.get("call") and (one["call"]["contract"], one["call"]["action"]) for one in bodies]
    need(set(asks) <= {(body["call"]["contract"], body["call"]["action"])}, "one of them asked for something else")
    need(body in bodies, f"{body['device']} is not among those that agreed")
    kind = asked.get("independent", "agents")
    need(kind in ("agents", "devices", "firms"), f"the contract's text counts `{kind}`")
    stands = {"agents": lambda agent, _: agent, "devices": lambda _, device: device, "firms": lambda agent, _: firms.get(agent, agent)}
    sources = {stands[kind](agent, one["device"]) for _, agent, one in said}
    try:
        k, tolerance = int(asked["k"]), {name: float(value) for name, value in asked.get("tolerance", {}).items()}
    except (KeyError, ValueError, AttributeError) as fault:
        raise Fault("the contract's text does not say how many, or how far apart") from fault
    need(len(sources) >= k, f"{k} independent ones are needed, {len(sources)} said so: {', '.join(agreed)}")
    times = [one["at"] for one in bodies]
    need(max(times) - min(times) <= micros(asked.get("within", "")), f"they said so too far apart, {asked.get('within')} are allowed")
    for place, one in enumerate(bodies):
        for other in bodies[place + 1 :]:
            same(one, other, tolerance)
    return f"{len(sources)} independent {kind} agree within {asked['within']}, {k} are needed: {', '.join(agreed)}"
