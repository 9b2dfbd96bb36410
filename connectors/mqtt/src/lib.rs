//! tally-connector-mqtt
