#!/usr/bin/env python3
"""Derives every line of the Modbus vector table anew, with programs that are not ours.

    modbus_vectors.py docs/formats/modbus-vectors.csv

Numbers are put into registers by pymodbus where it knows type and order (ABCD, CDAB), else by Python's struct and the
letters of the order; fields, BCD and texts are taken apart here. Prints `checked N by-pymodbus M`, or the first line that
does not hold, and fails.
"""

import csv
import math
import struct
import sys

from pymodbus.client.mixin import ModbusClientMixin

PYMODBUS = {
    "u16": "UINT16", "i16": "INT16", "u32": "UINT32", "i32": "INT32", "u64": "UINT64", "i64": "INT64",
    "f32": "FLOAT32", "f64": "FLOAT64",
}  # fmt: skip
FORMATS = {
    "u8": "xB", "i8": "xb", "u16": "H", "i16": "h", "u32": "I", "i32": "i", "u64": "Q", "i64": "q",
    "f16": "e", "f32": "f", "f64": "d",
}  # fmt: skip
# The bytes of a value, A the most significant, in the order in which they travel; by length in bytes.
LETTERS = {
    "ABCD": {2: "AB", 4: "ABCD", 8: "ABCDEFGH"},
    "CDAB": {2: "AB", 4: "CDAB", 8: "GHEFCDAB"},
    "BADC": {2: "BA", 4: "BADC", 8: "BADCFEHG"},
    "DCBA": {2: "BA", 4: "DCBA", 8: "HGFEDCBA"},
    "CDABGHEF": {8: "CDABGHEF"},
    "DCBAHGFE": {8: "DCBAHGFE"},
    "EFGHABCD": {8: "EFGHABCD"},
    "FEHGBADC": {8: "FEHGBADC"},
}


def straight(wire, order):
    """The bytes of the value, most significant first."""
    letters = LETTERS[order][len(wire)]
    return bytes(wire[letters.index(letter)] for letter in sorted(letters))


def text(row, wire):
    """What a text says; its words keep their order."""
    pairs = [wire[place : place + 2] for place in range(0, len(wire), 2)]
    if row["order"] == "BADC":
        pairs = [pair[::-1] for pair in pairs]
    take = {"text": slice(0, 2), "text-low": slice(1, 2), "text-high": slice(0, 1)}[row["type"]]
    found = b"".join(pair[take] for pair in pairs)[: int(row["length"])]
    try:
        return found.split(b"\0")[0].decode("utf-8").rstrip(" ")
    except UnicodeDecodeError:
        return "nonsense"


def number(row, wire):
    """The number in the registers, or why there is none."""
    kind = row["type"]
    if kind.startswith("bcd"):
        digits = straight(wire, row["order"]).hex()
        return int(digits) if digits.isdigit() else "nonsense"
    return struct.unpack(">" + FORMATS[kind], straight(wire, row["order"]))[0]


def field(row, found):
    """Some bits of a number; of a signed one the highest is the sign."""
    if not row["bits"] or isinstance(found, str):
        return found
    low, _, high = row["bits"].partition("-")
    width = int(high or low) - int(low) + 1
    part = found >> int(low) & (1 << width) - 1
    return part - (1 << width) if row["type"].startswith("i") and part >> (width - 1) else part


def scaled(row, found):
    """The number times scale plus offset, when it is scaled at all."""
    scale, offset = float(row["scale"]), float(row["offset"])
    if isinstance(found, str) or (scale, offset) == (1.0, 0.0):
        return found
    return found * scale + offset


def shown(found):
    """As the table writes it."""
    if isinstance(found, float):
        return "not-a-number" if not math.isfinite(found) else found
    return str(found)


def same(found, written):
    """Floats as numbers, everything else as text."""
    if isinstance(found, float):
        return written not in ("nonsense", "not-a-number") and float(written) == found
    return found == written


def by_pymodbus(row, found):
    """Whether pymodbus puts the same number into the same registers; None where it has no such type or order."""
    if row["type"] not in PYMODBUS or row["order"] not in ("ABCD", "CDAB") or isinstance(found, str):
        return None
    if isinstance(found, float) and not math.isfinite(found):
        return None
    kind = ModbusClientMixin.DATATYPE[PYMODBUS[row["type"]]]
    order = "big" if row["order"] == "ABCD" else "little"
    words = ModbusClientMixin.convert_to_registers(found, kind, word_order=order)
    return [f"{word:04x}" for word in words] == row["registers"].split()


def main():
    """Checks the table."""
    with open(sys.argv[1], encoding="utf-8") as table:
        rows = list(csv.DictReader(line for line in table if not line.startswith("#")))
    checked = foreign = 0
    for row in rows:
        wire = bytes.fromhex(row["registers"])
        if row["type"].startswith("text"):
            found = text(row, wire)
        elif row["type"] == "bool":
            found = "true" if any(wire) else "false"
        else:
            raw = number(row, wire)
            agrees = by_pymodbus(row, raw)
            if agrees is False:
                sys.exit(f"pymodbus does not agree: {row}")
            foreign += agrees is True
            found = scaled(row, field(row, raw))
        if not same(shown(found), row["value"]):
            sys.exit(f"{row} should say {found!r}")
        checked += 1
    print(f"checked {checked} by-pymodbus {foreign}")


if __name__ == "__main__":
    main()
