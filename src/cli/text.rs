//! Answers as text for people.

use super::escape;
use super::table::Table;
use super::value::Value;

/// How an answer is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// As it is.
    Plain,
    /// As its form suggests.
    Any,
    /// One item a line.
    Lines,
    /// One field a line, then its value.
    Pairs,
    /// The peer that is connected.
    Connected,
    Status,
    Peers,
    Anchors,
    Keyspaces,
    Outbox,
    Replicas,
    Entry,
    /// The rows of an entry.
    Rows,
}

/// Terminal styles, or none where they are not wanted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Style {
    pub(super) header: Option<&'static str>,
    pub(super) warning: Option<&'static str>,
}

impl Style {
    pub(super) const COLOURED: Self = Self { header: Some("1"), warning: Some("33") };

    fn warning(self, text: &str) -> String {
        self.warning.map_or_else(|| text.to_owned(), |style| format!("\x1b[{style}m{text}\x1b[0m"))
    }
}

/// The text of an answer, with the end of its last line.
pub(super) fn of(value: &Value, view: View, style: Style) -> String {
    match view {
        View::Plain => match value {
            Value::Bytes(bytes) => escape::lines(bytes) + "\n",
            other => cell(other) + "\n",
        },
        View::Any => {
            let view = match value {
                Value::List(_) => View::Lines,
                Value::Map(_) => View::Pairs,
                _ => View::Plain,
            };
            of(value, view, style)
        }
        View::Connected => format!("connected to {}\n", cell(value)),
        View::Lines => value.items().iter().map(|item| cell(item) + "\n").collect(),
        View::Pairs => {
            let mut table = Table::new(["", ""]);
            for (field, value) in value.pairs() {
                table.row([cell(field), cell(value)]);
            }
            table.to_string()
        }
        View::Status => status(value, style),
        View::Peers => peers(value, style),
        View::Anchors if value.items().is_empty() => {
            "no anchors; `tidelock run --found` makes the first\n".to_owned()
        }
        View::Anchors => anchors(value, style),
        View::Keyspaces => keyspaces(value, style),
        View::Outbox => outbox(value, style),
        View::Replicas => replicas(value, style),
        View::Entry => {
            let mut table = Table::new(["", ""]);
            for name in ["kind", "value"] {
                table.row([name.to_owned(), cell(value.field(name))]);
            }
            let more = if *value.field("truncated") == Value::Boolean(true) { "... and more\n" } else { "" };
            format!("{table}\n{}{more}", rows(value.field("rows").items(), style))
        }
        View::Rows if value.items().is_empty() => "no conflicts\n".to_owned(),
        View::Rows => rows(value.items(), style),
    }
}

/// A value within one line.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "(nil)".to_owned(),
        Value::Integer(number) => number.to_string(),
        Value::Boolean(is) => if *is { "yes" } else { "no" }.to_owned(),
        Value::Double(number) => number.to_string(),
        Value::Word(word) => escape::line(word.as_bytes()),
        Value::Bytes(bytes) => escape::line(bytes),
        Value::List(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        Value::Map(pairs) => {
            let pair = |(key, value): &(Value, Value)| format!("{}={}", cell(key), cell(value));
            pairs.iter().map(pair).collect::<Vec<_>>().join(", ")
        }
    }
}

fn status(value: &Value, style: Style) -> String {
    let mut table = Table::new(["", ""]);
    for (name, field) in value.pairs() {
        let name = cell(name);
        match (name.as_str(), field) {
            ("warnings" | "counters" | "log_kept_for", _) => {}
            ("not_ready", reasons) => {
                let ready = if reasons.items().is_empty() {
                    "yes".to_owned()
                } else {
                    format!("no: {}", cell(reasons))
                };
                table.row(["ready".to_owned(), ready]);
            }
            ("uptime_ms", Value::Integer(ms)) => table.row(["uptime".to_owned(), duration(*ms)]),
            ("bytes_on_disk", Value::Integer(bytes)) => table.row(["on_disk".to_owned(), size(*bytes)]),
            ("log_bytes", Value::Integer(bytes)) => table.row(["log".to_owned(), size(*bytes)]),
            ("log_age_ms", Value::Integer(ms)) => table.row(["log_age".to_owned(), duration(*ms)]),
            ("log_kept", _) => table.row([name, kept(value)]),
            (_, field) => table.row([name, cell(field)]),
        }
    }
    for (name, count) in value.field("counters").pairs() {
        table.row([cell(name), cell(count)]);
    }
    let mut text = table.to_string();
    for warning in value.field("warnings").items() {
        text += &style.warning(&format!("warning: {}", cell(warning)));
        text.push('\n');
    }
    text
}

