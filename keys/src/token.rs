//! A key in a token: asked for signatures, and asked again with growing pauses while it is away.

mod module;
mod object;

use crate::{KeyError, TokenUri};
use module::Module;
pub use object::Generated;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tally_evidence::{Hash, RemoteKey, SIGNATURE_BYTES, SealFault, VerifyingKey};

/// Pauses between two tries to reach a token: the first, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// Tells keys apart within a module.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A private P-256 key in a token. Signing waits for the hardware; one signature at a time in each module.
pub struct TokenKey {
    uri: TokenUri,
    module: Arc<Module>,
    number: u64,
    public: OnceLock<VerifyingKey>,
    pause: Mutex<Option<Pause>>,
}

/// Away, and not asked before this time.
struct Pause {
    until: Instant,
    delay: Duration,
    fault: SealFault,
}

impl TokenKey {
    /// Loads the module; the token is not touched.
    ///
    /// # Errors
    /// [`KeyError::Module`].
    pub fn new(uri: &TokenUri) -> Result<Self, KeyError> {
        let module = Module::load(&uri.module)?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(Self { uri: uri.clone(), module, number, public: OnceLock::new(), pause: Mutex::new(None) })
    }

    /// Finds token and key, and logs in.
    ///
    /// # Errors
    /// [`KeyError::Token`].
    pub fn connect(&self) -> Result<VerifyingKey, KeyError> {
        self.public().map_err(|fault| KeyError::Token { uri: self.uri.to_string(), fault })
    }

    /// Asks the token, unless it was asked a moment ago.
    fn ask<T>(&self, work: impl FnOnce() -> Result<T, SealFault>) -> Result<T, SealFault> {
        let mut pause = self.pause();
        if let Some(Pause { until, fault, .. }) = &*pause
            && Instant::now() < *until
        {
            return Err(fault.clone());
        }
        match work() {
            Ok(done) => {
                if pause.take().is_some() {
                    tracing::info!(key = %self.uri, "the token with the key is back");
                }
                Ok(done)
            }
            Err(fault) => {
                if pause.is_none() {
                    tracing::info!(key = %self.uri, %fault, "the key in the token cannot be used; it is tried again");
                }
                let delay = pause.as_ref().map_or(PAUSE_MIN, |pause| (pause.delay * 2).min(PAUSE_MAX));
                *pause = Some(Pause { until: Instant::now() + delay, delay, fault: fault.clone() });
                Err(fault)
            }
        }
    }

    /// The key is the one that was seen first; another under the same name seals nothing.
    fn is_still(&self, found: VerifyingKey) -> Result<VerifyingKey, SealFault> {
        let known = self.public.get_or_init(|| found.clone());
        if *known == found {
            return Ok(found);
        }
        let (known, found) = (known.id(), found.id());
        Err(SealFault::Refused(format!(
            "the token has another key under this name now ({found}; it was {known}); put the first one back, or restart after \
             `tally registry rotate`"
        )))
    }

    fn pause(&self) -> MutexGuard<'_, Option<Pause>> {
        self.pause.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RemoteKey for TokenKey {
    fn public(&self) -> Result<VerifyingKey, SealFault> {
        match self.public.get() {
            Some(known) => Ok(known.clone()),
            None => self.ask(|| self.is_still(self.module.use_now().open(self.number, &self.uri)?)),
        }
    }

    fn look(&self) -> Result<(), SealFault> {
        self.ask(|| {
            let mut module = self.module.use_now();
            if module.has(self.number) {
                return Ok(());
            }
            self.is_still(module.open(self.number, &self.uri)?).map(|_| ())
        })
    }

    fn sign_digest(&self, digest: &Hash) -> Result<[u8; SIGNATURE_BYTES], SealFault> {
        self.ask(|| {
            let mut module = self.module.use_now();
            if let Some(signature) = module.sign(self.number, digest) {
                return Ok(signature);
            }
            // The session may simply have ended: once more with a new one.
            self.is_still(module.open(self.number, &self.uri)?)?;
            module.sign(self.number, digest).ok_or_else(|| module.last_fault())
        })
    }
}

impl Drop for TokenKey {
    fn drop(&mut self) {
        self.module.use_now().close(self.number);
    }
}

/// Makes a P-256 key in the token that never leaves it (CKA_SENSITIVE, not CKA_EXTRACTABLE).
///
/// # Errors
/// [`KeyError`], among them [`KeyError::Exists`].
pub fn generate(uri: &TokenUri) -> Result<Generated, KeyError> {
    Module::load(&uri.module)?.use_now().generate(uri)
}
