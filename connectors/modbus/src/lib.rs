//! tally-connector-modbus
