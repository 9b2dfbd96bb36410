//! The list and its file. Format: `docs/formats/data-folder.md`, *Alarms*.

use super::{ALARMS_MAX, WORDS_MAX};
use crate::clock::Clock;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tally_journal::files;

/// Name of the file in the data folder.
const FILE: &str = "alarms.json";
/// Version of the file.
const VERSION: u32 = 1;

/// What an alarm is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlarmKind {
    /// Somebody has another history of this ledger, signed by its key.
    OwnHistory,
    /// A ledger that this node watches as a witness signed two histories.
    WatchedHistory,
    /// An agent sealed two anchors with one number.
    AnchorTwice,
    /// An agent sealed readings under a fresh number that an anchor of it covers already.
    ReadingsTwice,
}

impl AlarmKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::OwnHistory, Self::WatchedHistory, Self::AnchorTwice, Self::ReadingsTwice];

    /// The word in the file, the API and the metric.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::OwnHistory => "own-history",
            Self::WatchedHistory => "watched-history",
            Self::AnchorTwice => "anchor-twice",
            Self::ReadingsTwice => "readings-twice",
        }
    }

    /// Whether it goes on until what raised it is settled, instead of having happened once.
    pub(super) const fn stands(self) -> bool {
        matches!(self, Self::OwnHistory | Self::WatchedHistory)
    }
}

/// Who has looked at it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acknowledged {
    /// When, RFC 3339, by this computer's clock.
    pub at: String,
    /// Who, by his own word.
    pub by: String,
    /// What he found.
    pub words: String,
}

/// An alarm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alarm {
    /// From 1, in the order they were raised.
    pub id: u64,
    /// What it is about.
    pub kind: AlarmKind,
    /// Which ledger or device.
    pub subject: String,
    /// What happened.
    pub text: String,
    /// When it was noticed, RFC 3339, by this computer's clock.
    pub raised: String,
    /// The file that proves it to strangers, if there is one.
    pub proof: Option<PathBuf>,
    /// Entries of this ledger that show it.
    pub entries: Vec<u64>,
    /// When what raised it was gone; never with what happened once.
    pub over: Option<String>,
    /// Who has looked at it.
    pub acknowledged: Option<Acknowledged>,
}

/// An alarm to be raised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct News {
    pub kind: AlarmKind,
    pub subject: String,
    pub text: String,
    pub proof: Option<PathBuf>,
    pub entries: Vec<u64>,
}

impl News {
    fn is(&self, alarm: &Alarm) -> bool {
        (self.kind, &self.subject) == (alarm.kind, &alarm.subject)
    }
}

