//! Glob patterns as Redis has them: `*`, `?`, `[a-z]`, `[^a]`, and a backslash before anything.
//!
//! Redis's own matcher recurses at every star. This one goes back to the last star only, which suffices, so
//! no pattern costs more than its length times the key's.

/// Whether all of `text` matches.
pub(crate) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Behind the last star, and the text that it stands for up to there.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            star = Some((p, t));
            continue;
        }
        if let Some(next) = step(pattern, p, text[t]) {
            p = next;
            t += 1;
            continue;
        }
        let Some((behind_star, taken)) = star else { return false };
        star = Some((behind_star, taken + 1));
        p = behind_star;
        t = taken + 1;
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// What every match begins with.
pub(super) fn prefix(pattern: &[u8]) -> Vec<u8> {
    let mut prefix = Vec::new();
    let mut bytes = pattern.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'*' | b'?' | b'[' => break,
            b'\\' => prefix.push(*bytes.next().unwrap_or(&b'\\')),
            _ => prefix.push(*byte),
        }
    }
    prefix
}

/// The place in the pattern behind what matches `byte` at `p`, if it does.
fn step(pattern: &[u8], p: usize, byte: u8) -> Option<usize> {
    match *pattern.get(p)? {
        b'?' => Some(p + 1),
        b'[' => class(pattern, p + 1, byte),
        b'\\' if p + 1 < pattern.len() => (pattern[p + 1] == byte).then_some(p + 2),
        literal => (literal == byte).then_some(p + 1),
    }
}

/// As in Redis, a class that is not closed ends with the pattern, and a range may be written backwards.
fn class(pattern: &[u8], mut p: usize, byte: u8) -> Option<usize> {
    let is_negated = pattern.get(p) == Some(&b'^');
    p += usize::from(is_negated);
    let mut is_in = false;
    loop {
        match pattern.get(p..).unwrap_or_default() {
            [] => break,
            [b']', ..] => {
                p += 1;
                break;
            }
            [b'\\', escaped, ..] => {
                is_in |= *escaped == byte;
                p += 2;
            }
            [from, b'-', to, ..] => {
                is_in |= (*from.min(to)..=*from.max(to)).contains(&byte);
                p += 3;
            }
            [literal, ..] => {
                is_in |= *literal == byte;
                p += 1;
            }
        }
    }
    (is_in != is_negated).then_some(p)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_match_as_redis_matches_them() {
        let cases: [(&str, &str, bool); 24] = [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hbllo", true),
            ("h[a-b]llo", "hcllo", false),
            ("h\\*llo", "h*llo", true),
            ("h\\*llo", "hello", false),
            ("[\\]]", "]", true),
            ("[abc", "c", true),
            ("[abc", "d", false),
            ("a\\", "a\\", true),
            ("*a*b*c", "xaybzc", true),
            ("*a*b*c", "xaybz", false),
            ("user:*:name", "user:1:2:name", true),
            ("[", "a", false),
            ("a**", "a", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn prefix_ends_before_the_first_special_byte() {
        let cases: [(&str, &str); 5] =
            [("user:*", "user:"), ("a\\*b?", "a*b"), ("[a]", ""), ("plain", "plain"), ("a\\", "a\\")];
        for (pattern, expected) in cases {
            assert_eq!(prefix(pattern.as_bytes()), expected.as_bytes(), "{pattern}");
        }
    }

    #[test]
    fn many_stars_cost_no_more_than_length_times_length() {
        let pattern = "*a".repeat(500);
        assert!(!matches(pattern.as_bytes(), "a".repeat(100_000).replace('a', "b").as_bytes()));
        assert!(!matches((pattern + "c").as_bytes(), "a".repeat(20_000).as_bytes()));
    }

    proptest! {
        #[test]
        fn escaped_text_matches_itself_only(text in prop::collection::vec(any::<u8>(), 0..12), other in prop::collection::vec(any::<u8>(), 0..12)) {
            let pattern: Vec<u8> = text.iter().flat_map(|byte| [b'\\', *byte]).collect();
            prop_assert!(matches(&pattern, &text));
            prop_assert_eq!(matches(&pattern, &other), text == other);
            prop_assert_eq!(prefix(&pattern), text);
        }

        #[test]
        fn matches_begin_with_the_prefix(pattern in "[ab*?\\\\\\[\\]^-]{0,8}", text in "[ab\\[\\]]{0,8}") {
            if matches(pattern.as_bytes(), text.as_bytes()) {
                prop_assert!(text.as_bytes().starts_with(&prefix(pattern.as_bytes())));
            }
        }

        #[test]
        fn going_back_to_the_last_star_finds_what_full_search_finds(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
            fn search(pattern: &[u8], text: &[u8]) -> bool {
                match (pattern, text) {
                    ([], []) => true,
                    ([b'*', rest @ ..], _) => (0..=text.len()).any(|taken| search(rest, &text[taken..])),
                    ([b'?', rest @ ..], [_, text @ ..]) => search(rest, text),
                    ([byte, rest @ ..], [first, text @ ..]) => byte == first && search(rest, text),
                    _ => false,
                }
            }
            prop_assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), search(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