/// Why the oldest record of the log is kept.
fn kept(status: &Value) -> String {
    let Value::Bytes(word) = status.field("log_kept") else { return "by nothing".to_owned() };
    match word.as_slice() {
        b"young" => "it is not old enough to go".to_owned(),
        b"peer" => format!("for peer {}, which does not have it", cell(status.field("log_kept_for"))),
        b"alone" => "no peer is known to have it".to_owned(),
        b"read" => "a peer that takes over state reads it".to_owned(),
        other => escape::line(other),
    }
}

fn peers(value: &Value, style: Style) -> String {
    let header = ["PEER", "ADDRESS", "STATE", "ROUND TRIP", "CONNECTED", "QUEUED", "IN SYNC"];
    let mut table = Table::new(header).with_header_style(style.header);
    for peer in value.items() {
        let or_dash =
            |name: &str, show: fn(i64) -> String| peer.field(name).integer().map_or("-".to_owned(), show);
        let slow = if *peer.field("slow") == Value::Boolean(true) { ", slow" } else { "" };
        let id = if *peer.field("peer") == Value::Null { "-".to_owned() } else { cell(peer.field("peer")) };
        table.row([
            id,
            cell(peer.field("address")),
            cell(peer.field("state")) + slow,
            or_dash("round_trip_us", microseconds),
            or_dash("connected_ms", duration),
            or_dash("queued_bytes", size),
            format!("{}/{}", cell(peer.field("keyspaces_in_sync")), cell(peer.field("keyspaces"))),
        ]);
    }
    table.to_string()
}

fn anchors(value: &Value, style: Style) -> String {
    let header = ["NUMBER", "PEER", "ADDRESSES", "ROLE", "EXACT", "CONNECTED"];
    let mut table = Table::new(header).with_header_style(style.header);
    for anchor in value.items() {
        let is = |name: &str| *anchor.field(name) == Value::Boolean(true);
        let role = match (is("leads"), is("votes")) {
            (true, _) => "leader",
            (false, true) => "voter",
            (false, false) => "learner",
        };
        let heard = anchor
            .field("heard_ms")
            .integer()
            .map_or("no".to_owned(), |ms| format!("no, for {}", duration(ms)));
        table.row([
            cell(anchor.field("anchor")),
            cell(anchor.field("peer")),
            cell(anchor.field("addresses")),
            role.to_owned(),
            cell(anchor.field("exact")),
            if is("connected") { "yes".to_owned() } else { heard },
        ]);
    }
    table.to_string()
}

fn keyspaces(value: &Value, style: Style) -> String {
    let header = ["NAME", "MODE", "KEYS", "SIZE", "QUOTA", "CONDITIONAL", "AUTHORS", "PEERS", "FINGERPRINT"];
    let mut table = Table::new(header).with_header_style(style.header);
    let mut warnings = String::new();
    for keyspace in value.items() {
        let bytes = |name: &str| keyspace.field(name).integer().map_or("-".to_owned(), size);
        let named = |name: &str| cell(keyspace.field(name));
        let cells = [named("name"), named("mode"), named("keys"), bytes("bytes"), bytes("quota")];
        let cells: Vec<String> =
            cells.into_iter().chain([named("conditional"), named("authors"), named("peers")]).collect();
        let fingerprint: String =
            cell(keyspace.field("fingerprint")).chars().take(SHOWN_FINGERPRINT).collect();
        if *keyspace.field("diverged") == Value::Boolean(true) {
            let text = format!("warning: {} differs from a peer that has applied the same writes", cells[0]);
            warnings += &style.warning(&text);
            warnings.push('\n');
        }
        if let Some(ms) = keyspace.field("alone_ms").integer() {
            let text = format!("warning: no connected peer replicates {}, for {}", cells[0], duration(ms));
            warnings += &style.warning(&text);
            warnings.push('\n');
        }
        table.row(cells.into_iter().chain([fingerprint]));
    }
    table.to_string() + &warnings
}

fn outbox(value: &Value, style: Style) -> String {
    let header = ["AUTHOR", "SEQ", "EPOCH", "TIME", "OPERATION", "KEY", "ARGUMENTS"];
    let mut table = Table::new(header).with_header_style(style.header);
    let first = value.field("first").items();
    for operation in first {
        let named = |name: &str| cell(operation.field(name));
        table.row(["author", "seq", "epoch", "unix_ms", "operation", "key", "arguments"].map(named));
    }
    let listed = i64::try_from(first.len()).unwrap_or(i64::MAX);
    match value.field("operations").integer() {
        Some(0) => "the outbox is empty\n".to_owned(),
        Some(count) if count > listed => format!("{table}... and {} more\n", count - listed),
        _ => table.to_string(),
    }
}

