//! The effects of a transition: the items of `do:`.

use super::super::contract::{EffectSpec, Order};
use super::super::types::{Names, Type};
use super::Loader;
use crate::yaml::{Node, Section, Tree};

const KINDS: &str = "set, escrow, pay, release, choose, emit";

impl Loader<'_> {
    pub(super) fn effects(&mut self, node: &Node, names: &Names<'_>) -> Vec<EffectSpec> {
        let key = self.key("do");
        let items = self.faults.list(node, &key);
        let outer = self.path.clone();
        let mut effects = Vec::new();
        for (number, item) in items.iter().enumerate() {
            self.path = format!("{outer}.do[{number}]");
            effects.extend(self.effect(item, names));
        }
        self.path = outer;
        effects
    }

    fn effect(&mut self, item: &Node, names: &Names<'_>) -> Option<EffectSpec> {
        let Tree::Map(pairs) = &item.value else {
            let path = self.path.clone();
            self.faults.add(
                item,
                &path,
                format!("is {}", item.what()),
                format!("write one of: {KINDS}, each with `:`"),
            );
            return None;
        };
        let [(kind, body)] = pairs.as_slice() else {
            let path = self.path.clone();
            self.faults.add(item, &path, format!("has {} keys", pairs.len()), "write one effect per item of the list");
            return None;
        };
        let word = kind.scalar().unwrap_or_default();
        match word {
            "set" => Some(EffectSpec::Set(self.set(body, names))),
            "escrow" => self.escrow(body, names),
            "pay" => self.pay(body, names),
            "release" => self.release(body),
            "choose" => self.choose(body, names),
            "emit" => self.emit(body, names),
            _ => {
                let path = self.path.clone();
                self.faults.add(kind, &path, format!("`{word}` is no effect"), format!("allowed: {KINDS}"));
                None
            }
        }
    }

    fn set(&mut self, body: &Node, names: &Names<'_>) -> Vec<(String, super::Expression)> {
        let key = self.key("set");
        let mut assignments = Vec::new();
        for (field, place, value) in self.faults.map(body, &key) {
            let known = self.contract.fields.get(field).filter(|_| field != "device");
            let Some(kind) = known else {
                let fields = self.contract.fields.keys().filter(|name| *name != "device").cloned();
                let hint = format!("fields that can be set: {}", fields.collect::<Vec<_>>().join(", "));
                self.faults.add(place, &key, format!("`{field}` is no field that can be set"), hint);
                continue;
            };
            let value = self.expression(value, &format!("set.{field}"), (*kind).into(), names);
            assignments.push((field.to_owned(), value));
        }
        assignments
    }

    fn escrow(&mut self, body: &Node, names: &Names<'_>) -> Option<EffectSpec> {
        let (from, amount) = self.posting("escrow", "from", body, names)?;
        Some(EffectSpec::Escrow { from, amount })
    }

    fn pay(&mut self, body: &Node, names: &Names<'_>) -> Option<EffectSpec> {
        let (to, amount) = self.posting("pay", "to", body, names)?;
        Some(EffectSpec::Pay { to, amount })
    }

    /// `{from/to: role, amount: expression}`; the role must be an organisation, for only these have accounts.
    fn posting(
        &mut self,
        effect: &str,
        side: &'static str,
        body: &Node,
        names: &Names<'_>,
    ) -> Option<(String, super::Expression)> {
        let mut section = self.faults.section(body, &self.key(effect));
        let role = section.need(side, self.faults);
        let amount = section.need("amount", self.faults);
        section.finish(self.faults);
        let amount = self.expression(amount?, &format!("{effect}.amount"), Type::Integer, names);
        let role = self.role(role?, &format!("{effect}.{side}"))?;
        self.needs_kind(body, effect, &role, "organisation");
        Some((role, amount))
    }

    fn needs_kind(&mut self, place: &Node, effect: &str, role: &str, kind: &str) {
        if self.contract.parties.get(role).is_none_or(|found| found != kind) {
            let key = self.key(effect);
            self.faults.add(
                place,
                &key,
                format!("`{role}` is not of kind {kind}"),
                format!("name a role of kind {kind}"),
            );
        }
    }

    fn release(&mut self, body: &Node) -> Option<EffectSpec> {
        if body.scalar() == Some("rest") {
            return Some(EffectSpec::Release);
        }
        let key = self.key("release");
        self.faults.add(body, &key, format!("is {}", body.what()), "write `release: rest`");
        None
    }

    fn choose(&mut self, body: &Node, names: &Names<'_>) -> Option<EffectSpec> {
        let mut section = self.faults.section(body, &self.key("choose"));
        let (role, from) = (section.need("role", self.faults), section.need("from", self.faults));
        let filter = section.need("where", self.faults);
        let order = self.order(&mut section);
        let otherwise = section.take("else").map(|state| self.word(state, "choose.else", "a state"));
        section.finish(self.faults);
        let role = self.role(role?, "choose.role")?;
        let from = self.role(from?, "choose.from")?;
        self.needs_kind(body, "choose", &role, "person");
        self.needs_kind(body, "choose", &from, "organisation");
        let mut inner = Names::within(names);
        inner.add("it.id", Type::Text).add("it.firm", Type::Text);
        inner.add("it.skills", Type::List).add("it.open_orders", Type::Integer);
        let filter = self.expression(filter?, "choose.where", Type::Bool, &inner);
        let otherwise = match otherwise {
            Some(state) => Some(state?),
            None => None,
        };
        Some(EffectSpec::Choose { role, from, filter, order, otherwise })
    }

    fn order(&mut self, section: &mut Section<'_>) -> Vec<Order> {
        let Some(node) = section.take("order") else { return Vec::new() };
        let key = self.key("choose.order");
        let mut order = Vec::new();
        for item in self.faults.list(node, &key) {
            match item.scalar() {
                Some("open_orders") => order.push(Order::OpenOrders),
                Some("id") => order.push(Order::Id),
                _ => self.faults.add(item, &key, format!("is {}", item.what()), "allowed: open_orders, id"),
            }
        }
        order
    }

    fn emit(&mut self, body: &Node, names: &Names<'_>) -> Option<EffectSpec> {
        let mut section = self.faults.section(body, &self.key("emit"));
        let event = section.need("event", self.faults);
        let with = section.take("with");
        section.finish(self.faults);
        let key = self.key("emit.with");
        let pairs = with.map(|with| self.faults.map(with, &key)).unwrap_or_default();
        let mut data = Vec::new();
        for (name, _, value) in pairs {
            // An event can carry anything; a name or a text shows its type by itself.
            let kinds = [Type::Integer, Type::Text, Type::Bool, Type::List];
            let source = value.scalar().unwrap_or_default();
            match kinds.iter().find_map(|kind| super::Expression::compile(source, *kind, names).ok()) {
                Some(expression) => data.push((name.to_owned(), expression)),
                None => {
                    self.expression(value, &format!("emit.with.{name}"), Type::Text, names);
                }
            }
        }
        let word = self.word(event?, "emit.event", "a word")?;
        Some(EffectSpec::Emit { kind: format!("{}.{word}", self.contract.name), with: data })
    }
}
