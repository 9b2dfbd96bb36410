#!/usr/bin/env python3
"""Holds the node's interface against its OpenAPI document: asks a running node every question the document knows, and validates the answers.

    openapi_check.py HOST:PORT [--as TEMPLATE=PATH]... [--send PATH=FILE]...

TEMPLATE is a path of the document with parameters, PATH what to ask instead; more than one is asked one after the other. --send: the body
of a POST. The document is the node's own answer to /openapi.json. Every status, media type and JSON body must be one the document names; a
member that it does not name is a fault, although clients must bear it. Methods that it does not name must be refused with 405. Exit code 0:
all of it fits; the last line says how many answers were looked at. Needs jsonschema.
"""

import argparse
import http.client
import json
import re
import sys
from pathlib import Path

from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

METHODS = ["get", "post", "put", "delete", "patch"]
NAME = "urn:openapi"


class Checker:
    def __init__(self, address):
        self.address, self.faults, self.answers = address, [], 0
        status, kind, body = self.ask("GET", "/openapi.json")
        self.doc = json.loads(body)
        self.strict = closed(self.doc)
        self.registry = Registry().with_resource(NAME, Resource(self.strict, DRAFT202012))
        if (status, kind) != (200, "application/json") or not self.doc["openapi"].startswith("3.1."):
            self.fault("/openapi.json", f"status {status}, {kind}")

    def fault(self, where, what):
        self.faults.append(f"{where}: {what}")

    def ask(self, method, path, accept=None, body=None, kind=None):
        host, port = self.address.rsplit(":", 1)
        connection = http.client.HTTPConnection(host, int(port), timeout=30)
        headers = {"Accept": accept} if accept else {}
        if kind:
            headers["Content-Type"] = kind
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        found = (answer.headers.get("Content-Type") or "").split(";")[0]
        # A stream of events never ends: its head is all there is to look at.
        data = b"" if found == "text/event-stream" else answer.read()
        connection.close()
        return answer.status, found, data

    def resolve(self, value):
        while isinstance(value, dict) and "$ref" in value:
            target = self.doc
            for part in value["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            value = target
        return value

    def document(self):
        """The document in itself: references, schemas, ids, parameters."""
        for reference in sorted(set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(self.doc)))):
            try:
                self.resolve({"$ref": reference})
            except KeyError:
                self.fault(reference, "leads nowhere")
        for name, schema in self.doc["components"]["schemas"].items():
            try:
                Draft202012Validator.check_schema(schema)
            except Exception as fault:  # noqa: BLE001
                self.fault(name, f"is no schema: {fault}")
        used = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(self.doc)))
        for name in sorted(set(self.doc["components"]["schemas"]) - used):
            self.fault(name, "is used nowhere")
        ids = [operation["operationId"] for _, _, operation in self.operations()]
        if len(ids) != len(set(ids)):
            self.fault("operationId", "stands twice")
        for path, _, operation in self.operations():
            said = {parameter["name"] for parameter in operation.get("parameters", []) if parameter["in"] == "path"}
            if said != set(re.findall(r"{([^}]+)}", path)):
                self.fault(path, f"declares the path parameters {sorted(said)}")

    def operations(self):
        for path, methods in self.doc["paths"].items():
            for method, operation in methods.items():
                yield path, method, operation

    def answer(self, where, operation, status, kind, body):
        self.answers += 1
        responses = operation["responses"]
        named = responses.get(str(status)) or responses.get(f"{status // 100}XX")
        if named is None:
            return self.fault(where, f"answers {status}, which is not in the document: {body[:200]}")
        content = self.resolve(named).get("content", {})
        if kind not in content:
            return self.fault(where, f"answers {kind!r}, the document names {sorted(content)}")
        if not kind.endswith("json") or "schema" not in content[kind]:
            return None
        schema = closed(content[kind]["schema"])
        schema = json.loads(json.dumps(schema).replace('"#/', f'"{NAME}#/'))
        validator = Draft202012Validator(schema, registry=self.registry)
        for fault in list(validator.iter_errors(json.loads(body)))[:3]:
            self.fault(where, f"{'/'.join(map(str, fault.path))}: {fault.message[:300]}")
        return None

    def run(self, concrete, bodies):
        self.document()
        for path, method, operation in self.operations():
            asked = concrete.get(path) or ([path] if "{" not in path else [])
            if not asked:
                self.fault(path, "nobody said what to ask")
            for one in asked if method == "get" else [path]:
                kinds = self.resolve(operation["responses"]["200"] if "200" in operation["responses"] else {}).get("content", {})
                for accept in (list(kinds) or [None]) if method == "get" else [None]:
                    data = bodies.get(path) if "requestBody" in operation else None
                    kind = next(iter(operation["requestBody"]["content"])) if data is not None else None
                    self.answer(f"{method.upper()} {one}", operation, *self.ask(method.upper(), one, accept, data, kind))
            if method == "post" and "requestBody" in operation:
                kind = next(iter(operation["requestBody"]["content"]))
                self.answer(f"POST {path}, nonsense", operation, *self.ask("POST", path, None, b"\xff", kind))
        for path, methods in self.doc["paths"].items():
            for method in METHODS:
                if method not in methods:
                    one = (concrete.get(path) or [path])[0]
                    status, _, _ = self.ask(method.upper(), one)
                    if status != 405:
                        self.fault(f"{method.upper()} {one}", f"is not in the document, and answers {status}")


def closed(schema):
    """The same schema, in which an object has no members but those that are named."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    new = {name: closed(value) for name, value in schema.items()}
    if new.get("type") == "object" and isinstance(new.get("properties"), dict) and "additionalProperties" not in new:
        new["additionalProperties"] = "paths" in new.get("required", [])
    return new


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address")
    parser.add_argument("--as", dest="concrete", action="append", default=[])
    parser.add_argument("--send", action="append", default=[])
    arguments = parser.parse_args()
    concrete = {}
    for pair in arguments.concrete:
        template, path = pair.split("=", 1)
        concrete.setdefault(template, []).append(path)
    bodies = {path: Path(file).read_bytes() for path, file in (pair.split("=", 1) for pair in arguments.send)}
    checker = Checker(arguments.address)
    checker.run(concrete, bodies)
    for fault in checker.faults:
        print(fault)
    print(f"{checker.answers} answers, {len(checker.faults)} faults")
    return 1 if checker.faults else 0


if __name__ == "__main__":
    sys.exit(main())
