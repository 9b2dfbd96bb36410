//! `step(contract, agreement, what happened) -> (agreement', effects)` or a refusal. Pure: what the registry knows about
//! people comes in through [`People`], time through `now`.

use super::contract::{Cause, Contract, EffectSpec, Order, Transition};
use super::{Candidate, Scope, TriggerFacts};
use crate::datum::Datum;
use crate::records::Agreement;
use crate::refusal::Refusal;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;
use tally_evidence::PartyKind;
use tally_evidence::cbor::Cbor;
use tally_model::Timestamp;

/// Who calls.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// Party id.
    pub id: &'a str,
    /// What it is.
    pub kind: PartyKind,
    /// Its firm.
    pub firm: Option<&'a str>,
}

impl Caller<'_> {
    /// Whether the caller is `holder`, or a person who works for it.
    #[must_use]
    pub fn speaks_for(&self, holder: &str) -> bool {
        !holder.is_empty() && (self.id == holder || self.kind == PartyKind::Person && self.firm == Some(holder))
    }
}

/// What happened to an agreement.
#[derive(Debug, Clone, Copy)]
pub enum Happening<'a> {
    /// A trigger asks for an action.
    Trigger(&'a str, &'a TriggerFacts<'a>),
    /// Somebody calls an action.
    Call(&'a str, Caller<'a>),
    /// The term of the state ran out.
    Term,
}

/// What the registry knows about the people of a firm.
pub trait People {
    /// People who are not revoked, in order of id.
    ///
    /// # Errors
    /// [`Refusal::StateCorrupt`].
    fn of_firm(&self, firm: &str) -> Result<Vec<Candidate>, Refusal>;
}

/// What a step wants to happen outside the agreement, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Money from the payer's account into escrow.
    Hold {
        /// Party id.
        payer: String,
        /// Minor units, not negative.
        amount: i64,
    },
    /// Money from escrow to an account.
    Pay {
        /// Party id.
        payee: String,
        /// Minor units, not negative.
        amount: i64,
    },
    /// What is left in escrow back to the payer.
    Release,
    /// A person was chosen for a role, or nobody.
    Chosen {
        /// The role.
        role: String,
        /// The person.
        person: Option<String>,
    },
    /// An event of the contract's own.
    Emit {
        /// Its kind.
        kind: String,
        /// Its data.
        data: BTreeMap<String, Cbor>,
    },
}

/// The result of a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Stepped {
    /// The agreement afterwards.
    pub agreement: Agreement,
    /// What else shall happen.
    pub effects: Vec<Effect>,
    /// Which line of `on:` was taken, from 0.
    pub transition: usize,
    /// Whether a state was entered, be it the same one again; otherwise the agreement stayed and its term runs on.
    pub entered: bool,
}

/// Takes the first transition that fits. The agreement is copied only when there is one.
///
/// # Errors
/// Role, state and condition in this order ([`Refusal`] 152, 171–173), then whatever the effects need.
pub fn step(
    contract: &Contract,
    agreement: Cow<'_, Agreement>,
    happening: &Happening<'_>,
    args: &BTreeMap<String, Datum>,
    now: Timestamp,
    people: &dyn People,
) -> Result<Stepped, Refusal> {
    let mut run = Run { contract, agreement, happening, args, now, people, effects: Vec::new(), entered: false };
    let transition = run.choose_transition()?;
    run.carry_out(&contract.transitions[transition])?;
    Ok(Stepped { agreement: run.agreement.into_owned(), effects: run.effects, transition, entered: run.entered })
}

struct Run<'a> {
    contract: &'a Contract,
    agreement: Cow<'a, Agreement>,
    happening: &'a Happening<'a>,
    args: &'a BTreeMap<String, Datum>,
    now: Timestamp,
    people: &'a dyn People,
    effects: Vec<Effect>,
    entered: bool,
}

