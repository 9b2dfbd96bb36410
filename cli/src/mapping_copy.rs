//! A mapping with everything it refers to, copied into a site folder, so that the folder can be moved, kept and backed up whole.
//!
//! Nothing in the files is rewritten: the plant file, its data sheets and its recordings keep their places relative to each
//! other, so every `use:`, `readings:` and `connect: replay:…` means the same as before. The copy is made aside first and
//! checked there; only what stands on its own goes into the site.

use crate::answer::{Context, Fault};
use std::path::{Component, Path, PathBuf};
use tally_mappings::Plant;
use tally_model::Endpoint;
use tempfile::TempDir;

/// Where the copy goes in a site.
pub const FOLDER: &str = "mapping";

/// A copy that has been checked.
pub struct MappingCopy {
    aside: TempDir,
    /// The plant file first; all relative to the copy.
    files: Vec<PathBuf>,
}

impl MappingCopy {
    /// Copies `mapping` aside, with its data sheets and recordings, and loads the copy.
    ///
    /// # Errors
    /// When the mapping or its copy has faults, or a path in it is absolute: that would still lead out of the copy.
    pub fn make(mapping: &Path, load: &dyn Fn(&Path) -> Result<Plant, Fault>) -> Result<Self, Fault> {
        let mapping = whole_path(mapping)?;
        let originals = files_of(&mapping, &load(&mapping)?);
        let root = common_folder(&originals);
        let aside = tempfile::tempdir().context("making a folder for the copy of the mapping")?;
        let mut files = Vec::with_capacity(originals.len());
        for original in &originals {
            let name = original.strip_prefix(&root).context(original.display())?.to_owned();
            copy(original, &aside.path().join(&name))?;
            files.push(name);
        }
        let copied = Self { aside, files };
        let plant_file = copied.aside.path().join(copied.plant());
        let plant = load(&plant_file).context("the mapping does not stand without the files around it")?;
        let outside = files_of(&plant_file, &plant).into_iter().find(|file| !file.starts_with(copied.aside.path()));
        match outside {
            None => Ok(copied),
            Some(file) => Err(format!(
                "{}: `{}` is named by an absolute path, to which a copy would still point; write it relative to the mapping",
                mapping.display(),
                file.display()
            )
            .into()),
        }
    }

    /// The plant file, relative to the copy.
    fn plant(&self) -> &Path {
        self.files.first().map_or(Path::new(""), PathBuf::as_path)
    }

    /// Puts the copy into `dir`, where nothing may be in its place, and gives the plant file.
    ///
    /// # Errors
    /// When there is something already, or a file cannot be written.
    pub fn put_into(&self, dir: &Path) -> Result<PathBuf, Fault> {
        let folder = dir.join(FOLDER);
        if folder.exists() {
            return Err(format!("{} exists; nothing was overwritten: name a new folder", folder.display()).into());
        }
        for name in &self.files {
            copy(&self.aside.path().join(name), &folder.join(name))?;
        }
        whole_path(&folder.join(self.plant()))
    }
}

fn copy(from: &Path, to: &Path) -> Result<(), Fault> {
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder).context(format_args!("making {}", folder.display()))?;
    }
    std::fs::copy(from, to).context(format_args!("copying {}", from.display()))?;
    Ok(())
}

/// The folder as the system knows it; the name as it was given, also when it is a link.
fn whole_path(file: &Path) -> Result<PathBuf, Fault> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = folder.canonicalize().context(file.display())?;
    Ok(folder.join(file.file_name().ok_or_else(|| format!("{} is no file", file.display()))?))
}

/// Everything a plant is read from, the plant file first, each once. Recordings of tests that are not there are left out, as
/// the plant runs without them.
fn files_of(mapping: &Path, plant: &Plant) -> Vec<PathBuf> {
    let replayed = plant.devices.iter().filter_map(|device| match &device.endpoint {
        Endpoint::Replay { file } => Some(file),
        _ => None,
    });
    let keys = key_files(plant);
    let recordings = plant.tests.iter().map(|test| &test.readings).filter(|file| file.is_file());
    let mut files = vec![mapping.to_owned()];
    for file in plant.files.iter().chain(replayed).chain(recordings).chain(&keys) {
        let file = without_dots(file);
        if !files.contains(&file) {
            files.push(file);
        }
    }
    files
}

/// Keys and certificates that the mapping names relative to itself. One with an absolute path stays where it is: it is found from everywhere,
/// and keys are not for spreading.
fn key_files(plant: &Plant) -> Vec<PathBuf> {
    let texts: Vec<String> = plant.files.iter().filter_map(|file| std::fs::read_to_string(file).ok()).collect();
    let is_written_so = |file: &Path| texts.iter().any(|text| text.contains(&file.display().to_string()));
    let named = plant.devices.iter().flat_map(|device| {
        let (security, tls) = (&device.security, &device.security.tls);
        let sealed = device.mqtt.sealed.as_ref().map(|sealed| &sealed.key);
        let of_user = [security.user_certificate.as_ref(), security.user_key.as_ref()];
        let of_tls = [tls.ca.as_ref(), tls.certificate.as_ref(), tls.key.as_ref()];
        std::iter::once(sealed).chain(of_user).chain(of_tls).flatten()
    });
    named.filter(|file| file.is_absolute() && file.is_file() && !is_written_so(file)).cloned().collect()
}

/// `/a/plants/../devices/x.yaml` → `/a/devices/x.yaml`.
fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}

