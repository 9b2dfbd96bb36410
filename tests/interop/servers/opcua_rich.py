"""A foreign OPC UA server (asyncua) with what the plain one lacks: history, structures, enums, moving namespaces, methods,
alarms.

Usage: opcua_rich.py PORT [--before URI]... [--no-subscriptions] [--sessions COUNT]

PORT 0 takes a free one. `--before URI` registers other namespaces first, so that ours gets another index.
`--no-subscriptions` answers CreateSubscription with Bad_ServiceUnsupported, as small embedded servers do.
`--sessions COUNT` answers CreateSession with Bad_TooManySessions while so many are open.
Prints `ready PORT` when clients may come. Lines on stdin, each answered with `ok` or `error: …`:
    set NAME NUMBER     writes a variable, stamped with the time of now
    at NAME NUMBER MS   the same, stamped MS milliseconds ago
    axis NUMBER         sets Position of the structure, and Position of the second element of the array of structures
    remove NAME         deletes the node; who watches it is told, as by other servers (asyncua alone forgets to)
    restore NAME NUMBER makes it again, as after loading a program
    get NAME            answers `ok VALUE`
    alarm NAME on|off SEVERITY MESSAGE
                        tells an event of the condition NAME: `Overheat`, which is shown as a node, or `Hidden`, which is not
    branch NAME         tells an event about an older state of the condition
    acked NAME          answers `ok COMMENT` with which it was acknowledged
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
        self.machine = machine
        for name, value in {"Speed": 1.0, "Torque": 2.0, "Steady": 5.0}.items():
            await self.add(name, value)
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

        self.alarms = {name: await Alarm(self, name).fill() for name in ("Overheat", "Hidden")}
        refresh = self.server.get_node(ua.ObjectIds.ConditionType_ConditionRefresh)
        self.server.link_method(refresh, self.refresh)
        self.server.link_method(self.server.get_node(ua.ObjectIds.AcknowledgeableConditionType_Acknowledge), self.acknowledge)

        @uamethod
        def multiply(_parent, a, b):
            return a * b

        await machine.add_method(
            ua.NodeId("Multiply", index), ua.QualifiedName("Multiply", index), multiply,
            [ua.VariantType.Double, ua.VariantType.Double], [ua.VariantType.Double],
        )

        @uamethod
        def double(_parent, a):
            return 2 * a

        await machine.add_method(
            ua.NodeId("Double", index), ua.QualifiedName("Double", index), double, [ua.VariantType.Double], [ua.VariantType.Double]
        )

    async def add(self, name: str, value: float) -> None:
        node_id, name_there = ua.NodeId(name, self.index), ua.QualifiedName(name, self.index)
        self.nodes[name] = await self.machine.add_variable(node_id, name_there, value, ua.VariantType.Double)
        await self.nodes[name].set_writable()

    def axis(self, position: float):
        return self.axis_type(Position=position, Homed=True, Limits=[-100.0, 100.0])

    async def write(self, name: str, value: float, ago_ms: float) -> None:
        time = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(milliseconds=ago_ms)
        variant = ua.Variant(value, ua.VariantType.Double)
        await self.nodes[name].write_value(ua.DataValue(variant, SourceTimestamp=time, ServerTimestamp=time))

    async def refresh(self, _parent, subscription: ua.Variant):
        for alarm in self.alarms.values():
            if alarm.event.Retain:
                await alarm.tell(subscription.Value)
        return []

    async def acknowledge(self, parent: ua.NodeId, event: ua.Variant, comment: ua.Variant):
        alarm = next(alarm for alarm in self.alarms.values() if alarm.id == parent)
        if event.Value != alarm.event.EventId.Value:
            return ua.StatusCode(ua.StatusCodes.BadEventIdUnknown)
        alarm.comment = comment.Value.Text
        await alarm.change(acked=True)
        return []

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
                gone = ua.StatusCode(ua.StatusCodes.BadNodeIdUnknown)
                await self.nodes[name].write_value(ua.DataValue(ua.Variant(None), gone))
                await self.server.delete_nodes([self.nodes[name]])
            case ["restore", name, number]:
                await self.add(name, float(number))
            case ["get", name]:
                return f" {await self.nodes[name].read_value()}"
            case ["alarm", name, state, severity, *words]:
                alarm = self.alarms[name]
                await alarm.change(active=state == "on", acked=False, severity=int(severity), message=" ".join(words))
            case ["branch", name]:
                await self.alarms[name].tell_branch()
            case ["acked", name]:
                return f" {self.alarms[name].comment}"
            case _:
                raise ValueError(f"no such command: {line}")
        return ""


class Alarm:
    """A condition (OPC UA Part 9), of which asyncua itself only knows the events."""

    def __init__(self, rich: Rich, name: str) -> None:
        self.rich, self.name, self.comment = rich, name, None
        self.id = ua.NodeId(name, rich.index)
        self.shown = {}

    async def fill(self) -> "Alarm":
        self.generator = await self.rich.server.get_event_generator(ua.ObjectIds.AlarmConditionType)
        self.event = self.generator.event
        self.event.NodeId, self.event.ConditionName, self.event.BranchId = self.id, self.name, ua.NodeId()
        self.event.Quality, self.event.Retain = ua.StatusCode(), False
        if self.name != "Hidden":
            condition = await self.rich.machine.add_object(self.id, ua.QualifiedName(self.name, self.rich.index))
            for path in ("ActiveState", "AckedState", "EnabledState"):
                state = await condition.add_variable(*self.part(path), ua.LocalizedText(path))
                self.shown[f"{path}/Id"] = await state.add_property(self.part(f"{path}/Id")[0], ua.QualifiedName("Id", 0), False)
            kinds = {"Severity": (0, ua.VariantType.UInt16), "Message": (ua.LocalizedText(""), ua.VariantType.LocalizedText)}
            for path, (value, kind) in kinds.items():
                self.shown[path] = await condition.add_property(*self.part(path), value, kind)
        await self.change(active=False, acked=True, severity=1, message="")
        return self

    def part(self, path: str) -> tuple[ua.NodeId, ua.QualifiedName]:
        return ua.NodeId(f"{self.name}.{path}", self.rich.index), ua.QualifiedName(path, 0)

    async def change(self, active=None, acked=None, severity=None, message=None) -> None:
        told = {"ActiveState/Id": active, "AckedState/Id": acked, "Severity": severity, "EnabledState/Id": True}
        told["Message"] = None if message is None else ua.LocalizedText(message)
        for path, value in told.items():
            if value is not None:
                setattr(self.event, path, value)
                if path in self.shown:
                    kind = await self.shown[path].read_data_type_as_variant_type()
                    await self.shown[path].write_value(value, kind)
        self.event.Retain = getattr(self.event, "ActiveState/Id") or not getattr(self.event, "AckedState/Id")
        await self.generator.trigger(message=self.event.Message.Text or "well")

    async def tell(self, subscription: int) -> None:
        await self.generator.isession.subscription_service.trigger_event(self.event, subscription)

    async def tell_branch(self) -> None:
        self.event.BranchId = ua.NodeId("before", self.rich.index)
        setattr(self.event, "ActiveState/Id", not getattr(self.event, "ActiveState/Id"))
        await self.generator.trigger()
        setattr(self.event, "ActiveState/Id", not getattr(self.event, "ActiveState/Id"))
        self.event.BranchId = ua.NodeId()


def without_subscriptions() -> None:
    from asyncua.server.uaprocessor import UaProcessor

    original = UaProcessor._process_message

    async def process(self, typeid, requesthdr, seqhdr, body):
        if typeid == ua.NodeId(ua.ObjectIds.CreateSubscriptionRequest_Encoding_DefaultBinary):
            raise ua.uaerrors.BadServiceUnsupported()
        return await original(self, typeid, requesthdr, seqhdr, body)

    UaProcessor._process_message = process


def with_sessions(most: int) -> None:
    from asyncua.server.uaprocessor import UaProcessor

    process_message, close, holders = UaProcessor._process_message, UaProcessor.close, set()

    async def process(self, typeid, requesthdr, seqhdr, body):
        if typeid == ua.NodeId(ua.ObjectIds.CreateSessionRequest_Encoding_DefaultBinary) and self not in holders:
            if len(holders) >= most:
                raise ua.uaerrors.BadTooManySessions()
            holders.add(self)
        if typeid == ua.NodeId(ua.ObjectIds.CloseSessionRequest_Encoding_DefaultBinary):
            holders.discard(self)
        return await process_message(self, typeid, requesthdr, seqhdr, body)

    async def gone(self):
        holders.discard(self)
        await close(self)

    UaProcessor._process_message, UaProcessor.close = process, gone


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--before", action="append", default=[])
    parser.add_argument("--no-subscriptions", action="store_true")
    parser.add_argument("--sessions", type=int)
    arguments = parser.parse_args()
    if arguments.no_subscriptions:
        without_subscriptions()
    if arguments.sessions is not None:
        with_sessions(arguments.sessions)
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
