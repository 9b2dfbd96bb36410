// Decodes a recorded Sparkplug session with npm `sparkplug-payload`, a library that is not ours.
//
//     node sparkplug_decode.js < lines of "TOPIC<tab>HEX"
//
// Prints one JSON array, an object for each message: topic, seq, and metrics with name, value, historical, quality.
// The library knows no aliases: as a host does, name and data type of a data metric are taken from the birth by its alias,
// put into the message with the library's own protobuf schema, and only then is it decoded.

"use strict";
const { get } = require("sparkplug-payload");
const proto = require("sparkplug-payload/lib/sparkplugPayloadProto.js");
const sparkplug = get("spBv1.0");
const Payload = proto.org.eclipse.tahu.protobuf.Payload;

const lines = require("fs").readFileSync(0, "utf8").split("\n").filter((line) => line);
const born = new Map();
const plain = (value) => (value !== null && typeof value === "object" ? Number(value.toString()) : value);

const messages = lines.map((line) => {
    const [topic, hex] = line.split("\t");
    let bytes = Buffer.from(hex, "hex");
    const kind = topic.split("/")[2];
    const message = Payload.decode(bytes);
    for (const metric of message.metrics) {
        const has = (field) => Object.prototype.hasOwnProperty.call(metric, field);
        if (!has("alias")) continue;
        const alias = metric.alias.toString();
        if (kind.endsWith("BIRTH")) born.set(alias, metric);
        if (kind.endsWith("DATA")) {
            metric.name = born.get(alias).name;
            metric.datatype = born.get(alias).datatype;
        }
    }
    const decoded = sparkplug.decodePayload(Payload.encode(message).finish());
    const metrics = (decoded.metrics || []).map((metric) => ({
        name: metric.name,
        value: plain(metric.value),
        historical: metric.isHistorical === true,
        quality: metric.properties && metric.properties.Quality ? metric.properties.Quality.value : null,
    }));
    return { topic, seq: decoded.seq === undefined ? null : plain(decoded.seq), metrics };
});
console.log(JSON.stringify(messages));
