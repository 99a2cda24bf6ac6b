//! The picture of a [`Model`], in as many columns as there is room for. Pure.

use ratatui::buffer::Buffer;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Table, Widget, Wrap};

use super::model::{Focus, Model, Reading};
use crate::cli::text::{cell, duration, microseconds, size};
use crate::cli::value::Value;

/// The lines above the lists: who, how much, how fast.
const HEAD_LINES: u16 = 3;

/// The header of a list, and the line above it.
const LIST_LINES: u16 = 2;

/// The most lines that warnings take.
const WARNING_LINES_MAX: u16 = 6;

/// What tells peers apart: all ids begin alike, so it is their end, in characters.
const PEER_END: usize = 8;

/// A column: its header, its width (0 takes what is left), and the least width of the picture that shows it.
struct Column {
    header: &'static str,
    width: u16,
    from: u16,
}

const fn column(header: &'static str, width: u16, from: u16) -> Column {
    Column { header, width, from }
}

const PEERS: [Column; 7] = [
    column("PEER", 10, 0),
    column("ADDRESS", 36, 110),
    column("STATE", 0, 0),
    column("ROUND TRIP", 10, 50),
    column("CONNECTED", 9, 70),
    column("QUEUED", 10, 60),
    column("IN SYNC", 7, 36),
];

const KEYSPACES: [Column; 8] = [
    column("NAME", 0, 0),
    column("KEYS", 10, 0),
    column("KEYS/S", 9, 50),
    column("SIZE", 10, 40),
    column("QUOTA", 10, 90),
    column("AUTHORS", 7, 70),
    column("PEERS", 5, 32),
    column("NOTE", 8, 60),
];

impl Widget for &Model {
    fn render(self, area: Rect, buffer: &mut Buffer) {
        let warnings = warnings(self);
        let warning_lines = if warnings.is_empty() {
            0
        } else {
            let lines = warnings.iter().map(|text| lines(text, area.width)).sum::<u16>();
            lines.saturating_add(1).min(WARNING_LINES_MAX)
        };
        let lists = area.height.saturating_sub(HEAD_LINES + warning_lines + 1);
        let rows = |value: Option<&Value>| {
            value.map_or(0, |value| u16::try_from(value.items().len()).unwrap_or(u16::MAX))
        };
        let reading = self.reading.as_ref();
        let wanted = rows(reading.map(|reading| &reading.peers)).saturating_add(LIST_LINES);
        let peers = wanted.min((lists / 2).max(LIST_LINES + 1));
        let [head, peers, keyspaces, below, foot] = Layout::vertical([
            Constraint::Length(HEAD_LINES),
            Constraint::Length(peers),
            Constraint::Fill(1),
            Constraint::Length(warning_lines),
            Constraint::Length(1),
        ])
        .areas(area);
        Paragraph::new(self.head()).render(head, buffer);
        if let Some(reading) = reading {
            self.list(Focus::Peers, &PEERS, reading, peers, buffer);
            self.list(Focus::Keyspaces, &KEYSPACES, reading, keyspaces, buffer);
        }
        if !warnings.is_empty() {
            let warnings: Vec<Line> = warnings.into_iter().map(Line::from).collect();
            Paragraph::new(warnings)
                .style(Style::new().fg(Color::Yellow))
                .wrap(Wrap { trim: true })
                .block(Block::new().borders(Borders::TOP).title("Warnings"))
                .render(below, buffer);
        }
        let foot_text = if self.is_paused {
            "paused  q quit  space go on"
        } else {
            "q quit  space pause  tab list  up down scroll"
        };
        Paragraph::new(foot_text).style(Style::new().add_modifier(Modifier::DIM)).render(foot, buffer);
    }
}

impl Model {
    /// The lines that show all of it, when it is that wide.
    pub(super) fn lines(&self) -> u16 {
        let items = |value: &Value| u16::try_from(value.items().len()).unwrap_or(u16::MAX);
        let rows = self.reading.as_ref().map_or(0, |reading| {
            // The peers have at most half of what the lists have.
            let (peers, keyspaces) = (items(&reading.peers), items(&reading.keyspaces));
            peers.max(keyspaces).saturating_mul(2)
        });
        rows.saturating_add(HEAD_LINES + 2 * LIST_LINES + WARNING_LINES_MAX + 1)
    }

