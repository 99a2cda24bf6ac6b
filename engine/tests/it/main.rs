//! The engine from outside: laws, traces that break naive rules, golden bytes, frames carried by hand.

mod anchors;
mod batches;
mod collections;
mod commands;
mod decisions;
mod decoders;
mod divergence;
mod edits;
mod expiry;
mod golden;
mod hostile_authors;
mod hostile_frames;
mod hostile_messages;
mod laws;
mod messages;
mod oracle;
mod order;
mod outcomes;
mod replies;
mod retirement;
mod sorted;
mod specification;
mod strong;
mod strong_requests;
mod traces;
mod world;
