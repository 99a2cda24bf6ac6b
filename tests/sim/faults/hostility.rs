//! Members that mean harm: one or two, and what they do adds up.

use crate::hostile::Behaviour;
use crate::world::World;

/// The hostile members of a world at most.
const HOSTILE_MAX: usize = 2;

/// A member begins to do something that it should not. What it does is counted when it does it.
pub(super) fn turn(world: &mut World, behaviour: Behaviour) {
    let members = world.hostile_members();
    let is_new = members.is_empty() || (members.len() < HOSTILE_MAX && world.random.chance(300));
    if is_new {
        world.add_hostile(&format!("mallory-{}", world.nodes().len()), &[behaviour]);
    } else {
        let index = *world.random.pick(&members);
        world.turn_to(index, behaviour);
    }
}
