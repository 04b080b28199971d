//! The command line as people and CIs meet it: in a pipe, and on a real pseudo-terminal.

mod check;
mod explain;
mod help;
mod lint;
mod policy;
mod push;
mod records;
pub(crate) mod running;
