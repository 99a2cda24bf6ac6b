//! The password of a node, from where other users of the machine do not see it: a file or the environment, never
//! the command line, which `ps` shows to everybody.

use std::path::Path;

use super::client::ClientError;

/// The variable of the environment that holds the password when no file is named.
pub(super) const PASSWORD_VARIABLE: &str = "TIDELOCK_PASSWORD";

/// The password, if there is one. A line end behind it, as editors leave it, is none of it.
pub(super) fn read(file: Option<&Path>) -> Result<Option<Vec<u8>>, ClientError> {
    let Some(path) = file else {
        let password = std::env::var_os(PASSWORD_VARIABLE).filter(|password| !password.is_empty());
        return Ok(password.map(|password| password.as_encoded_bytes().to_vec()));
    };
    let mut password = std::fs::read(path)
        .map_err(|source| ClientError::PasswordFile { path: path.display().to_string(), source })?;
    if password.ends_with(b"\n") {
        password.pop();
    }
    if password.ends_with(b"\r") {
        password.pop();
    }
    Ok(Some(password))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_is_left_out() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("password");
        for (text, password) in
            [("a b\n", "a b"), ("a", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a ", " a ")]
        {
            std::fs::write(&path, text).expect("the folder is ours");
            assert_eq!(read(Some(&path)).expect("it is there"), Some(password.as_bytes().to_vec()));
        }
        let error = read(Some(&folder.path().join("none"))).expect_err("it is not there");
        assert!(error.to_string().starts_with("the password cannot be read from "), "{error}");
    }
}