/// The deepest folder that holds them all.
fn common_folder(files: &[PathBuf]) -> PathBuf {
    let mut folders = files.iter().filter_map(|file| file.parent());
    let mut common = folders.next().map(Path::to_owned).unwrap_or_default();
    for folder in folders {
        while !folder.starts_with(&common) && common.pop() {}
    }
    common
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: &Path) -> Result<Plant, Fault> {
        tally_mappings::load(file, &|_| None).map_err(|faults| faults.to_string().into())
    }

    const PLANT: &str = "\
plant: line
devices:
  - {id: press, use: press.yaml, connect: \"modbus+tcp://127.0.0.1:1?unit=1\"}
  - {id: lathe, use: ../more/lathe.yaml, connect: \"modbus+tcp://127.0.0.1:1?unit=2\"}
  - id: old
    connect: replay:recordings/old.csv
    points: [{id: level, at: column:level}]
triggers:
  - {id: worn, device: press, when: running}
tests:
  - {readings: ../recordings/press.csv, device: press, expect: []}
  - {readings: gone.csv, device: press, expect: []}
";

    fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
        let file = dir.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
        file
    }

    fn engineering(dir: &Path) -> PathBuf {
        for (name, point) in [("devices/press.yaml", "running"), ("more/lathe.yaml", "turning")] {
            write(dir, name, &format!("sheet: s\npoints: [{{id: {point}, at: coil:1}}]\n"));
        }
        for name in ["plants/recordings/old.csv", "recordings/press.csv"] {
            write(dir, name, "time,level,running\n2026-11-21T00:00:00Z,1,true\n");
        }
        write(dir, "plants/unused.yaml", "not copied");
        write(dir, "plants/line.yaml", PLANT)
    }

    #[test]
    fn the_copy_stands_without_the_original() {
        let (from, site) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mapping = engineering(from.path());
        let copied = MappingCopy::make(&mapping, &load).unwrap();
        let original = load(&mapping).unwrap();
        drop(from);
        let plant_file = copied.put_into(site.path()).unwrap();
        assert!(plant_file.ends_with("mapping/plants/line.yaml"));
        assert_eq!(std::fs::read_to_string(&plant_file).unwrap(), PLANT);
        let plant = load(&plant_file).unwrap();
        assert_eq!((plant.devices.len(), plant.rules.len()), (original.devices.len(), original.rules.len()));
        assert_eq!(plant.warnings.len(), original.warnings.len());
        let here = site.path().canonicalize().unwrap();
        assert!(files_of(&plant_file, &plant).iter().all(|file| file.starts_with(&here)));
        assert_eq!(std::fs::read_dir(plant_file.parent().unwrap()).unwrap().count(), 2, "line.yaml and recordings");
        assert!(copied.put_into(site.path()).unwrap_err().to_string().contains("nothing was overwritten"));
    }

    #[test]
    fn a_path_that_leads_out_of_the_copy_is_refused() {
        let from = tempfile::tempdir().unwrap();
        let mapping = engineering(from.path());
        let sheet = from.path().join("more/lathe.yaml").display().to_string();
        std::fs::write(&mapping, PLANT.replace("../more/lathe.yaml", &sheet)).unwrap();
        let refused = MappingCopy::make(&mapping, &load).err().unwrap().to_string();
        assert!(refused.contains("lathe.yaml") && refused.contains("absolute path"), "{refused}");
    }

    /// A sensor that seals its messages: `key` is where its public key is named.
    fn sealing(dir: &Path, key: &str) -> PathBuf {
        let secret = p256_pem();
        write(dir, "keys/oven.pub.pem", &secret);
        let plant = format!(
            "plant: line\ndevices:\n  - id: oven\n    connect: \"mqtt://127.0.0.1:1883\"\n    mqtt: {{sealed: {{as: jws, key: {key}}}}}\n    \
             points: [{{id: temp, at: \"hall/oven#/temp\", unit: Cel}}]\n"
        );
        write(dir, "plants/line.yaml", &plant)
    }

    fn p256_pem() -> String {
        tally_evidence::SigningKey::from_secret(&[7; 32]).unwrap().public().to_pem().unwrap()
    }

    #[test]
    fn a_sensors_key_goes_along_unless_it_is_named_by_an_absolute_path() {
        let (from, site) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mapping = sealing(from.path(), "../keys/oven.pub.pem");
        let copied = MappingCopy::make(&mapping, &load).unwrap();
        drop(from);
        let plant = load(&copied.put_into(site.path()).unwrap()).unwrap();
        let key = plant.devices[0].mqtt.sealed.as_ref().unwrap().key.clone();
        assert!(key.canonicalize().unwrap().starts_with(site.path().canonicalize().unwrap()), "{}", key.display());
        assert_eq!(std::fs::read_to_string(key).unwrap(), p256_pem());

        let (from, site) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let absolute = from.path().canonicalize().unwrap().join("keys/oven.pub.pem");
        let mapping = sealing(from.path(), &absolute.display().to_string());
        let plant_file = MappingCopy::make(&mapping, &load).unwrap().put_into(site.path()).unwrap();
        assert_eq!(load(&plant_file).unwrap().devices[0].mqtt.sealed.as_ref().unwrap().key, absolute);
    }

    #[test]
    fn folders_in_common() {
        let common = |files: &[&str]| common_folder(&files.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(common(&["/a/b/x"]), Path::new("/a/b"));
        assert_eq!(common(&["/a/b/x", "/a/bc/y"]), Path::new("/a"));
        assert_eq!(common(&["/a/x", "/b/y"]), Path::new("/"));
        assert_eq!(without_dots(Path::new("/a/./b/../c")), Path::new("/a/c"));
    }
}