    fn head(&self) -> Vec<Line<'static>> {
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let Some(reading) = &self.reading else { return vec![Line::styled("waiting for the node", bold)] };
        let status = &reading.status;
        let number = |name: &str| status.field(name).integer().unwrap_or_default();
        let name = if *status.field("name") == Value::Null {
            "tidelock".to_owned()
        } else {
            cell(status.field("name"))
        };
        let online = if *status.field("online") == Value::Boolean(true) { "" } else { "  OFFLINE" };
        let who = format!(
            "{name}  {}  {}  cluster {}  up {}{online}",
            cell(status.field("version")),
            short(&cell(status.field("peer"))),
            cell(status.field("cluster")),
            duration(number("uptime_ms"))
        );
        let much = format!(
            "{} clients  {} keys  log {}  on disk {}",
            reading.info.get("connected_clients").copied().unwrap_or_default(),
            number("keys"),
            size(number("log_bytes")),
            size(number("bytes_on_disk"))
        );
        let rates = self.rates.iter().map(|(name, rate)| format!("{name} {}/s", per_second(*rate)));
        let fast = rates.collect::<Vec<_>>().join("  ");
        vec![Line::styled(who, bold), Line::from(much), Line::from(fast)]
    }

    fn list(&self, focus: Focus, columns: &[Column], reading: &Reading, area: Rect, buffer: &mut Buffer) {
        let (title, items, scrolled) = match focus {
            Focus::Peers => ("Peers", reading.peers.items(), self.peers_scrolled),
            Focus::Keyspaces => ("Keyspaces", reading.keyspaces.items(), self.keyspaces_scrolled),
        };
        let shown: Vec<usize> =
            (0..columns.len()).filter(|index| columns[*index].from <= area.width).collect();
        let widths = shown.iter().map(|index| match columns[*index].width {
            0 => Constraint::Fill(1),
            width => Constraint::Length(width),
        });
        let rows = items.iter().skip(scrolled).map(|item| {
            let cells = match focus {
                Focus::Peers => peer(item).to_vec(),
                Focus::Keyspaces => keyspace(item, self.key_rates.get(&cell(item.field("name")))).to_vec(),
            };
            let cells =
                shown.iter().map(|index| Cell::from(aligned(cells[*index].clone(), &columns[*index])));
            Row::new(cells.collect::<Vec<_>>())
        });
        let header = shown.iter().map(|index| aligned(columns[*index].header.to_owned(), &columns[*index]));
        let header = Row::new(header.collect::<Vec<_>>()).style(Style::new().add_modifier(Modifier::BOLD));
        let style = if self.focus == focus { Modifier::BOLD } else { Modifier::empty() };
        let title = Line::styled(format!("{title} ({})", items.len()), Style::new().add_modifier(style));
        let block = Block::new().borders(Borders::TOP).title(title);
        Widget::render(Table::new(rows, widths).header(header).block(block), area, buffer);
    }
}

/// Numbers are at the right, as are the headers above them.
fn aligned(text: String, column: &Column) -> Line<'static> {
    let is_text = matches!(column.header, "PEER" | "ADDRESS" | "STATE" | "NAME" | "NOTE");
    Line::from(text).alignment(if is_text { Alignment::Left } else { Alignment::Right })
}

/// The cells of [`PEERS`].
fn peer(peer: &Value) -> [String; 7] {
    let known = |name: &str, show: fn(i64) -> String| peer.field(name).integer().map_or("-".to_owned(), show);
    let slow = if *peer.field("slow") == Value::Boolean(true) { ", slow" } else { "" };
    let id =
        if *peer.field("peer") == Value::Null { "-".to_owned() } else { short(&cell(peer.field("peer"))) };
    [
        id,
        cell(peer.field("address")),
        cell(peer.field("state")) + slow,
        known("round_trip_us", microseconds),
        known("connected_ms", duration),
        known("queued_bytes", size),
        format!("{}/{}", cell(peer.field("keyspaces_in_sync")), cell(peer.field("keyspaces"))),
    ]
}

/// The cells of [`KEYSPACES`].
fn keyspace(keyspace: &Value, rate: Option<&f64>) -> [String; 8] {
    let bytes = |name: &str| keyspace.field(name).integer().map_or("-".to_owned(), size);
    let note = if *keyspace.field("diverged") == Value::Boolean(true) {
        "diverged"
    } else if keyspace.field("alone_ms").integer().is_some() {
        "alone"
    } else {
        ""
    };
    [
        cell(keyspace.field("name")),
        cell(keyspace.field("keys")),
        rate.map_or("-".to_owned(), |rate| per_second(*rate)),
        bytes("bytes"),
        bytes("quota"),
        cell(keyspace.field("authors")),
        cell(keyspace.field("peers")),
        note.to_owned(),
    ]
}

/// What went wrong first, then what the node warns of.
fn warnings(model: &Model) -> Vec<String> {
    let warnings = model.reading.iter().flat_map(|reading| reading.status.field("warnings").items());
    model.trouble.iter().cloned().chain(warnings.map(cell)).collect()
}

/// The lines that a text takes when it is wrapped, or one more.
fn lines(text: &str, width: u16) -> u16 {
    let lines = text.chars().count() / usize::from(width.max(1)) + 1;
    u16::try_from(lines).unwrap_or(u16::MAX)
}

fn short(peer: &str) -> String {
    let start = peer.char_indices().rev().nth(PEER_END - 1).map_or(0, |(at, _)| at);
    if start == 0 { peer.to_owned() } else { format!("..{}", &peer[start..]) }
}

/// Few things happen so seldom that a fraction matters.
fn per_second(rate: f64) -> String {
    if rate.abs() < 10.0 && rate != 0.0 { format!("{rate:.1}") } else { format!("{rate:.0}") }
}
