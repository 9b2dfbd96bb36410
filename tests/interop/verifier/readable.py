"""The JSON form of a file (docs/formats/evidence-json.md) as the CBOR in it. What `reads` shows is for people and left alone:
only the bytes are verified here, `tally verify` also compares them with what is shown."""

import json

from .formats import Fault, encode, need


def pairs(members):
    found = dict(members)
    need(len(found) == len(members), "a member stands twice in one object")
    return found


def take(item):
    if isinstance(item, dict):
        if "hex" not in item:
            return {key: take(value) for key, value in item.items()}
        text = item["hex"]
        need(isinstance(text, str) and text == text.lower() and text.isalnum() | (text == ""), "not hexadecimal digits")
        return bytes.fromhex(text)
    need(type(item) in (str, int, list), "neither text, whole number, array nor object")
    return [take(one) for one in item] if isinstance(item, list) else item


def as_cbor(data):
    """The CBOR of a file in either form; what is neither stays as it is and is refused later."""
    if not data.lstrip(b" \t\r\n").startswith(b"{"):
        return data
    try:
        form = json.loads(data, object_pairs_hook=pairs)
        number = form.pop("tallystick-json", None)
        need(type(number) is int and number == 1, "another JSON form")
        return encode(take(form))
    except (ValueError, RecursionError) as fault:
        raise Fault(f"not the JSON form of an evidence file: {fault}") from fault
