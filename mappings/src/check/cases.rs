//! `tests:`: recordings, devices and triggers that exist, times that can be read.

use super::triggers::TriggerIds;
use super::{Checker, Outline, Outlines, Site};
use crate::fault::did_you_mean;
use crate::plant::{Expectation, TestCase};
use crate::written::{ExpectWritten, PlantFile, TestWritten};
use std::path::Path;
use std::time::Duration;
use tally_model::TriggerId;
use tally_rules::nearest_name;

/// Longest recording that a test may look at.
const AT_MOST: Duration = Duration::from_secs(366 * 24 * 3600);

impl Checker<'_> {
    pub(super) fn cases(
        &mut self,
        written: &PlantFile,
        root: &Site<'_>,
        outlines: &Outlines,
        triggers: &TriggerIds,
    ) -> Vec<TestCase> {
        let list = root.key("tests");
        let numbered = written.tests.iter().enumerate();
        numbered.filter_map(|(index, test)| self.case(test, &list.item(index), outlines, triggers)).collect()
    }

    fn case(
        &mut self,
        written: &TestWritten,
        site: &Site<'_>,
        outlines: &Outlines,
        triggers: &TriggerIds,
    ) -> Option<TestCase> {
        let outline = self.test_device(written, site, outlines);
        let expect: Vec<_> = written
            .expect
            .iter()
            .flatten()
            .enumerate()
            .filter_map(|(index, expect)| self.expectation(expect, &site.key("expect").item(index), outline, triggers))
            .collect();
        let name = written.readings.as_deref()?;
        let readings = self.base.join(name);
        if !readings.is_file() {
            let fault =
                site.key("readings").fault("the recording is not there").found(format!("`{}`", readings.display()));
            // A plant runs without the recordings it was tested with; its tests do not.
            self.report(fault.warning().hint("the path starts at the folder of the mapping file"));
        }
        let stem =
            || Path::new(name).file_stem().map_or_else(|| name.to_owned(), |stem| stem.to_string_lossy().into_owned());
        Some(TestCase {
            name: written.name.clone().unwrap_or_else(stem),
            readings,
            device: outline?.id.clone(),
            expect,
            file: site.document.file.clone(),
            line: site.place().line,
        })
    }

    fn test_device<'o>(
        &mut self,
        written: &TestWritten,
        site: &Site<'_>,
        outlines: &'o Outlines,
    ) -> Option<&'o Outline> {
        if let Some(name) = &written.device {
            return self.known_device(&site.key("device"), name, outlines);
        }
        let mut all = outlines.values();
        let only = all.next()?;
        if all.next().is_some() {
            let known: Vec<&str> = outlines.keys().map(String::as_str).collect();
            let fault = site.key("device").fault("whose readings are these?").allowed(known.join(", "));
            self.report(fault.hint("add `device:`, the plant has more than one"));
            return None;
        }
        Some(only)
    }

    fn expectation(
        &mut self,
        written: &ExpectWritten,
        site: &Site<'_>,
        outline: Option<&Outline>,
        triggers: &TriggerIds,
    ) -> Option<Expectation> {
        let trigger = written
            .trigger
            .as_deref()
            .and_then(|name| self.known_trigger(&site.key("trigger"), name, outline, triggers));
        let at = written.at.as_deref().and_then(|text| self.duration(&site.key("at"), text, Duration::ZERO, AT_MOST));
        let within = match &written.within {
            Some(text) => self.duration(&site.key("within"), text, Duration::ZERO, AT_MOST)?,
            None => Duration::ZERO,
        };
        let (cleared, quality) = (written.cleared.unwrap_or(false), written.quality.map(Into::into));
        Some(Expectation { trigger: trigger?, at: at?, within, cleared, quality })
    }

    fn known_trigger(
        &mut self,
        site: &Site<'_>,
        name: &str,
        outline: Option<&Outline>,
        triggers: &TriggerIds,
    ) -> Option<TriggerId> {
        let Some(device) = triggers.get(name) else {
            let known: Vec<&str> = triggers.keys().map(String::as_str).collect();
            let near = nearest_name(name, known.iter().copied()).map(did_you_mean);
            let fault = site.fault("unknown trigger").found(format!("`{name}`")).allowed(known.join(", "));
            self.report(fault.maybe_hint(near));
            return None;
        };
        if let (Some(device), Some(outline)) = (device, outline)
            && *device != outline.id
        {
            let fault = site.fault(format!("`{name}` watches `{device}`, the readings are of `{}`", outline.id));
            self.report(fault.hint("it can never happen in this test"));
        }
        TriggerId::try_new(name).ok()
    }
}
