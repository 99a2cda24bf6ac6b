//! `top`: a node on the terminal, as it changes. What is known is in [`model`], how it looks in [`view`]; here are the
//! terminal, the keys and the connection.

mod model;
#[cfg(test)]
mod tests;
mod view;

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use model::{Key, Model, Reading};
use ratatui::DefaultTerminal;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::Rect;
use ratatui::widgets::Widget;
use tokio::signal::unix::{SignalKind, signal};

use super::client::{Client, ClientError};
use super::client_args::{NodeArgs, TopArgs};
use super::commands::print;

/// How soon what was read is shown, and a key is felt.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The width of what is printed where there is no terminal, in characters.
const PLAIN_WIDTH: u16 = 120;

/// Shows a node until it is left, or prints it once.
pub(super) fn top(args: &TopArgs, out: &mut dyn Write) -> Result<(), ClientError> {
    let every = Duration::from_secs(args.every);
    if args.once || args.node.json || !io::stdout().is_terminal() {
        return print_once(&args.node, every, out);
    }
    // A node that is not there is told before the terminal is taken over.
    drop(Client::connect(&args.node)?);
    let readings = read(args.node.clone(), every);
    let is_ended = end_by_signal().map_err(ClientError::Print)?;
    // From here on a panic restores the terminal before it is told.
    let mut terminal = ratatui::try_init().map_err(ClientError::Print)?;
    let shown = show(&mut terminal, &readings, &is_ended);
    ratatui::restore();
    shown.map_err(ClientError::Print)
}

/// Whoever ends the program by a signal gets back the terminal, as one who leaves it by a key.
fn end_by_signal() -> io::Result<Arc<AtomicBool>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let signals = {
        let _entered = runtime.enter();
        [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt()].map(signal)
    };
    let [terminate, hangup, interrupt] = signals;
    let (mut terminate, mut hangup, mut interrupt) = (terminate?, hangup?, interrupt?);
    let is_ended = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&is_ended);
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        told.store(true, Ordering::Relaxed);
    });
    Ok(is_ended)
}

/// Two reads, since rates are what is between them.
fn print_once(node: &NodeArgs, every: Duration, out: &mut dyn Write) -> Result<(), ClientError> {
    let (mut client, started, mut model) = (Client::connect(node)?, Instant::now(), Model::default());
    model.take(Ok(Reading::ask(&mut client, started.elapsed())?));
    thread::sleep(every);
    model.take(Ok(Reading::ask(&mut client, started.elapsed())?));
    if node.json {
        return print(out, &format!("{}\n", model.json()));
    }
    print(out, &plain(&model, PLAIN_WIDTH, model.lines()))
}

/// The picture without its styles, and without the empty lines in it.
fn plain(model: &Model, width: u16, height: u16) -> String {
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    model.render(area, &mut buffer);
    let lines = buffer.content.chunks(usize::from(width)).map(|cells| {
        let line: String = cells.iter().map(ratatui::buffer::Cell::symbol).collect();
        line.trim_end().to_owned()
    });
    let mut lines: Vec<String> = lines.filter(|line| !line.is_empty()).collect();
    // The last line tells the keys, which do nothing here.
    lines.pop();
    lines.join("\n") + "\n"
}

/// Reads the node again and again, in a thread that ends when nobody takes what it reads.
fn read(node: NodeArgs, every: Duration) -> Receiver<Result<Reading, String>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let started = Instant::now();
        let mut client: Option<Client> = None;
        loop {
            let read = match client.take() {
                Some(connected) => Ok(connected),
                None => Client::connect_quietly(&node),
            };
            let read = read.and_then(|mut connected| {
                let reading = Reading::ask(&mut connected, started.elapsed())?;
                client = Some(connected);
                Ok(reading)
            });
            if sender.send(read.map_err(|error| error.to_string())).is_err() {
                return;
            }
            thread::sleep(every);
        }
    });
    receiver
}

fn show(
    terminal: &mut DefaultTerminal,
    readings: &Receiver<Result<Reading, String>>,
    is_ended: &AtomicBool,
) -> io::Result<()> {
    let mut model = Model::default();
    while !is_ended.load(Ordering::Relaxed) {
        readings.try_iter().for_each(|read| model.take(read));
        terminal.draw(|frame| frame.render_widget(&model, frame.area()))?;
        if !event::poll(LOOK_EVERY)? {
            continue;
        }
        match event::read()? {
            Event::Key(key) if is_end(key) => return Ok(()),
            Event::Key(key) => meaning(key).into_iter().for_each(|key| model.press(key)),
            _ => {}
        }
    }
    Ok(())
}

/// A terminal that hands over every key hands over the interrupt, too.
fn is_end(key: KeyEvent) -> bool {
    let is_interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    is_interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc)
}

fn meaning(key: KeyEvent) -> Option<Key> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    match key.code {
        KeyCode::Char(' ') => Some(Key::Pause),
        KeyCode::Tab => Some(Key::Switch),
        KeyCode::Up | KeyCode::Char('k') => Some(Key::Up),
        KeyCode::Down | KeyCode::Char('j') => Some(Key::Down),
        _ => None,
    }
}
