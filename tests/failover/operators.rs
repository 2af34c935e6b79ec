use crate::world::Room;

pub(crate) const ROOM: Room = Room {
    name: "operators",
    own: None,
    scenarios: &[],
};
