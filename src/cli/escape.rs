//! Bytes as text that is safe to show: what a peer wrote must not steer a terminal.

/// Text stays as it is; bytes that are not UTF-8 become `\xff`, control characters `\n`, `\u{1b}` and the like.
pub(crate) fn line(bytes: &[u8]) -> String {
    escape(bytes, |_| false)
}

/// As [`line`], but line ends and tabs stay too.
pub(super) fn lines(bytes: &[u8]) -> String {
    escape(bytes, |c| matches!(c, '\n' | '\t'))
}

fn escape(bytes: &[u8], stays: impl Fn(char) -> bool) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() && !stays(c) {
                text.extend(c.escape_debug());
            } else {
                text.push(c);
            }
        }
        text.push_str(&chunk.invalid().escape_ascii().to_string());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_text_is_escaped() {
        assert_eq!(line("grün \u{1b}[31m\n".as_bytes()), "grün \\u{1b}[31m\\n");
        assert_eq!(lines(b"a\n\tb\x00\xff"), "a\n\tb\\0\\xff");
    }
}