/// Why a list is of no use, or an alarm cannot be acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum AlarmFault {
    /// The file cannot be read or written.
    #[error("{}: {source}", file.display())]
    Io {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is another.
    #[error("{}: {reason}; put it aside, and a new list is begun", file.display())]
    File {
        /// Which file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// There is no such alarm.
    #[error("there is no alarm {0}")]
    Unknown(u64),
    /// Somebody was first.
    #[error("alarm {} was acknowledged by `{}` at {}: {}", .0, .1.by, .1.at, .1.words)]
    Already(u64, Box<Acknowledged>),
    /// Nothing, or too much, was said.
    #[error("`{field}` has {found} bytes; 1 to {max} are needed")]
    Words {
        /// Which of the two.
        field: &'static str,
        /// Its length.
        found: usize,
        /// The longest.
        max: usize,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    tallystick_alarms: u32,
    /// Blocks below this height were looked at.
    looked: u64,
    alarms: Vec<Alarm>,
}

/// The list.
pub struct Alarms {
    file: Option<PathBuf>,
    /// Held over the sync: alarms are rare, and what is shown is on the disk.
    kept: Mutex<Kept>,
    clock: Arc<dyn Clock>,
}

impl Alarms {
    /// Reads the list of this data folder; without one it is in memory alone.
    ///
    /// # Errors
    /// [`AlarmFault::Io`], [`AlarmFault::File`].
    pub fn open(folder: Option<&Path>, clock: Arc<dyn Clock>) -> Result<Self, AlarmFault> {
        let file = folder.map(|folder| folder.join(FILE));
        let mut kept = Kept { tallystick_alarms: VERSION, looked: 0, alarms: Vec::new() };
        if let Some(file) = &file
            && let Some(text) = files::read(file).map_err(|source| AlarmFault::Io { file: file.clone(), source })?
        {
            let wrong = |reason| AlarmFault::File { file: file.clone(), reason };
            kept = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
            if kept.tallystick_alarms != VERSION {
                return Err(wrong(format!("version {}, this program knows {VERSION}", kept.tallystick_alarms)));
            }
        }
        for alarm in kept.alarms.iter().filter(|alarm| alarm.acknowledged.is_none()) {
            tracing::error!(alarm = alarm.id, "ALARM of an earlier run, not acknowledged: {}", alarm.text);
        }
        Ok(Self { file, kept: Mutex::new(kept), clock })
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them, oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<Alarm> {
        self.lock().alarms.clone()
    }

    /// How many of a kind nobody has acknowledged.
    #[must_use]
    pub fn open_of(&self, kind: AlarmKind) -> usize {
        self.lock().alarms.iter().filter(|alarm| alarm.kind == kind && alarm.acknowledged.is_none()).count()
    }

    /// Blocks below this height were looked at.
    pub(super) fn looked(&self) -> u64 {
        self.lock().looked
    }

    /// Remembers how far was looked; on the disk with the next alarm or [`Alarms::keep`].
    pub(super) fn look_on(&self, below: u64) {
        self.lock().looked = below;
    }

    /// Writes the list, so that the next run goes on looking here.
    pub(super) fn keep(&self) {
        let kept = self.lock();
        self.say(self.write(&kept));
    }

    /// Something happened. While an alarm of this kind and subject waits for somebody, it says nothing new.
    pub(super) fn happened(&self, news: News) {
        let mut kept = self.lock();
        if !kept.alarms.iter().any(|alarm| news.is(alarm) && alarm.acknowledged.is_none()) {
            self.raise(&mut kept, news);
        }
    }

    /// What stands now, of the kinds that stand: what is new is raised, what is gone is over. `is_certain` says of an alarm that it is gone
    /// when it is not among them.
    pub(super) fn standing(&self, news: Vec<News>, is_certain: impl Fn(&Alarm) -> bool) {
        let mut kept = self.lock();
        let now = self.clock.now().to_string();
        let mut has_changed = false;
        for alarm in kept.alarms.iter_mut().filter(|alarm| alarm.kind.stands() && alarm.over.is_none()) {
            if !news.iter().any(|news| news.is(alarm)) && is_certain(alarm) {
                tracing::info!(alarm = alarm.id, "the alarm is over: {}", alarm.text);
                alarm.over = Some(now.clone());
                has_changed = true;
            }
        }
        if has_changed {
            self.say(self.write(&kept));
        }
        for news in news {
            if let Some(alarm) = kept.alarms.iter_mut().find(|alarm| news.is(alarm) && alarm.over.is_none()) {
                // A proof may come later than the first sign.
                if alarm.proof.is_none() && news.proof.is_some() {
                    (alarm.proof, alarm.text) = (news.proof, news.text);
                    self.say(self.write(&kept));
                }
            } else {
                self.raise(&mut kept, news);
            }
        }
    }

    fn raise(&self, kept: &mut Kept, news: News) {
        let News { kind, subject, text, proof, entries } = news;
        if kept.alarms.len() >= ALARMS_MAX {
            tracing::error!("ALARM, and the list of alarms is full: put {FILE} aside. {text}");
            return;
        }
        let id = kept.alarms.last().map_or(1, |last| last.id + 1);
        tracing::error!(alarm = id, kind = kind.word(), subject, "ALARM: {text}");
        let raised = self.clock.now().to_string();
        kept.alarms.push(Alarm { id, kind, subject, text, raised, proof, entries, over: None, acknowledged: None });
        self.say(self.write(kept));
    }

    /// Somebody has looked at it.
    ///
    /// # Errors
    /// [`AlarmFault`]; nothing is changed then.
    pub fn acknowledge(&self, id: u64, by: &str, words: &str) -> Result<Alarm, AlarmFault> {
        for (field, text, max) in [("by", by, WORDS_MAX.0), ("words", words, WORDS_MAX.1)] {
            let found = text.trim().len();
            if found == 0 || found > max {
                return Err(AlarmFault::Words { field, found, max });
            }
        }
        let mut kept = self.lock();
        let at = self.clock.now().to_string();
        let place = kept.alarms.iter().position(|alarm| alarm.id == id).ok_or(AlarmFault::Unknown(id))?;
        let Some(alarm) = kept.alarms.get_mut(place) else { return Err(AlarmFault::Unknown(id)) };
        if let Some(before) = &alarm.acknowledged {
            return Err(AlarmFault::Already(id, Box::new(before.clone())));
        }
        alarm.acknowledged = Some(Acknowledged { at, by: by.trim().to_owned(), words: words.trim().to_owned() });
        let done = alarm.clone();
        if let Err(fault) = self.write(&kept) {
            // Nobody is told that it is acknowledged when the disk does not know it.
            if let Some(alarm) = kept.alarms.get_mut(place) {
                alarm.acknowledged = None;
            }
            return Err(fault);
        }
        tracing::info!(
            alarm = id,
            by = done.acknowledged.as_ref().map(|by| by.by.as_str()),
            "the alarm is acknowledged"
        );
        Ok(done)
    }

    fn write(&self, kept: &Kept) -> Result<(), AlarmFault> {
        let Some(file) = &self.file else { return Ok(()) };
        let text = serde_json::to_string_pretty(kept)
            .map_err(|error| AlarmFault::File { file: file.clone(), reason: error.to_string() })?;
        files::replace(file, text.as_bytes()).map_err(|source| AlarmFault::Io { file: file.clone(), source })
    }

    /// A list that cannot be written is shown from memory all the same.
    fn say(&self, written: Result<(), AlarmFault>) {
        if let Err(fault) = written {
            tracing::error!(%fault, "the list of alarms cannot be written; it is lost with the next stop");
        }
    }
}

#[cfg(test)]
mod tests;