impl Run<'_> {
    fn scope<'s>(&'s self, candidate: Option<&'s Candidate>) -> Scope<'s> {
        let (trigger, caller) = match self.happening {
            Happening::Trigger(_, facts) => (Some(*facts), None),
            Happening::Call(_, caller) => (None, Some(caller.id)),
            Happening::Term => (None, None),
        };
        Scope { agreement: &self.agreement, args: self.args, trigger, caller, candidate, now: self.now }
    }

    /// The transitions this happening can cause, in any state.
    fn caused(&self) -> impl Iterator<Item = (usize, &Transition)> {
        let fits = |cause: &Cause| match (cause, self.happening) {
            (Cause::Trigger(mine), Happening::Trigger(action, _)) => mine == action,
            (Cause::Call { action: mine, .. }, Happening::Call(action, _)) => mine == action,
            (Cause::Term(_), Happening::Term) => true,
            _ => false,
        };
        self.contract.transitions.iter().enumerate().filter(move |(_, way)| fits(&way.cause))
    }

    fn choose_transition(&self) -> Result<usize, Refusal> {
        self.check_role(|_| true)?;
        if self.agreement.ended {
            let Agreement { id, state, .. } = &*self.agreement;
            return Err(Refusal::AgreementEnded { agreement: id.to_string(), state: state.clone() });
        }
        let here: Vec<_> = self.caused().filter(|(_, way)| way.is_from(&self.agreement.state)).collect();
        if here.is_empty() {
            return Err(self.wrong_state());
        }
        self.check_role(|way| way.is_from(&self.agreement.state))?;
        let mut guard = String::new();
        for (number, way) in here.into_iter().filter(|(_, way)| self.may(way)) {
            let Some(when) = &way.when else { return Ok(number) };
            let holds = when.holds(&self.scope(None));
            if holds.map_err(|reason| arithmetic(when.source(), reason))? {
                return Ok(number);
            }
            guard = format!("`{}`", when.source());
        }
        let subject = self.agreement.id.to_string();
        Err(Refusal::GuardRefused { subject, action: self.action().to_owned(), guard })
    }

    fn action(&self) -> &str {
        match self.happening {
            Happening::Trigger(action, _) | Happening::Call(action, _) => action,
            Happening::Term => "term",
        }
    }

    fn may(&self, way: &Transition) -> bool {
        match (&way.cause, self.happening) {
            (Cause::Call { by, .. }, Happening::Call(_, caller)) => caller.speaks_for(self.holder(by)),
            _ => true,
        }
    }

    fn holder(&self, role: &str) -> &str {
        self.agreement.parties.get(role).map_or("", String::as_str)
    }

    /// Refuses a caller who holds none of the roles that the lines in question ask for.
    fn check_role(&self, in_question: impl Fn(&Transition) -> bool) -> Result<(), Refusal> {
        let mut asked = None;
        for (_, way) in self.caused().filter(|(_, way)| in_question(way)) {
            match &way.cause {
                Cause::Call { by, .. } if !self.may(way) => asked = asked.or(Some(by)),
                _ => return Ok(()),
            }
        }
        let (Some(role), Happening::Call(action, caller)) = (asked, self.happening) else { return Ok(()) };
        let holder = self.holder(role).to_owned();
        Err(Refusal::WrongRole { signer: caller.id.into(), action: (*action).into(), role: role.clone(), holder })
    }

    /// For a caller with what would be possible; a trigger asks nobody, and its refusal is only noted.
    fn wrong_state(&self) -> Refusal {
        let allowed = match self.happening {
            Happening::Call(..) => self.contract.possible(&self.agreement.state).join(", "),
            Happening::Trigger(..) | Happening::Term => String::new(),
        };
        Refusal::WrongState {
            allowed,
            agreement: self.agreement.id.to_string(),
            state: self.agreement.state.clone(),
            action: self.action().to_owned(),
        }
    }

    fn carry_out(&mut self, way: &Transition) -> Result<(), Refusal> {
        let mut target = way.to.clone();
        for effect in &way.effects {
            if let Some(otherwise) = self.effect(effect)? {
                target = Some(otherwise);
            }
        }
        self.agreement.to_mut().updated = self.now;
        if let Some(state) = target {
            self.enter(state)?;
        }
        Ok(())
    }

    /// Entering a state, also the same one again, starts its term anew.
    fn enter(&mut self, state: String) -> Result<(), Refusal> {
        let agreement = self.agreement.to_mut();
        agreement.ended = self.contract.ends.contains(&state);
        agreement.state = state;
        self.entered = true;
        let ways = self.contract.transitions.iter().filter(|way| way.is_from(&self.agreement.state));
        let mut term = ways.filter_map(|way| match &way.cause {
            Cause::Term(term) => Some(term),
            _ => None,
        });
        let due = match term.next() {
            Some(term) => {
                let micros = term.integer(&self.scope(None)).map_err(|reason| arithmetic(term.source(), reason))?;
                let micros = u64::try_from(micros)
                    .map_err(|_| arithmetic(term.source(), format!("a term of {micros} µs runs backwards")))?;
                Some(self.now.plus(Duration::from_micros(micros)))
            }
            None => None,
        };
        self.agreement.to_mut().due = due;
        Ok(())
    }

    /// Carries one effect out; gives the state to go to instead, when a choice finds nobody.
    fn effect(&mut self, effect: &EffectSpec) -> Result<Option<String>, Refusal> {
        match effect {
            EffectSpec::Set(assignments) => self.set(assignments)?,
            EffectSpec::Escrow { from, amount } => {
                let (payer, amount) = (self.holder(from).to_owned(), self.amount(amount)?);
                self.effects.push(Effect::Hold { payer, amount });
            }
            EffectSpec::Pay { to, amount } => {
                let (payee, amount) = (self.holder(to).to_owned(), self.amount(amount)?);
                self.effects.push(Effect::Pay { payee, amount });
            }
            EffectSpec::Release => self.effects.push(Effect::Release),
            EffectSpec::Choose { role, from, filter, order, otherwise } => {
                return self.choose(role, from, filter, order, otherwise.as_ref());
            }
            EffectSpec::Emit { kind, with } => {
                let mut data = BTreeMap::new();
                for (name, value) in with {
                    data.insert(name.clone(), self.value(value)?.to_cbor());
                }
                self.effects.push(Effect::Emit { kind: kind.clone(), data });
            }
        }
        Ok(None)
    }

    fn value(&self, expression: &super::Expression) -> Result<Datum, Refusal> {
        expression.evaluate(&self.scope(None)).map_err(|reason| arithmetic(expression.source(), reason))
    }

    fn amount(&self, expression: &super::Expression) -> Result<i64, Refusal> {
        let amount = expression.integer(&self.scope(None));
        let amount = amount.map_err(|reason| arithmetic(expression.source(), reason))?;
        if amount < 0 { Err(Refusal::BadAmount { amount }) } else { Ok(amount) }
    }

    fn set(&mut self, assignments: &[(String, super::Expression)]) -> Result<(), Refusal> {
        let mut values = Vec::with_capacity(assignments.len());
        for (field, expression) in assignments {
            values.push((field.clone(), self.value(expression)?));
        }
        self.agreement.to_mut().fields.extend(values);
        Ok(())
    }

    fn choose(
        &mut self,
        role: &str,
        from: &str,
        filter: &super::Expression,
        order: &[Order],
        otherwise: Option<&String>,
    ) -> Result<Option<String>, Refusal> {
        let mut fitting = Vec::new();
        for candidate in self.people.of_firm(self.holder(from))? {
            let fits = filter.holds(&self.scope(Some(&candidate)));
            if fits.map_err(|reason| arithmetic(filter.source(), reason))? {
                fitting.push(candidate);
            }
        }
        let rank = |candidate: &Candidate| {
            let keys = order.iter().map(|order| match order {
                Order::OpenOrders => candidate.open_orders,
                Order::Id => 0,
            });
            // Ordering by id ends the comparison, whatever stands after it.
            let until_id = order.iter().position(|order| *order == Order::Id).unwrap_or(order.len());
            (keys.take(until_id).collect::<Vec<_>>(), candidate.id.clone())
        };
        let person = fitting.into_iter().min_by_key(rank).map(|candidate| candidate.id);
        if person.is_none() && otherwise.is_none() {
            return Err(Refusal::NobodyFits { agreement: self.agreement.id.to_string(), role: role.to_owned() });
        }
        self.agreement.to_mut().parties.insert(role.to_owned(), person.clone().unwrap_or_default());
        let nobody = person.is_none();
        self.effects.push(Effect::Chosen { role: role.to_owned(), person });
        Ok(otherwise.filter(|_| nobody).cloned())
    }
}

fn arithmetic(what: &str, reason: String) -> Refusal {
    Refusal::Arithmetic { what: format!("`{what}`"), reason }
}
