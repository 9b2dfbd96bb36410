//! What a command says in the end, and how it says it.

use serde::Serialize;

/// The answer of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Yes, or done: exit code 0.
    Yes,
    /// No: exit code 1.
    No,
}

impl From<bool> for Answer {
    fn from(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}

/// Usage or environment: exit code 2. The text says what was tried, what happened and what to do.
pub type Fault = Box<dyn std::error::Error + Send + Sync>;

/// A fault with what was tried in front of it.
pub trait Context<T> {
    /// Puts `what` in front of the fault.
    ///
    /// # Errors
    /// The fault itself, with `what` before it.
    fn context(self, what: impl std::fmt::Display) -> Result<T, Fault>;
}

impl<T, E: Into<Fault>> Context<T> for Result<T, E> {
    fn context(self, what: impl std::fmt::Display) -> Result<T, Fault> {
        self.map_err(|fault| format!("{what}: {}", with_causes(fault.into().as_ref())).into())
    }
}

/// A fault and what caused it, each cause once: some libraries repeat theirs in their own text.
pub fn with_causes(fault: &(dyn std::error::Error + 'static)) -> String {
    let mut text = fault.to_string();
    let mut cause = fault.source();
    while let Some(next) = cause {
        let words = next.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = next.source();
    }
    text
}

/// Prints `value` as one JSON document.
///
/// # Errors
/// When it cannot be serialised.
pub fn print_json(value: &impl Serialize) -> Result<(), Fault> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}
