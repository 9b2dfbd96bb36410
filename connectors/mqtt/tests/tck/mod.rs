//! Sparkplug 3.0, assertion by assertion: what the edge node did in front of recording servers ([`scenes`]), one check for
//! each assertion that concerns it ([`checks`]), and the table that comes of it ([`table`]).

pub mod checks;
pub mod scenes;
pub mod table;
pub mod view;
