//! tally-connector-opcua
