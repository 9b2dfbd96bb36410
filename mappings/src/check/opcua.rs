//! `opcua:` of a device and the OPC UA half of `security:`.

use super::points::Protocol;
use super::{Checker, Site};
use crate::profile;
use crate::written::{LimitsWritten, OpcUaWritten, SecurityWritten};
use std::path::PathBuf;
use std::time::Duration;
use tally_model::{OpcUaLimits, OpcUaOptions, Security};
use tally_rules::nearest_name;

const SAMPLING_LEAST: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);
const HISTORY_LEAST: Duration = Duration::from_secs(1);
const HISTORY_MOST: Duration = Duration::from_secs(366 * 24 * 3_600);

impl Checker<'_> {
    pub(super) fn opcua(
        &mut self,
        written: Option<&OpcUaWritten>,
        site: &Site<'_>,
        protocol: Option<Protocol>,
    ) -> OpcUaOptions {
        let Some(written) = written else { return OpcUaOptions::default() };
        if protocol.is_some_and(|protocol| protocol != Protocol::OpcUa) {
            self.report(site.fault("`opcua` is for OPC UA devices").hint("remove it"));
        }
        let mut limits = OpcUaLimits::default();
        let profile = written.profile.as_deref().and_then(|name| self.profile(&site.key("profile"), name, &mut limits));
        if let Some(own) = &written.limits {
            limits = merged(&limits, &self.limits(&site.key("limits"), own));
        }
        let mut time = |key: &str, text: &Option<String>, least, most| {
            text.as_deref().and_then(|text| self.duration(&site.key(key), text, least, most))
        };
        OpcUaOptions {
            profile,
            limits,
            read: written.read.unwrap_or_default(),
            sampling: time("sampling", &written.sampling, SAMPLING_LEAST, HOUR),
            queue: written.queue,
            server_deadband: written.server_deadband.unwrap_or(false),
            history: time("history", &written.history, HISTORY_LEAST, HISTORY_MOST),
        }
    }

    fn profile(&mut self, site: &Site<'_>, name: &str, limits: &mut OpcUaLimits) -> Option<String> {
        match profile::named(name) {
            Some(Ok(profile)) => {
                *limits = self.limits(site, &profile.limits);
                Some(name.to_owned())
            }
            Some(Err(reason)) => {
                self.report(site.fault(format!("the profile shipped with this program is damaged: {reason}")));
                None
            }
            None => {
                let names: Vec<_> = profile::names().collect();
                let fault = site.fault("no such profile").found(format!("`{name}`")).allowed(names.join(", "));
                self.report(match nearest_name(name, names.iter().copied()) {
                    Some(near) => fault.hint(format!("did you mean `{near}`?")),
                    None => fault.hint("leave it out; what the server says itself is respected anyway"),
                });
                None
            }
        }
    }

    fn limits(&mut self, site: &Site<'_>, written: &LimitsWritten) -> OpcUaLimits {
        let mut time = |key: &str, text: &Option<String>| {
            text.as_deref().and_then(|text| self.duration(&site.key(key), text, SAMPLING_LEAST, HOUR))
        };
        OpcUaLimits {
            subscriptions: written.subscriptions,
            items_per_subscription: written.items_per_subscription,
            items_per_call: written.items_per_call,
            nodes_per_read: written.nodes_per_read,
            nodes_per_browse: written.nodes_per_browse,
            queue: written.queue,
            sampling: time("sampling", &written.sampling),
            publishing: time("publishing", &written.publishing),
        }
    }

    /// What only OPC UA knows of a login: user certificates, deprecated policies.
    pub(super) fn opcua_login(
        &mut self,
        written: &SecurityWritten,
        site: &Site<'_>,
        protocol: Option<Protocol>,
        security: &mut Security,
    ) {
        let keys = [
            ("user_certificate", written.user_certificate.is_some()),
            ("user_key", written.user_key.is_some()),
            ("insecure", written.insecure.is_some()),
        ];
        for (key, _) in keys.into_iter().filter(|(_, is_written)| *is_written) {
            if protocol.is_some_and(|protocol| protocol != Protocol::OpcUa) {
                self.report(site.key(key).fault(format!("`{key}` is for OPC UA")).hint("remove it"));
            }
        }
        let beside =
            |path: &String| site.document.file.parent().map_or_else(|| PathBuf::from(path), |dir| dir.join(path));
        security.user_certificate = written.user_certificate.as_ref().map(beside);
        security.user_key = written.user_key.as_ref().map(beside);
        if let Some(file) = &security.user_key {
            self.private_key(&site.key("user_key"), file);
        }
        security.insecure = written.insecure.unwrap_or(false);
        self.one_whole_login(written, site);
        if security.policy.is_deprecated() && !security.insecure {
            let fault = site.key("policy").fault("this policy is deprecated: it rests on SHA-1");
            let fault = fault.found(format!("`{}`", security.policy.word()));
            self.report(fault.hint("write `policy: best`, or add `insecure: true` if the server can do no better"));
        }
    }

    /// A user certificate comes with its key, and instead of a name.
    fn one_whole_login(&mut self, written: &SecurityWritten, site: &Site<'_>) {
        match (&written.user_certificate, &written.user_key) {
            (Some(_), None) => {
                self.report(
                    site.key("user_certificate").fault("a user certificate without its key").hint("add `user_key:`"),
                );
            }
            (None, Some(_)) => {
                let fault = site.key("user_key").fault("a user's key without its certificate");
                self.report(fault.hint("add `user_certificate:`"));
            }
            (Some(_), Some(_)) if written.user.is_some() => {
                let fault = site.key("user_certificate").fault("two logins at once: `user` and `user_certificate`");
                self.report(fault.hint("keep one of them"));
            }
            _ => {}
        }
    }
}

/// The device's own word first, the profile's where it says nothing.
fn merged(profile: &OpcUaLimits, own: &OpcUaLimits) -> OpcUaLimits {
    OpcUaLimits {
        subscriptions: own.subscriptions.or(profile.subscriptions),
        items_per_subscription: own.items_per_subscription.or(profile.items_per_subscription),
        items_per_call: own.items_per_call.or(profile.items_per_call),
        nodes_per_read: own.nodes_per_read.or(profile.nodes_per_read),
        nodes_per_browse: own.nodes_per_browse.or(profile.nodes_per_browse),
        queue: own.queue.or(profile.queue),
        sampling: own.sampling.or(profile.sampling),
        publishing: own.publishing.or(profile.publishing),
    }
}
