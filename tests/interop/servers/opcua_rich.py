"""A foreign OPC UA server (asyncua) with what the plain one lacks: history, structures, enums, moving namespaces, methods.

Usage: opcua_rich.py PORT [--before URI]... [--no-subscriptions]

PORT 0 takes a free one. `--before URI` registers other namespaces first, so that ours gets another index.
`--no-subscriptions` answers CreateSubscription with Bad_ServiceUnsupported, as small embedded servers do.
Prints `ready PORT` when clients may come. Lines on stdin, each answered with `ok` or `error: …`:
    set NAME NUMBER     writes a variable, stamped with the time of now
    at NAME NUMBER MS   the same, stamped MS milliseconds ago
    axis NUMBER         sets Position of the structure, and Position of the second element of the array of structures
    remove NAME         deletes the node
    get NAME            answers `ok VALUE`
"""

import argparse
import asyncio
import datetime
import logging
import sys

from asyncua import Server, ua, uamethod
from asyncua.common.structures104 import new_enum, new_struct, new_struct_field

from opcua_server import free_port

NAMESPACE = "urn:tallystick:rich"


class Rich:
    def __init__(self, server: Server) -> None:
        self.server, self.nodes, self.axis_type = server, {}, None

    async def fill(self, index: int) -> None:
        self.index = index
        objects = self.server.nodes.objects
        machine = await objects.add_object(ua.NodeId("Machine", index), ua.QualifiedName("Machine", index))
        for name, value in {"Speed": 1.0, "Torque": 2.0, "Steady": 5.0}.items():
            node = await machine.add_variable(ua.NodeId(name, index), ua.QualifiedName(name, index), value, ua.VariantType.Double)
            await node.set_writable()
            self.nodes[name] = node
        await self.server.historize_node_data_change(
            [self.nodes["Speed"], self.nodes["Steady"]], period=datetime.timedelta(days=1), count=100_000
        )
        await new_enum(self.server, index, "Mode", ["Off", "Setup", "Auto"])
        axis, _ = await new_struct(
            self.server, index, "Axis",
            [
                new_struct_field("Position", ua.VariantType.Double),
                new_struct_field("Homed", ua.VariantType.Boolean),
                new_struct_field("Limits", ua.VariantType.Double, array=True),
            ],
        )
        await new_struct(
            self.server, index, "Cell",
            [new_struct_field("Name", ua.VariantType.String), new_struct_field("Main", axis)],
        )
        types = await self.server.load_data_type_definitions()
        self.axis_type, self.cell_type = types["Axis"], types["Cell"]
        first = self.axis(1.5)
        self.nodes["Axis"] = await machine.add_variable(ua.NodeId("Axis", index), ua.QualifiedName("Axis", index), first)
        self.nodes["Axes"] = await machine.add_variable(
            ua.NodeId("Axes", index), ua.QualifiedName("Axes", index), [self.axis(10.0), self.axis(20.0)]
        )
        cell = self.cell_type(Name="cell-7", Main=self.axis(3.25))
        self.nodes["Cell"] = await machine.add_variable(ua.NodeId("Cell", index), ua.QualifiedName("Cell", index), cell)
        self.nodes["Mode"] = await machine.add_variable(
            ua.NodeId("Mode", index), ua.QualifiedName("Mode", index), 2, ua.VariantType.Int32
        )
        matrix = ua.Variant([[1, 2, 3], [4, 5, 6]], ua.VariantType.Int32)
        self.nodes["Matrix"] = await machine.add_variable(ua.NodeId("Matrix", index), ua.QualifiedName("Matrix", index), matrix)

        @uamethod
        def multiply(_parent, a, b):
            return a * b

        await machine.add_method(
            ua.NodeId("Multiply", index), ua.QualifiedName("Multiply", index), multiply,
            [ua.VariantType.Double, ua.VariantType.Double], [ua.VariantType.Double],
        )

    def axis(self, position: float):
        return self.axis_type(Position=position, Homed=True, Limits=[-100.0, 100.0])

    async def write(self, name: str, value: float, ago_ms: float) -> None:
        time = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(milliseconds=ago_ms)
        variant = ua.Variant(value, ua.VariantType.Double)
        await self.nodes[name].write_value(ua.DataValue(variant, SourceTimestamp=time, ServerTimestamp=time))

    async def run(self, line: str) -> str:
        match line.split():
            case ["set", name, number]:
                await self.write(name, float(number), 0)
            case ["at", name, number, ago]:
                await self.write(name, float(number), float(ago))
            case ["axis", number]:
                await self.nodes["Axis"].write_value(self.axis(float(number)))
                await self.nodes["Axes"].write_value([self.axis(0.0), self.axis(float(number))])
            case ["remove", name]:
                await self.server.delete_nodes([self.nodes[name]])
            case ["get", name]:
                return f" {await self.nodes[name].read_value()}"
            case _:
                raise ValueError(f"no such command: {line}")
        return ""


def without_subscriptions() -> None:
    from asyncua.server.uaprocessor import UaProcessor

    original = UaProcessor._process_message

    async def process(self, typeid, requesthdr, seqhdr, body):
        if typeid == ua.NodeId(ua.ObjectIds.CreateSubscriptionRequest_Encoding_DefaultBinary):
            raise ua.uaerrors.BadServiceUnsupported()
        return await original(self, typeid, requesthdr, seqhdr, body)

    UaProcessor._process_message = process


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--before", action="append", default=[])
    parser.add_argument("--no-subscriptions", action="store_true")
    arguments = parser.parse_args()
    if arguments.no_subscriptions:
        without_subscriptions()
    port = free_port(arguments.port)
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    for uri in arguments.before:
        await server.register_namespace(uri)
    rich = Rich(server)
    await rich.fill(await server.register_namespace(NAMESPACE))
    reader = asyncio.StreamReader()
    async with server:
        print(f"ready {port}", flush=True)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := (await reader.readline()).decode().strip():
            try:
                print(f"ok{await rich.run(line)}", flush=True)
            except Exception as fault:  # told to the test, which decides
                print(f"error: {fault!r}", flush=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.CRITICAL, stream=sys.stderr)
    asyncio.run(main())
