//! Faults of clocks: jumps of seconds to decades, and clocks that stand still.

use super::somebody;
use crate::world::World;

/// A second, an hour, a year and ten of them, in milliseconds.
const JUMPS_MS: [i64; 5] = [1_000, 60_000, 3_600_000, 31_536_000_000, 315_360_000_000];

pub(super) fn jump(world: &mut World) -> Option<()> {
    let index = somebody(world)?;
    let jump = *world.random.pick(&JUMPS_MS);
    let jump = jump * i64::try_from(world.random.between(1, 9)).expect("small") / 3;
    let ahead = if world.random.chance(500) { jump } else { -jump };
    let name = world.nodes[index].name.clone();
    // Some jump back.
    let is_right_again = world.random.chance(300);
    world.set_clock(&name, if is_right_again { 0 } else { ahead });
    Some(())
}

pub(super) fn freeze(world: &mut World) -> Option<()> {
    let index = somebody(world)?;
    let name = world.nodes[index].name.clone();
    world.freeze_clock(&name, true);
    let lasts = world.random.between(1_000_000, 20_000_000);
    world.after(lasts, move |world| world.nodes[index].clock.frozen_ms = None);
    Some(())
}
