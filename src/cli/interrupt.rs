//! Ctrl-C and termination, heard where there is something to be tidied up first.

use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::voice::Trouble;

/// What a shell says of a program that SIGINT ended.
const STATUS_OF_INTERRUPT: u8 = 130;
/// What a shell says of a program that SIGTERM ended.
const STATUS_OF_TERMINATION: u8 = 143;

/// Hears the signals from its making on; they end the program no more.
pub struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
}

/// A signal that was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupted(u8);

impl Interrupted {
    /// The exit status that goes with it.
    pub fn exit_code(self) -> ExitCode {
        ExitCode::from(self.0)
    }
}

impl Interrupt {
    /// Begins to hear.
    pub fn new() -> Result<Self, Trouble> {
        let deaf = |error: std::io::Error| format!("signals cannot be heard: {error}");
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(deaf)?,
            terminate: signal(SignalKind::terminate()).map_err(deaf)?,
        })
    }

    /// Waits for one of them.
    pub async fn heard(&mut self) -> Interrupted {
        tokio::select! {
            _ = self.interrupt.recv() => Interrupted(STATUS_OF_INTERRUPT),
            _ = self.terminate.recv() => Interrupted(STATUS_OF_TERMINATION),
        }
    }
}
