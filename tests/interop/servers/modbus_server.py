#!/usr/bin/env python3
"""A Modbus TCP server that is not ours: pymodbus, driven over stdin by the interoperability tests.

    modbus_server.py PORT [--rtu | --ascii] [UNIT ...]        PORT 0 takes a free one; default unit 1

With `--rtu` or `--ascii` the frames over TCP are those of a serial line.

Prints `ready PORT` when it listens. Every unit has 2,000 holding registers, input registers, coils and discrete
inputs from address 0, all zero; beyond them pymodbus answers exception 02. Commands, each answered by one line
`ok` or `error ...`:

    set TABLE ADDRESS HEX...                raw registers (`40f9 999a` or `40f9999a`), or bits (`1 0 1`)
    put TABLE ADDRESS TYPE ORDER VALUE      pymodbus encodes: TYPE such as FLOAT32, UINT64; ORDER big or little
    unit UNIT                               the commands that follow concern this unit

It ends when stdin ends, so that a test that dies leaves no server behind.
"""

import asyncio
import sys

from pymodbus import FramerType, ModbusDeviceIdentification
from pymodbus.client.mixin import ModbusClientMixin
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

SIZE = 2000
IDENTITY = ModbusDeviceIdentification(
    info_name={"VendorName": "Press Works", "ProductCode": "P-7", "MajorMinorRevision": "3.1", "ModelName": "Seven"}
)
# The function code by which pymodbus finds the table.
TABLES = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}


def device(unit):
    """One unit with its four tables."""

    def registers():
        return [SimData(0, values=[0] * SIZE, datatype=DataType.REGISTERS)]

    def bits():
        return [SimData(0, values=[False] * SIZE, datatype=DataType.BITS)]

    return SimDevice(unit, simdata=(bits(), bits(), registers(), registers()))


def raw_values(table, words):
    """What `set` writes."""
    if table in ("coil", "discrete"):
        return [word == "1" for word in words]
    digits = "".join(words)
    if not digits or len(digits) % 4:
        raise ValueError("registers have four hexadecimal digits each")
    return [int(digits[place : place + 4], 16) for place in range(0, len(digits), 4)]


def encoded(kind, order, text):
    """What `put` writes, encoded by pymodbus."""
    kind = ModbusClientMixin.DATATYPE[kind]
    if kind is ModbusClientMixin.DATATYPE.STRING:
        value = text
    elif kind in (ModbusClientMixin.DATATYPE.FLOAT32, ModbusClientMixin.DATATYPE.FLOAT64):
        value = float(text)
    else:
        value = int(text)
    return ModbusClientMixin.convert_to_registers(value, kind, word_order=order)


class Server:
    """The server and the unit the commands concern."""

    def __init__(self, port, units, framer):
        self.unit = units[0]
        self.server = ModbusTcpServer([device(unit) for unit in units], framer=framer, identity=IDENTITY, address=("127.0.0.1", port))

    async def start(self):
        """Listens; gives the port."""
        await self.server.serve_forever(background=True)
        return self.server.transport.sockets[0].getsockname()[1]

    async def obey(self, line):
        """One command."""
        match line.split():
            case ["unit", unit]:
                self.unit = int(unit)
            case ["set", table, address, *words]:
                await self.write(table, int(address), raw_values(table, words))
            case ["put", table, address, kind, order, value]:
                await self.write(table, int(address), encoded(kind, order, value))
            case _:
                raise ValueError("commands are `set`, `put`, `unit`")

    async def write(self, table, address, values):
        """Into the tables, through pymodbus' own interface."""
        await self.server.async_setValues(self.unit, TABLES[table], address, values)


async def main():
    """Serves until stdin ends."""
    framers = {"--rtu": FramerType.RTU, "--ascii": FramerType.ASCII}
    words = sys.argv[2:]
    framer = next((framers[word] for word in words if word in framers), FramerType.SOCKET)
    units = [int(word) for word in words if word not in framers] or [1]
    server = Server(int(sys.argv[1]), units, framer)
    print("ready", await server.start(), flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        try:
            await server.obey(line)
            print("ok", flush=True)
        except Exception as fault:  # every fault of a command is an answer, not an end
            print("error", repr(fault), flush=True)
    await server.server.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
