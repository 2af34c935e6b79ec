use crate::world::Room;

pub(crate) const ROOM: Room = Room {
    name: "freezes",
    own: None,
    scenarios: &[],
};
