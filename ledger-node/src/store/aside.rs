//! Work that would keep the writing thread waiting: at most one piece of it under way, on a thread of its own.

use super::IndexFault;
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

/// The work under way, or done and not looked at.
#[derive(Debug)]
pub struct Aside<T> {
    thread: Mutex<Option<JoinHandle<Result<T, IndexFault>>>>,
    /// Of the thread, at most 15 bytes.
    name: &'static str,
    /// What is worked at, for faults.
    what: &'static str,
}

impl<T> Aside<T> {
    /// None yet.
    pub const fn new(name: &'static str, what: &'static str) -> Self {
        Self { thread: Mutex::new(None), name, what }
    }

    /// Begins; what was begun before must be [finished](Self::finish) or [looked at](Self::look).
    ///
    /// # Errors
    /// No thread.
    pub fn begin(&self, work: impl FnOnce() -> Result<T, IndexFault> + Send + 'static) -> Result<(), IndexFault>
    where
        T: Send + 'static,
    {
        let spawned = std::thread::Builder::new().name(self.name.to_owned()).spawn(work);
        let thread =
            spawned.map_err(|source| IndexFault::File { file: format!("a thread for {}", self.what), source })?;
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(())
    }

    /// Whether some is under way, or done and not [looked at](Self::look).
    pub fn is_begun(&self) -> bool {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Whether some is under way and not done.
    #[cfg(test)]
    pub fn is_working(&self) -> bool {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// What came of it, when it has ended since the last look; never waits.
    ///
    /// # Errors
    /// [`IndexFault`] with which it ended.
    pub fn look(&self) -> Result<Option<T>, IndexFault> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        thread.take_if(|thread| thread.is_finished()).map(|thread| self.join(thread)).transpose()
    }

    /// Waits for what is under way.
    ///
    /// # Errors
    /// [`IndexFault`] with which it ended.
    pub fn finish(&self) -> Result<Option<T>, IndexFault> {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        thread.map(|thread| self.join(thread)).transpose()
    }

    fn join(&self, thread: JoinHandle<Result<T, IndexFault>>) -> Result<T, IndexFault> {
        thread.join().unwrap_or_else(|_| Err(IndexFault::Damaged(format!("the thread of {} died", self.what))))
    }
}

impl<T> Drop for Aside<T> {
    /// Nobody writes behind the back of the next one to open these files.
    fn drop(&mut self) {
        // Its fault was told, or nobody is left to be told.
        let _ = self.finish();
    }
}
