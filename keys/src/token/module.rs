//! A PKCS#11 library in this process: initialised once, its sessions in one place.
//!
//! `C_Finalize` ends the sessions of all keys of the library, and handles are given anew afterwards. So all of them lie here, behind one
//! lock, and whoever finds his gone opens another.

use super::object::{self, Failure};
use crate::{KeyError, TokenUri};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{AttributeType, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::AuthPin;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tally_evidence::{Hash, SIGNATURE_BYTES, SealFault, VerifyingKey};
use zeroize::Zeroizing;

/// Libraries that are loaded. None is ever unloaded: many do not survive it.
static MODULES: Mutex<BTreeMap<PathBuf, Arc<Module>>> = Mutex::new(BTreeMap::new());

/// A library.
pub(super) struct Module(Mutex<Inner>);

/// What is done with it, one at a time.
pub(super) struct Inner {
    path: PathBuf,
    context: Pkcs11,
    is_initialised: bool,
    sessions: HashMap<u64, Open>,
    /// By serial number of the token: the PIN that it refused. Never tried again.
    refused: HashMap<String, Zeroizing<String>>,
    last: Option<SealFault>,
}

struct Open {
    session: Session,
    key: ObjectHandle,
}

impl Module {
    /// Loads a library, or finds it loaded.
    ///
    /// # Errors
    /// [`KeyError::Module`].
    pub fn load(path: &Path) -> Result<Arc<Self>, KeyError> {
        // One library under two names is one library.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = modules.get(&path) {
            return Ok(Arc::clone(known));
        }
        let context =
            Pkcs11::new(&path).map_err(|fault| KeyError::Module { module: path.clone(), reason: fault.to_string() })?;
        let (sessions, refused) = (HashMap::new(), HashMap::new());
        let inner = Inner { path: path.clone(), context, is_initialised: false, sessions, refused, last: None };
        let module = Arc::new(Self(Mutex::new(inner)));
        modules.insert(path, Arc::clone(&module));
        Ok(module)
    }

    /// Waits until nobody else uses it.
    pub fn use_now(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// A signature with an open session; `None`, and the session is gone, when that does not work.
    pub fn sign(&mut self, number: u64, digest: &Hash) -> Option<[u8; SIGNATURE_BYTES]> {
        let Open { session, key } = self.sessions.get(&number)?;
        let fault = match session.sign(&Mechanism::Ecdsa, *key, digest) {
            Ok(signature) => match <[u8; SIGNATURE_BYTES]>::try_from(signature) {
                Ok(signature) => return Some(signature),
                Err(other) => SealFault::Refused(format!("the token gave {} bytes as a P-256 signature", other.len())),
            },
            Err(fault) => SealFault::from(Failure::from(fault)),
        };
        tracing::debug!(%fault, "a session of a token is of no use any more");
        self.last = Some(fault);
        self.close(number);
        None
    }

    /// Whether the key is still there, by asking for an attribute of it; its session is gone when it is not.
    pub fn has(&mut self, number: u64) -> bool {
        let Some(Open { session, key }) = self.sessions.get(&number) else { return false };
        let is_there = session.get_attributes(*key, &[AttributeType::Sign]).is_ok();
        if !is_there {
            self.close(number);
        }
        is_there
    }

    /// Why signing did not work last.
    pub fn last_fault(&self) -> SealFault {
        self.last.clone().unwrap_or_else(|| SealFault::Away("the token does not sign".to_owned()))
    }

    /// Finds token and key, logs in, and keeps the session for `number`.
    ///
    /// # Errors
    /// [`SealFault`].
    pub fn open(&mut self, number: u64, uri: &TokenUri) -> Result<VerifyingKey, SealFault> {
        self.close(number);
        let (session, _) = self.log_in(uri, false)?;
        let (key, public) = object::find(&session, uri)?;
        self.sessions.insert(number, Open { session, key });
        Ok(public)
    }

    /// Ends the session of `number`.
    pub fn close(&mut self, number: u64) {
        self.sessions.remove(&number);
    }

    /// See [`super::generate`].
    pub fn generate(&mut self, uri: &TokenUri) -> Result<object::Generated, KeyError> {
        let token = |fault: Failure| KeyError::Token { uri: uri.to_string(), fault: fault.into() };
        let (session, _) = self.log_in(uri, true).map_err(token)?;
        if object::exists(&session, uri).map_err(token)? {
            return Err(KeyError::Exists { uri: uri.to_string() });
        }
        object::generate(&session, uri).map_err(token)
    }

    fn log_in(&mut self, uri: &TokenUri, writes: bool) -> Result<(Session, Slot), Failure> {
        let (slot, token) = self.find_token(uri)?;
        let session = if writes { self.context.open_rw_session(slot) } else { self.context.open_ro_session(slot) }?;
        self.show_pin(&session, &token, uri)?;
        Ok((session, slot))
    }

    /// The one token that is meant. A library sees tokens that come back only after it was started anew.
    fn find_token(&mut self, uri: &TokenUri) -> Result<(Slot, TokenInfo), Failure> {
        if self.is_initialised
            && let Some(found) = self.look(uri)?
        {
            return Ok(found);
        }
        self.start_anew()?;
        let missing = || {
            Failure::Away(format!(
                "no such token in any slot of {}: it was pulled out, or never put in",
                self.path.display()
            ))
        };
        self.look(uri)?.ok_or_else(missing)
    }

    fn start_anew(&mut self) -> Result<(), Failure> {
        // Handles of ended sessions mean others afterwards.
        self.sessions.clear();
        if std::mem::take(&mut self.is_initialised)
            && let Err(fault) = self.context.clone().finalize()
        {
            tracing::debug!(%fault, "a PKCS#11 library does not end in good order");
        }
        match self.context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {
                self.is_initialised = true;
                Ok(())
            }
            Err(fault) => {
                Err(Failure::Away(format!("{} does not start: {}", self.path.display(), object::words(&fault))))
            }
        }
    }

    fn look(&self, uri: &TokenUri) -> Result<Option<(Slot, TokenInfo)>, Failure> {
        let slots = self.context.get_slots_with_token()?;
        // A slot whose token has just gone has no answer.
        let tokens = slots.into_iter().filter_map(|slot| Some((slot, self.context.get_token_info(slot).ok()?)));
        let mut found = tokens.filter(|(slot, token)| is_meant(uri, *slot, token));
        match (found.next(), found.next()) {
            (_, Some(_)) => Err(Failure::Refused("more than one token fits; add `serial` to the URI".to_owned())),
            (one, None) => Ok(one),
        }
    }

    /// Logs in, and never a second time with a PIN that was wrong: a few tries lock a token for good.
    fn show_pin(&mut self, session: &Session, token: &TokenInfo, uri: &TokenUri) -> Result<(), Failure> {
        let refuse = |text: &str| Err(Failure::Refused(text.to_owned()));
        if !token.login_required() {
            return Ok(());
        }
        if token.user_pin_locked() {
            return refuse("the token has locked its PIN after wrong ones; its security officer can set another");
        }
        let Some(source) = &uri.pin else {
            if token.protected_authentication_path() {
                return Ok(session.login(UserType::User, None)?);
            }
            return refuse("the token wants a PIN; add `pin-source=FILE` (mode 0600) to the URI");
        };
        let pin = source.read().map_err(|fault| Failure::Refused(fault.to_string()))?;
        let serial = token.serial_number();
        if self.refused.get(serial) == Some(&pin) {
            return Err(Failure::Refused(format!(
                "the token refused the PIN in {source}; it is not tried a second time, because a few wrong ones lock the token: \
                 correct the file"
            )));
        }
        if token.user_pin_final_try() {
            return refuse(
                "the token takes one more PIN before it locks itself; log in once by hand, for example with pkcs11-tool",
            );
        }
        match session.login(UserType::User, Some(&AuthPin::from(pin.as_str()))) {
            // The PIN counts for all sessions of a program (PKCS#11 v3.0 §5.6.8).
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {
                self.refused.remove(serial);
                Ok(())
            }
            Err(fault) if object::is_about_the_pin(&fault) => {
                self.refused.insert(serial.to_owned(), pin);
                Err(Failure::Refused(format!(
                    "{} (from {source}); it is not tried again before the file says another",
                    object::words(&fault)
                )))
            }
            Err(fault) => Err(fault.into()),
        }
    }
}

fn is_meant(uri: &TokenUri, slot: Slot, token: &TokenInfo) -> bool {
    let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
    is(&uri.token, token.label())
        && is(&uri.serial, token.serial_number())
        && is(&uri.manufacturer, token.manufacturer_id())
        && is(&uri.model, token.model())
        && uri.slot.is_none_or(|wanted| wanted == slot.id())
        && token.token_initialized()
}
