//! A trigger's body straight off the bytes, for the usual case.

use super::trigger::{ReadingsClaim, Transition, TriggerBody, TriggerCall};
use super::{ARGUMENTS_MAX, priority_from, written_grade};
use crate::checks::read_quality;
use crate::cursor::Cursor;
use crate::origin::read_stretches;
use std::collections::BTreeMap;
use tally_model::{ClockState, PointId, Timestamp};

/// A body straight off the bytes: deterministic CBOR has one order of the keys. `None` for everything that is not a body.
pub(super) fn read_trigger(mut from: Cursor<'_>) -> Option<TriggerBody> {
    let count = from.map()?;
    from.key("at")?;
    let at = Timestamp::from_micros(from.int()?);
    let call = if from.key_opt("call") { Some(read_call(&mut from)?) } else { None };
    from.key("rule")?;
    let rule = from.hash()?;
    let clock = if from.key_opt("clock") { Some(read_clock(&mut from)?) } else { None };
    let grade = if from.key_opt("grade") { Some(written_grade(from.text()?).ok()?) } else { None };
    from.key("device")?;
    let device = from.parse()?;
    from.key("number")?;
    let number = from.uint()?;
    let mapping = if from.key_opt("mapping") { Some(from.hash()?) } else { None };
    let origins = if from.key_opt("origins") { Some(read_stretches(&mut from)?) } else { None };
    let quality = if from.key_opt("quality") { Some(read_quality(&mut from)?) } else { None };
    from.key("trigger")?;
    let trigger = from.parse()?;
    from.key("priority")?;
    let priority = priority_from(from.text()?).ok()?;
    from.key("readings")?;
    let readings = read_claim(&mut from)?;
    from.key("transition")?;
    let transition = Transition::from_word(from.text()?).ok()?;
    from.end()?;
    let optional =
        [call.is_some(), clock.is_some(), grade.is_some(), mapping.is_some(), origins.is_some(), quality.is_some()];
    let optional = optional.into_iter().filter(|is_there| *is_there).count() as u64;
    let (grade, origins) = (grade.unwrap_or_default(), origins.unwrap_or_default());
    let body = TriggerBody {
        trigger,
        device,
        rule,
        transition,
        priority,
        at,
        readings,
        number,
        call,
        clock,
        grade,
        mapping,
        origins,
        quality,
    };
    (count == 8 + optional).then_some(body)
}

fn read_clock(from: &mut Cursor<'_>) -> Option<ClockState> {
    let count = from.map()?;
    from.key("state")?;
    let word = from.text()?;
    let error = if count == 2 {
        from.key("error-us")?;
        Some(from.uint()?)
    } else {
        None
    };
    ClockState::try_new(word, error).filter(|_| count <= 2)
}

fn read_claim(from: &mut Cursor<'_>) -> Option<ReadingsClaim> {
    let count = from.map()?;
    from.key("head")?;
    let head = from.hash()?;
    from.key("last")?;
    let last = from.uint()?;
    from.key("root")?;
    let root = from.hash()?;
    from.key("first")?;
    let first = from.uint()?;
    from.key("points")?;
    let mut points = BTreeMap::new();
    from.pairs(|point, from| {
        points.insert(PointId::try_new(point).ok()?, from.uint()?);
        Some(())
    })?;
    (count == 5 && first <= last).then_some(ReadingsClaim { first, last, root, head, points })
}

fn read_call(from: &mut Cursor<'_>) -> Option<TriggerCall> {
    let count = from.map()?;
    from.key("with")?;
    let mut with = BTreeMap::new();
    from.pairs(|name, from| {
        with.insert(name.to_owned(), from.scalar()?);
        Some(())
    })?;
    from.key("action")?;
    let action = from.parse()?;
    from.key("contract")?;
    let contract = from.parse()?;
    (count == 3 && with.len() <= ARGUMENTS_MAX).then_some(TriggerCall { contract, action, with })
}