fn replicas(value: &Value, style: Style) -> String {
    let header = ["REPLICA", "PEER", "SEEN", "KEYSPACE", "SEQ", "RETIRED"];
    let mut table = Table::new(header).with_header_style(style.header);
    let is = |value: &Value| *value == Value::Boolean(true);
    for replica in value.items() {
        let seen = match replica.field("seen_ms").integer() {
            _ if is(replica.field("own")) => "this node".to_owned(),
            _ if is(replica.field("connected")) => "connected".to_owned(),
            Some(ms) => format!("{} ago", duration(ms)),
            None => "-".to_owned(),
        };
        let peer =
            if *replica.field("peer") == Value::Null { "-".to_owned() } else { cell(replica.field("peer")) };
        let first = [cell(replica.field("replica")), peer, seen];
        let keyspaces = replica.field("keyspaces").items();
        if keyspaces.is_empty() {
            table.row(first.iter().cloned().chain(["-", "0", "no"].map(str::to_owned)));
        }
        for keyspace in keyspaces {
            let retired = keyspace.field("retired");
            let has_more = keyspace.field("seq").integer() > retired.field("last").integer();
            let retired = match retired.field("unix_ms").integer() {
                None => "no".to_owned(),
                Some(ms) if has_more => format!("{}, but it has written since", utc(ms)),
                Some(ms) => utc(ms),
            };
            let rest = [cell(keyspace.field("name")), cell(keyspace.field("seq")), retired];
            table.row(first.iter().cloned().chain(rest));
        }
    }
    table.to_string()
}

/// As much of a fingerprint as tells keyspaces apart at a glance, in characters.
const SHOWN_FINGERPRINT: usize = 16;

/// As much of a replica's name, in characters.
const SHOWN_AUTHOR: usize = 8;

fn rows(rows: &[Value], style: Style) -> String {
    let mut table = Table::new(["KIND", "SUBKEY", "VALUE", "AUTHOR", "SEQ", "WRITTEN", "VISIBLE"])
        .with_header_style(style.header);
    for row in rows {
        let author: String = cell(row.field("author")).chars().take(SHOWN_AUTHOR).collect();
        let value = match (row.field("value"), row.field("slot")) {
            (Value::Null, Value::Null) => String::new(),
            (Value::Null, slot) => cell(slot),
            (value, _) => cell(value),
        };
        table.row([
            cell(row.field("kind")),
            cell(row.field("subkey")),
            value,
            author,
            cell(row.field("seq")),
            row.field("unix_ms").integer().map_or(String::new(), utc),
            cell(row.field("visible")),
        ]);
    }
    table.to_string()
}

/// The two largest units of a duration, as `1d 2h`.
pub(super) fn duration(ms: i64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let mut rest = ms;
    let mut shown = Vec::new();
    for (length, unit) in units {
        if rest >= length || (unit == "s" && shown.is_empty()) {
            shown.push(format!("{}{unit}", rest / length));
        }
        rest %= length;
    }
    shown.truncate(2);
    shown.join(" ")
}

pub(super) fn microseconds(us: i64) -> String {
    format!("{}.{:01} ms", us / 1_000, us % 1_000 / 100)
}

pub(super) fn size(bytes: i64) -> String {
    let (mut whole, mut tenths) = (bytes, 0);
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    while whole >= 1024
        && let Some(next) = units.next()
    {
        (tenths, whole, unit) = (whole % 1024 * 10 / 1024, whole / 1024, next);
    }
    if unit == "B" { format!("{whole} B") } else { format!("{whole}.{tenths} {unit}") }
}

/// A moment as `2027-01-15 08:00:00Z`. Source: Howard Hinnant, "chrono-compatible low-level date algorithms".
fn utc(unix_ms: i64) -> String {
    let (days, seconds) = (unix_ms.div_euclid(86_400_000), unix_ms.rem_euclid(86_400_000) / 1_000);
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_sizes_and_moments_are_readable() {
        let durations = [0, 999, 61_000, 3_600_000, 90_061_001].map(duration);
        assert_eq!(durations, ["0s", "0s", "1m 1s", "1h", "1d 1h"]);
        let sizes = [0, 1023, 1024, 1_600_000, i64::MAX].map(size);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "8388607.9 TiB"]);
        let moments = [0, 951_782_399_999, 1_800_000_000_000].map(utc);
        assert_eq!(moments, ["1970-01-01 00:00:00Z", "2000-02-28 23:59:59Z", "2027-01-15 08:00:00Z"]);
        assert_eq!(microseconds(1_234), "1.2 ms");
    }
}
