//! A token of SoftHSM2 in a folder, for the tests of this crate and of those that stand on it: the real library, which can be pulled
//! out. SoftHSM2 finds its tokens by a file that the setting `SOFTHSM2_CONF` names, so the program under test needs [`SoftToken::environment`].
//!
//! **Pulling.** SoftHSM2 looks at the token's folder before it uses a key. When the folder is gone, `C_SignInit` of an open session fails
//! with `CKR_OBJECT_HANDLE_INVALID` and `C_GetTokenInfo` with `CKR_GENERAL_ERROR`, and stays so when it comes back until the library is
//! initialised anew: a harder case than most hardware, where a new session is enough.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the tests' tokens want to hear.
pub const PIN: &str = "3141592653";
const OFFICER_PIN: &str = "2718281828";
/// Where Debian's package `libsofthsm2` puts its library, from the root or from where it was unpacked.
const LIBRARIES: [&str; 3] = [
    "usr/lib/softhsm/libsofthsm2.so",
    "usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
];

/// The version whose behaviour these tests were written for: what it does when a token is pulled (see above) is no promise of its authors.
const MAJOR: &str = "2.";

/// A token with the label `plant`.
#[derive(Debug)]
pub struct SoftToken {
    folder: PathBuf,
    module: PathBuf,
}

impl SoftToken {
    /// Makes a token below `folder`, and a file with its PIN.
    ///
    /// # Errors
    /// When SoftHSM2 is not installed, which is a fault of the machine and never skipped, or does not work.
    pub fn new(folder: &Path) -> io::Result<Self> {
        let (root, module) = installed()?;
        version_of(&root)?;
        let token = Self { folder: folder.to_owned(), module };
        fs::create_dir_all(token.slots())?;
        let slots = token.slots();
        let settings =
            format!("directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n", slots.display());
        fs::write(token.settings(), settings)?;
        token.write_pin(PIN)?;
        let mut make = Command::new(root.join("usr/bin/softhsm2-util"));
        make.args(["--init-token", "--free", "--label", "plant", "--so-pin", OFFICER_PIN, "--pin", PIN, "--module"]);
        let made = make.arg(&token.module).env("SOFTHSM2_CONF", token.settings()).output()?;
        if made.status.success() {
            return Ok(token);
        }
        Err(io::Error::other(format!("softhsm2-util: {}", String::from_utf8_lossy(&made.stderr))))
    }

    /// The setting that a program needs to see it.
    #[must_use]
    pub fn environment(&self) -> (&'static str, String) {
        ("SOFTHSM2_CONF", self.settings().display().to_string())
    }

    /// The URI of a key in it.
    #[must_use]
    pub fn uri(&self, object: &str) -> String {
        let (module, pin) = (self.module.display(), self.pin_file());
        format!("pkcs11:token=plant;object={object}?module-path={module}&pin-source={}", pin.display())
    }

    /// The file with the PIN.
    #[must_use]
    pub fn pin_file(&self) -> PathBuf {
        self.folder.join("pin")
    }

    /// Writes another PIN into that file.
    ///
    /// # Errors
    /// What the system says.
    pub fn write_pin(&self, pin: &str) -> io::Result<()> {
        fs::write(self.pin_file(), format!("{pin}\n"))?;
        fs::set_permissions(self.pin_file(), std::os::unix::fs::PermissionsExt::from_mode(0o600))
    }

    /// Pulls it out: see above.
    ///
    /// # Errors
    /// When it is not in.
    pub fn pull(&self) -> io::Result<()> {
        fs::rename(self.slots(), self.folder.join("pulled"))?;
        fs::create_dir(self.slots())
    }

    /// Puts it in again.
    ///
    /// # Errors
    /// When it is not out.
    pub fn put_back(&self) -> io::Result<()> {
        fs::remove_dir(self.slots())?;
        fs::rename(self.folder.join("pulled"), self.slots())
    }

    fn slots(&self) -> PathBuf {
        self.folder.join("slots")
    }

    fn settings(&self) -> PathBuf {
        self.folder.join("softhsm2.conf")
    }
}

/// The version of SoftHSM2 that is used, such as `2.6.1`.
///
/// # Errors
/// When it is not installed, or of a version that these tests do not know.
pub fn version() -> io::Result<String> {
    version_of(&installed()?.0)
}

fn version_of(root: &Path) -> io::Result<String> {
    let told = Command::new(root.join("usr/bin/softhsm2-util")).arg("--version").output()?;
    known(String::from_utf8_lossy(&told.stdout).trim())
}

fn known(version: &str) -> io::Result<String> {
    if version.starts_with(MAJOR) {
        return Ok(version.to_owned());
    }
    Err(io::Error::other(format!(
        "SoftHSM2 says that it is version `{version}`; these tests know {MAJOR}x. If keys/tests/softhsm.rs and the \
         rehearsal of a pulled token hold with it, name it in keys/src/testing.rs and xtask/src/tools/softhsm.rs"
    )))
}

/// The root below which SoftHSM2 lies, and its library: the system's, or the packages that `cargo xtask tools` unpacked.
fn installed() -> io::Result<(PathBuf, PathBuf)> {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/softhsm");
    let places = [PathBuf::from("/"), ours];
    let found = places.into_iter().find_map(|root| {
        let module = LIBRARIES.iter().map(|library| root.join(library)).find(|library| library.is_file())?;
        root.join("usr/bin/softhsm2-util").is_file().then_some((root, module))
    });
    found.ok_or_else(|| {
        io::Error::other("SoftHSM2 is missing; run `cargo xtask tools`, or install the package softhsm2")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_nobody_tried_is_not_used() {
        assert_eq!(known("2.6.1").unwrap(), "2.6.1");
        for other in ["3.0.0", "20.1", "", "softhsm2-util: error while loading shared libraries"] {
            let said = known(other).unwrap_err().to_string();
            assert!(said.contains(&format!("`{other}`")) && said.contains("know 2."), "{said}");
        }
    }
}
