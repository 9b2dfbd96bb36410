#!/usr/bin/env python3
"""Reads and writes a Modbus device with pymodbus, as its client: `modbus_client.py KIND PLACE UNIT [FOLDER]`.

KIND is tcp, rtu+tcp, ascii+tcp, rtu, ascii or tls; PLACE a port on 127.0.0.1 or the path of a serial line; FOLDER holds
ca.pem, client.pem and client.key. Commands on standard input, each answered by one line:

    read holding|input 16 4        words in hexadecimal
    read coil|discrete 3 8         bits
    write holding 16 40f9 999a     function code 16
    one holding 16 40f9            function code 6
    write coil 3 1 0 1             function code 15
    one coil 3 1                   function code 5
    mask 16 fff0 0005              function code 22
    both 16 2 18 0001 0002         function code 23: reads 2 from 16, writes to 18
    identify                       function code 43/14, objects 0 to 4
"""

import ssl
import sys

from pymodbus import FramerType
from pymodbus.client import ModbusSerialClient, ModbusTcpClient, ModbusTlsClient


def connected(kind, place, folder):
    framer = {"rtu": FramerType.RTU, "ascii": FramerType.ASCII}.get(kind.split("+")[0], FramerType.SOCKET)
    if kind == "tls":
        context = ssl.create_default_context(cafile=f"{folder}/ca.pem")
        # pymodbus names no host to check; the authority is checked all the same.
        context.check_hostname = False
        context.load_cert_chain(f"{folder}/client.pem", f"{folder}/client.key")
        client = ModbusTlsClient("127.0.0.1", port=int(place), sslctx=context, timeout=5)
    elif kind in ("rtu", "ascii"):
        client = ModbusSerialClient(place, framer=framer, baudrate=19200, timeout=5)
    else:
        client = ModbusTcpClient("127.0.0.1", port=int(place), framer=framer, timeout=5)
    if not client.connect():
        sys.exit(f"cannot connect to {kind} {place}")
    return client


def shown(answer, what):
    if answer.isError():
        return f"exception {answer.exception_code}"
    return what(answer)


def words(answer):
    return " ".join(f"{word:04x}" for word in answer.registers)


def done(_):
    return "ok"


def obey(client, unit, verb, rest):
    hexadecimal = lambda texts: [int(text, 16) for text in texts]
    if verb == "read":
        table, start, count = rest[0], int(rest[1]), int(rest[2])
        call = {
            "holding": client.read_holding_registers,
            "input": client.read_input_registers,
            "coil": client.read_coils,
            "discrete": client.read_discrete_inputs,
        }[table]
        bits = lambda answer: " ".join(str(int(bit)) for bit in answer.bits[:count])
        return shown(call(start, count=count, device_id=unit), words if table in ("holding", "input") else bits)
    if verb == "write" and rest[0] == "holding":
        return shown(client.write_registers(int(rest[1]), hexadecimal(rest[2:]), device_id=unit), done)
    if verb == "write":
        return shown(client.write_coils(int(rest[1]), [bit == "1" for bit in rest[2:]], device_id=unit), done)
    if verb == "one" and rest[0] == "holding":
        return shown(client.write_register(int(rest[1]), int(rest[2], 16), device_id=unit), done)
    if verb == "one":
        return shown(client.write_coil(int(rest[1]), rest[2] == "1", device_id=unit), done)
    if verb == "mask":
        mask = hexadecimal(rest[1:])
        return shown(
            client.mask_write_register(address=int(rest[0]), and_mask=mask[0], or_mask=mask[1], device_id=unit), done
        )
    if verb == "both":
        answer = client.readwrite_registers(
            read_address=int(rest[0]),
            read_count=int(rest[1]),
            write_address=int(rest[2]),
            values=hexadecimal(rest[3:]),
            device_id=unit,
        )
        return shown(answer, words)
    if verb == "identify":
        answer = client.read_device_information(read_code=3, object_id=0, device_id=unit)
        return shown(answer, lambda a: " ".join(f"{key}={a.information[key].decode()}" for key in sorted(a.information)))
    return f"no command {verb}"


def main():
    kind, place, unit = sys.argv[1], sys.argv[2], int(sys.argv[3])
    client = connected(kind, place, sys.argv[4] if len(sys.argv) > 4 else "")
    print("ready", flush=True)
    for line in sys.stdin:
        verb, *rest = line.split()
        try:
            print(obey(client, unit, verb, rest), flush=True)
        except Exception as fault:  # whatever the library throws is an answer too
            print(f"failed {type(fault).__name__}: {fault}".replace("\n", " "), flush=True)


main()
