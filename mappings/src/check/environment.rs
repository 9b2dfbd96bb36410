//! What comes from outside the file: environment variables and secret files.

use super::{Checker, Site};
use crate::fault::Fault;
use std::path::Path;
use tally_model::Secret;
use tally_secrets::{OpenToOthers, SecretFault};

impl Checker<'_> {
    /// Replaces `${NAME}` and `${NAME:-default}`; `None` when that cannot be done.
    pub(super) fn substitute(&mut self, site: &Site<'_>, text: &str) -> Option<String> {
        let mut replaced = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            replaced.push_str(before);
            let Some((inside, after)) = after.split_once('}') else {
                let fault = site.fault("`${` without `}`").found(format!("`{text}`"));
                self.report(fault.hint("write `${NAME}` or `${NAME:-default}`"));
                return None;
            };
            replaced.push_str(&self.variable(site, inside)?);
            rest = after;
        }
        replaced.push_str(rest);
        Some(replaced)
    }

    fn variable(&mut self, site: &Site<'_>, inside: &str) -> Option<String> {
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if !is_variable(name) {
            let fault = site.fault("not the name of an environment variable").found(format!("`{name}`"));
            self.report(fault.allowed("letters, digits and `_`").hint("write `${NAME}` or `${NAME:-default}`"));
            return None;
        }
        // As in the shell, `:-` also replaces a variable that is set to nothing.
        let value = (self.env)(name).filter(|value| !value.is_empty() || default.is_none());
        let value = value.or_else(|| default.map(str::to_owned));
        if value.is_none() {
            let fault = site.fault(format!("the environment variable `{name}` is not set"));
            self.report(fault.hint(format!("set it, or write a default: `${{{name}:-…}}`")));
        }
        value
    }

    /// A password from where it is kept. What was written is never shown: it may be the password itself.
    pub(super) fn secret(&mut self, site: &Site<'_>, text: &str) -> Option<Secret> {
        let secret = match text.split_once(':') {
            Some(("env", name)) => self.secret_variable(site, name)?,
            Some(("file", path)) => self.secret_file(site, path)?,
            _ => {
                let fault = site.fault("a password is not written into the file").allowed("`env:NAME`, `file:/path`");
                self.report(fault.hint("put it into an environment variable or a file that only the agent can read"));
                return None;
            }
        };
        if secret.is_empty() {
            self.report(site.fault("the password is empty"));
            return None;
        }
        Some(Secret::new(secret))
    }

    fn secret_variable(&mut self, site: &Site<'_>, name: &str) -> Option<String> {
        let value = if is_variable(name) { (self.env)(name) } else { None };
        if value.is_none() {
            let fault = site.fault(format!("the environment variable `{name}` is not set"));
            self.report(fault.hint(format!("set it for the agent, and here for checking: {name}=… tally check FILE")));
        }
        value
    }

    fn secret_file(&mut self, site: &Site<'_>, path: &str) -> Option<String> {
        let path = self.base.join(Path::new(path));
        let fault = match tally_secrets::read_password(&path) {
            Ok(text) => return Some(text.as_str().to_owned()),
            Err(SecretFault::Open(open)) => open_to_others(site, &open),
            Err(SecretFault::Read(fault)) => {
                let fault = site.fault(format!("the file with the password cannot be read: {fault}"));
                fault.found(format!("`{}`", path.display()))
            }
        };
        self.report(fault);
        None
    }

    /// A private key that others may read; one that is not here, or that only the agent may read, is none of our business.
    pub(super) fn private_key(&mut self, site: &Site<'_>, file: &Path) {
        if let Err(open) = tally_secrets::judge(file) {
            self.report(open_to_others(site, &open));
        }
    }
}

fn open_to_others(site: &Site<'_>, open: &OpenToOthers) -> Fault {
    let fault =
        site.fault("others may read this file").found(format!("`{}`, mode {:04o}", open.file.display(), open.mode));
    fault.allowed("mode 0600 or 0400").hint(format!("`chmod 600 {}`", open.file.display()))
}

fn is_variable(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}
